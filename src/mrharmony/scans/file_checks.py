"""What can be wrong with a scan before its first byte is understood: path, suffix, compression."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from mrharmony.scans.findings import ScanFault, error
from mrharmony.scans.names import COMPRESSED_SUFFIXES, SCAN_SUFFIXES, scan_suffix
from mrharmony.volume import Finding

GZIP_MAGIC = b"\x1f\x8b"
SPLIT_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
_POINTERS = (b"version https://git-lfs", b"/annex/objects/", b"../.git/annex/", b".git/annex/")


def check_file(path: Path) -> Iterator[Finding]:
    """Find why a path cannot be a scan at all: absent, not a file, empty, or of an unknown kind."""
    try:
        status = path.stat()
    except (OSError, ValueError) as failure:
        yield _stat_finding(path, failure)
        return
    if stat.S_ISDIR(status.st_mode):
        yield error("is-directory", "This is a folder, not a scan.", "Name the scans inside it.")
    elif not stat.S_ISREG(status.st_mode):
        yield error("not-a-file", "This is a device or a pipe, not a file.", "Store the scan in a file.")
    elif status.st_size == 0:
        yield error("empty-file", "The file is empty.", "Copy or convert it again.")
    else:
        yield from _check_suffix(path)


def _stat_finding(path: Path, failure: Exception) -> Finding:
    if isinstance(failure, FileNotFoundError) and path.is_symlink():
        return error(
            "broken-link",
            "The link points to a file that is not here.",
            "Fetch the content first (DataLad: `datalad get`).",
        )
    if isinstance(failure, FileNotFoundError | NotADirectoryError | ValueError):
        return error("missing-file", "There is no such file.", "Check the path for a typing mistake.")
    return unreadable(failure)


def unreadable(failure: Exception) -> Finding:
    """Return the finding for a file that the operating system does not let us read."""
    if isinstance(failure, PermissionError):
        return error(
            "unreadable", "You are not permitted to read it.", "Ask its owner, or `chmod +r` the file."
        )
    reason = getattr(failure, "strerror", None) or failure
    return error("unreadable", f"It cannot be read ({reason}).", "Check the disk, or copy the file again.")


def _check_suffix(path: Path) -> Iterator[Finding]:
    if scan_suffix(path) is not None:
        return
    if path.name.lower().endswith(SPLIT_SUFFIXES):
        yield error(
            "split-image",
            "Header and voxels are in two files (.hdr and .img).",
            "Convert the pair to one .nii.gz, for instance with `mrconvert` or nibabel.",
        )
    else:
        yield error(
            "unknown-suffix",
            f"The file name ends in none of {', '.join(SCAN_SUFFIXES)}.",
            "Convert it first: DICOM with `dcm2niix`, other formats with `mrconvert`.",
        )


def check_first_bytes(path: Path, start: bytes) -> None:
    """Raise `ScanFault` where the file's first bytes belie its name.

    Parameters
    ----------
    path
        A file whose name ends in one of `SCAN_SUFFIXES`.
    start
        Its first bytes, 64 or fewer.
    """
    if start.startswith(_POINTERS):
        raise ScanFault(
            error(
                "content-missing",
                "The file is a git-annex or Git LFS pointer; the scan itself is not here.",
                "Fetch the content first (`datalad get` or `git lfs pull`).",
            )
        )
    suffix = scan_suffix(path)
    compressed = start.startswith(GZIP_MAGIC)
    if compressed == (suffix in COMPRESSED_SUFFIXES):
        return
    twin = {".nii": ".nii.gz", ".nii.gz": ".nii", ".mgh": ".mgz", ".mgz": ".mgh"}[suffix or ".nii"]
    state = "is gzip-compressed" if compressed else "is not gzip-compressed"
    raise ScanFault(
        error(
            "compression-mismatch",
            f"The name ends in {suffix}, but the content {state}.",
            f"If it is a scan, rename it to end in {twin}; otherwise copy it again.",
        )
    )
