"""What lies in folders; nothing is left out in silence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mrharmony.core.findings import Finding, error
from mrharmony.core.pointers import link_to_itself

DICOM_INSTEAD = "one of DICOM files alone is for `mrharmony prepare` or `mrharmony harmonize`."
IN_A_COPY = "in a copy of the data set (`cp -rs` makes one of links)"


def entries_of(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; `OSError` where it cannot be listed, or not be entered."""
    os.stat(f"{folder}/.")  # noqa: PTH116 - a `Path` drops the dot, which needs the permission to enter
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries)


def is_kind(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a path is a file or a folder, by a function of `stat`; False where we are not let to see it."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def closed_folder(name: Path | str, failure: OSError) -> Finding:
    """Return the finding for a folder that the operating system does not let us list or enter."""
    if loop := link_to_itself(Path(os.fsdecode(failure.filename or ""))):
        return error(
            "closed-folder",
            f"The folder {name} cannot be listed: {loop} is a link that leads to itself.",
            "Name the folder that it stands for.",
        )
    return error(
        "closed-folder",
        f"The folder {name} cannot be listed ({failure.strerror}), so that its scans are not known.",
        "Ask its owner for permission to list and enter it.",
    )
