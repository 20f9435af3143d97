"""What lies in folders, where files are not here, and the words for both; nothing is left out in silence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from mrharmony.core.findings import Finding, error

FETCH = "Fetch the content first (`datalad get` or `git lfs pull`)."
IN_A_COPY = "in a copy of the data set (`cp -rs` makes one of links)"
_POINTER = re.compile(rb"version https://git-lfs|(/|(\.\.[/\\])*\.git[/\\])annex[/\\]")
_POINTER_BYTES = 64


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
    return error(
        "closed-folder",
        f"The folder {name} cannot be listed ({failure.strerror}), so that its scans are not known.",
        "Ask its owner for permission to list and enter it.",
    )


def is_pointer(start: bytes) -> bool:
    """Whether a file that starts so is a git-annex or Git LFS pointer instead of its content."""
    return _POINTER.match(start) is not None


def content_missing(path: Path) -> bool:
    """Whether a git-annex or Git LFS pointer, or a link to nothing, is all that is here of a file."""
    try:
        with path.open("rb") as stream:
            return is_pointer(stream.read(_POINTER_BYTES))
    except FileNotFoundError:
        return path.is_symlink()
    except (OSError, ValueError):  # a name that no file can have
        return False
