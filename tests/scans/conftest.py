"""Small scans, sound and malformed, made by the tests themselves."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SHAPE = (12, 14, 10)
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.25, 0, -40], [0, 0, 1.5, -20], [0, 0, 0, 1]])


class ScanMaker:
    """Writes scans into a folder; every header field can be overruled after nibabel made the file."""

    shape = SHAPE
    affine = AFFINE

    def __init__(self, folder: Path):
        self.folder = folder

    def voxels(self, shape=SHAPE, dtype=np.int16):
        return np.random.default_rng(5).integers(0, 120, shape).astype(dtype)

    def nifti_bytes(self, voxels=None, affine=AFFINE, kind=nib.Nifti1Image, **fields) -> bytes:
        voxels = self.voxels() if voxels is None else voxels
        image = kind(voxels, affine, dtype=voxels.dtype)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        content = image.to_bytes()
        size = kind.header_class.sizeof_hdr
        header = kind.header_class(content[:size], check=False)
        for name, value in fields.items():
            header[name] = value
        return header.binaryblock + content[size:]

    def nifti(self, name="scan.nii", voxels=None, affine=AFFINE, kind=nib.Nifti1Image, **fields) -> Path:
        return self.file(name, self.nifti_bytes(voxels, affine, kind, **fields))

    def mgh(self, name="scan.mgz", voxels=None, affine=AFFINE, **fields) -> Path:
        voxels = self.voxels() if voxels is None else voxels
        content = bytearray(nib.MGHImage(voxels, affine).to_bytes())
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


@pytest.fixture
def make(tmp_path):
    return ScanMaker(tmp_path)


@pytest.fixture(scope="session")
def make_shared(tmp_path_factory):
    """The same for hypothesis, whose examples share one folder."""
    return ScanMaker(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def levels():
    """Return a function: the level of every finding by its code."""

    def by_code(findings):
        return {finding.code: finding.level for finding in findings}

    return by_code
