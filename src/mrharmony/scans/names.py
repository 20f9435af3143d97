"""File names of scans: which endings are read, and what the outputs are called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mrharmony.core.findings import MrharmonyError

MGH_SUFFIXES = (".mgh", ".mgz")
COMPRESSED_SUFFIXES = (".nii.gz", ".mgz")
SCAN_SUFFIXES = (".nii", ".nii.gz", *MGH_SUFFIXES)


def scan_suffix(path: Path | str) -> str | None:
    """Return which of `SCAN_SUFFIXES` ends the file name (in any case), or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SCAN_SUFFIXES if name.endswith(suffix)), None)


def scan_stem(path: Path | str) -> str:
    """Return the file name without its scan suffix: `sub-01_T1w.nii.gz` is `sub-01_T1w`."""
    name = Path(path).name
    return name[: len(name) - len(scan_suffix(path) or "")]


def sidecar_path(image: Path) -> Path:
    """Return the path of an image's JSON sidecar: beside it, under the same stem."""
    return image.with_name(f"{scan_stem(image)}.json")


def output_stem(path: Path | str) -> str:
    """Return what the names of a scan's outputs start with: `sub-01_T1w.nii.gz` gives `sub-01`."""
    return scan_stem(path).removesuffix("_T1w")


def find_scans(paths: Iterable[Path]) -> list[Path]:
    """Return the files, and each folder's scans, sorted; raises `MrharmonyError` where a folder has none."""
    scans: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if scan_suffix(file))
            if not inside:
                raise MrharmonyError(
                    f"{path}: no scans in this folder. Name a folder with .nii.gz or .mgz files."
                )
            scans += inside
        else:
            scans.append(path)
    return scans


def way_to(path: Path, folder: Path) -> str:
    """Return the relative path from a folder to a file, with `/`; links to the file itself are kept."""
    real = Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()
