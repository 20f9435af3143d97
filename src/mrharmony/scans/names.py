"""File names: which endings of scans are read, what the outputs are called, and safe names for anything."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import string
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.scans.folders import DICOM_INSTEAD, is_kind

T1W_SUFFIXES = ("T1w", "UNIT1")  # of BIDS: UNIT1 is the T1w image of MP2RAGE
MGH_SUFFIXES = (".mgh", ".mgz")
COMPRESSED_SUFFIXES = (".nii.gz", ".mgz")
SCAN_SUFFIXES = (".nii", ".nii.gz", *MGH_SUFFIXES)

_NO_DISK = frozenset({"/dev", "/proc", "/sys"})  # what the operating system tells of itself

DESCRIPTION = "dataset_description.json"  # what BIDS has at the top of a data set, and of derivatives
BIDS_VERSION = "1.11.1"  # that what is written follows
_DERIVATIVES = "derivatives"  # a data set's folder of what was made of its scans
_MAP_SUFFIXES = frozenset({"mask", "dseg", "probseg", "stdmap", "biasfield"})

LONGEST_NAME = 180  # bytes of a safe name: with an ending it keeps within the 255 of file systems
_KEPT_BYTES = 120  # of a longer one, before its hash
_KEPT = frozenset(string.ascii_letters + string.digits + string.punctuation + " ") - frozenset('<>:"/\\|?*%')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def scan_suffix(path: Path | str) -> str | None:
    """Return which of `SCAN_SUFFIXES` ends the file name (in any case), or None."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SCAN_SUFFIXES if name.endswith(suffix)), None)


def scan_stem(path: Path | str) -> str:
    """Return the file name without its scan suffix: `sub-01_T1w.nii.gz` is `sub-01_T1w`."""
    name = Path(path).name
    return name[: len(name) - len(scan_suffix(path) or "")]


def entities(stem: str) -> frozenset[str]:
    """Return the entities of a BIDS file name without its suffix: `sub-01_T1w` has `{sub-01}`."""
    return frozenset(stem.split("_")[:-1])


def sidecar_path(image: Path) -> Path:
    """Return the path of an image's JSON sidecar: beside it, under the same stem."""
    return image.parent / f"{scan_stem(image)}.json"


def output_stem(path: Path | str) -> str:
    """Return what the names of a scan's outputs start with: `sub-01_T1w.nii.gz` gives `sub-01`.

    So does `sub-01_UNIT1.nii.gz`: their outputs are T1w images, of which a data set has one or the other.
    """
    stem = scan_stem(path)
    ending = next((f"_{suffix}" for suffix in T1W_SUFFIXES if stem.endswith(f"_{suffix}")), "")
    return stem.removesuffix(ending)


def file_name(name: str) -> str:
    """Return a name, such as a site's, as one part of a path that every file system takes.

    Different names stay different, but some disks take upper and lower case for the same: who names files so
    compares them without case. Usual names stay as they are; in others characters become `%` and their
    hexadecimal bytes, and what is too long ends in a hash.
    """
    plain = unicodedata.is_normalized("NFC", name)
    parts = [character if _is_kept(character, plain) else _escaped(character) for character in name]
    if name and name[0] in " .-":
        parts[0] = _escaped(name[0])
    if name and name[-1] in " .":
        parts[-1] = _escaped(name[-1])
    if _RESERVED.fullmatch(name):
        parts[0] = _escaped(name[0])
    safe = "".join(parts) or "%"
    return safe if len(safe.encode()) <= LONGEST_NAME else _shortened(parts, name)


def _is_kept(character: str, plain: bool) -> bool:
    return character in _KEPT or (plain and not character.isascii() and character.isalnum())


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _shortened(parts: Iterable[str], name: str) -> str:
    """Return the start of a safe name, and the hash of the name after `%-`, which nothing else contains."""
    start, size = "", 0
    for part in parts:
        size += len(part.encode())
        if size > _KEPT_BYTES:
            break
        start += part
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{start}%-{digest[:32]}"


class FoundScans(NamedTuple):
    """What a search has found."""

    scans: list[Path]
    left_out: list[Path]  # by BIDS no scans: folders of derivatives, and files of label maps and masks


def find_scans(paths: Iterable[Path]) -> FoundScans:
    """Return the files, and each folder's scans, sorted; raises `MrharmonyError` where a folder has none.

    Folders in there that cannot be listed are among them, to be refused as such, and so are the voxels of
    images in two files. What is given itself is never left out.
    """
    scans: list[Path] = []
    left_out: list[Path] = []
    for path in paths:
        if is_kind(path, stat.S_ISDIR):
            inside = _scans_below(path)
            if not inside.scans:
                only = " but derivatives, label maps or masks" if inside.left_out else ""
                raise MrharmonyError(
                    f"{path}: no scans in this folder{only}. Name a folder with .nii.gz or .mgz files; "
                    f"{DICOM_INSTEAD}"
                )
            scans += sorted(inside.scans)
            left_out += sorted(inside.left_out)
        else:
            scans.append(path)
    return FoundScans(scans, left_out)


def way_to(path: Path, folder: Path) -> str:
    """Return the relative path from a folder to a file, with `/`; links to the file itself are kept."""
    real = Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()


def _is_split(name: str, files: Collection[str]) -> bool:
    """Whether a file holds the voxels of an image whose header lies beside it, as Analyze has them."""
    voxels = re.fullmatch(r"(.+)\.img(\.gz)?", name, re.IGNORECASE | re.DOTALL)
    return voxels is not None and any(voxels[1] + ending in files for ending in (".hdr", ".HDR", ".hdr.gz"))


def _is_map(name: str) -> bool:
    """Whether BIDS says by the file's name that it holds labels, a mask or figures of voxels."""
    return scan_stem(name).rpartition("_")[2] in _MAP_SUFFIXES


def _scans_below(top: Path) -> FoundScans:
    closed: list[OSError] = []
    scans: list[Path] = []
    left_out: list[Path] = []
    for folder, folders, files in track(os.walk(top, onerror=closed.append), f"searching folders of {top}"):
        left_out += [Path(folder, name) for name in folders if name == _DERIVATIVES]
        folders[:] = [
            name
            for name in folders
            if name != _DERIVATIVES and os.path.join(folder, name) not in _NO_DISK  # noqa: PTH118
        ]
        for name in (*folders, *files):
            if scan_suffix(name) or _is_split(name, files):
                (left_out if _is_map(name) else scans).append(Path(folder, name))
    return FoundScans([*scans, *(Path(failure.filename) for failure in closed)], left_out)
