"""Small scans, sound and malformed, written by the tests themselves."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike, NDArray

SHAPE = (12, 14, 10)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.25, 0, -40], [0, 0, 1.5, -20], [0, 0, 0, 1]])


class ScanMaker:
    """Writes scans into a folder; every header field can be overruled after nibabel made the file."""

    shape = SHAPE
    affine = AFFINE

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def voxels(self, shape: tuple[int, ...] = SHAPE, dtype: DTypeLike = np.int16) -> NDArray[Any]:
        """Return intensities from 0 to 119, the same at each call."""
        return np.random.default_rng(5).integers(0, 120, shape).astype(dtype)

    def nifti_bytes(
        self,
        voxels: NDArray[Any] | None = None,
        affine: NDArray[np.floating] = AFFINE,
        kind: type[Any] = nib.Nifti1Image,
        **fields: object,
    ) -> bytes:
        """Return the bytes of a NIfTI file; `fields` overrule its header."""
        values = self.voxels() if voxels is None else voxels
        image = kind(values, affine, dtype=values.dtype)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        content: bytes = image.to_bytes()
        size = kind.header_class.sizeof_hdr
        header = kind.header_class(content[:size], check=False)
        for name, value in fields.items():
            header[name] = value
        return bytes(header.binaryblock) + content[size:]

    def nifti(
        self,
        name: str = "scan.nii",
        voxels: NDArray[Any] | None = None,
        affine: NDArray[np.floating] = AFFINE,
        kind: type[Any] = nib.Nifti1Image,
        **fields: object,
    ) -> Path:
        """Write a NIfTI file."""
        return self.file(name, self.nifti_bytes(voxels, affine, kind, **fields))

    def mgh(
        self,
        name: str = "scan.mgz",
        voxels: NDArray[Any] | None = None,
        affine: NDArray[np.floating] = AFFINE,
        **fields: object,
    ) -> Path:
        """Write an MGH file; `fields` overrule its header."""
        values = self.voxels() if voxels is None else voxels
        content = bytearray(nib.MGHImage(values, affine).to_bytes())
        header = np.frombuffer(content, nib.freesurfer.mghformat.header_dtype, count=1)
        for field, value in fields.items():
            header[field] = value
        return self.file(name, bytes(content))

    def file(self, name: str, content: bytes) -> Path:
        """Write content as it is, compressed where the name says so."""
        path = self.folder / name
        compressed = name.lower().endswith((".gz", ".mgz"))
        path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
        return path
