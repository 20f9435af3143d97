"""Write a scan on the grid of another, to the bit, with its JSON sidecar."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip

from mrharmony.core.atomic import json_bytes, remove, staged
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.volume import FloatArray
from mrharmony.scans.names import scan_suffix, sidecar_path
from mrharmony.scans.reading import Scan

_WRITER = b"mrharmony"  # in the header's description, which says nothing else
_LEVEL = 2  # of isal: files of about the size that zlib's level 1 makes, in a tenth of the time


def write_scan(path: Path | str, voxels: FloatArray, like: Scan, sidecar: dict[str, Any] | None) -> None:
    """Write voxels as `.nii.gz` with the shape, affine, zooms and axis order of a scan, to the bit.

    The image replaces an existing one at once or not at all. The sidecar comes last, with the image's hash as
    `ImageSHA256`: where it exists, the image beside it is complete and belongs to it. The image's header says
    that mrharmony wrote it (see `is_ours`). Equal voxels give equal bytes.

    Parameters
    ----------
    path
        The image, ending in `.nii.gz`; its folder is made where missing.
    voxels, like
        Finite intensities, and the scan of the same shape whose grid this is.
    sidecar
        JSON content for the file of the same name ending in `.json`; None removes a stale one.

    Raises
    ------
    MrharmonyError
        The path does not end in `.nii.gz`, names the scan itself, or cannot be written.
    ValueError
        The voxels have another shape or are not finite; the sidecar contains NaN.
    """
    path = Path(path)
    require_output_path(path, like.path)
    image = output_image(voxels, like)
    note_path = sidecar_path(path)
    if sidecar is not None:
        json_bytes(sidecar)  # fails before anything is written
    with staged(path) as image_file, staged(note_path) as note_file:
        image_file.fill(lambda stream: write_gzip(stream, image))
        if sidecar is not None:
            note = json_bytes(sidecar | {"ImageSHA256": file_sha256(image_file.temporary)})
            note_file.fill(lambda stream: stream.write(note))
        remove(note_path)
        image_file.commit()
        if sidecar is not None:
            note_file.commit()


def is_ours(path: Path) -> bool:
    """Whether the header of a `.nii.gz` file says that mrharmony wrote it; False where it cannot be read."""
    try:
        description = nib.load(path).header["descrip"]
    except (OSError, EOFError, ValueError, KeyError, nib.filebasedimages.ImageFileError, zlib.error):
        return False
    return bool(description == _WRITER)


def require_output_path(path: Path, source: Path) -> None:
    """Raise `MrharmonyError` where a path is that of the scan itself, or has not the ending of outputs."""
    if scan_suffix(path) != ".nii.gz":
        raise MrharmonyError(f"{path}: outputs are written as .nii.gz. Give a name that ends in .nii.gz.")
    if path.exists() and source.exists() and path.samefile(source):
        raise MrharmonyError(f"{path}: this would overwrite the scan itself. Give another name or folder.")


def output_image(voxels: FloatArray, like: Scan) -> nib.Nifti1Image:
    """Return voxels on a scan's grid; raise `ValueError` where they are not finite or of another shape."""
    if voxels.shape != like.volume.shape:
        raise ValueError(f"expected voxels of shape {like.volume.shape}, got {voxels.shape}")
    with np.errstate(over="ignore"):
        intensities = np.asarray(voxels, dtype=np.float32, order="F")  # as the file has them
    if not np.isfinite(intensities).all():
        raise ValueError("voxels to write must be finite")
    header = like.header
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(intensities, header.get_best_affine(), header)
    image.header["descrip"] = _WRITER
    return image


def write_gzip(stream: BinaryIO, image: nib.Nifti1Image, *, compressible: bool = True) -> None:
    """Compress without name and time, which would make equal scans differ; or store in the same format."""
    if compressible:
        packed: gzip.GzipFile = igzip.IGzipFile("", "wb", _LEVEL, stream, mtime=0)  # type: ignore[no-untyped-call]
    else:
        packed = gzip.GzipFile("", "wb", 0, stream, mtime=0)  # isal has no level that only stores
    with packed:
        image.to_stream(packed)
