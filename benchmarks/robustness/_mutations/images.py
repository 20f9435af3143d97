"""Image files: NIfTI-1 and -2, MGH, pairs; extreme fields, flipped bits, cut and swollen files."""

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import header_dtype

from benchmarks.robustness._mutations import Kind
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.reading import read_scan
from mrharmony.scans.writing import write_scan

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # of what it repairs in each file
_SHAPE = (12, 14, 10)
_AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.25, 0, -40], [0, 0, 1.5, -20], [0, 0, 0, 1]])
_DTYPES = (np.uint8, np.int16, np.float32)
_FLOATS = (0, -0.0, 1, -1, 0.5, 1e-40, 1e-6, 1e4, 1e30, -1e30, 3e38, np.nan, np.inf, -np.inf)
_INTEGERS = (0, 1, -1, 2, 3, 4, 7, 16, 64, 255, 700, 800, 4097, 32767, -32768)
_LARGE = (800, 900, 512)  # voxels along an axis that a small file may claim


def open_image(path: Path) -> None:
    """Read an image as a scan, and hold it to what every scan promises."""
    scan = read_scan(path)
    assert np.isfinite(scan.volume.voxels).all(), "voxels without value"
    assert np.isfinite(scan.volume.affine).all(), "an affine without value"
    assert abs(np.linalg.det(scan.volume.affine)) > 0, "a singular affine"
    output = path.parent / "written.nii.gz"
    write_scan(output, scan.volume.voxels, scan, None)
    loaded, written = nib.load(path), nib.load(output)
    assert written.affine.tobytes() == scan.volume.affine.tobytes(), "an affine that changed when written"
    if loaded.shape[:3] == scan.volume.shape and not _reinterpreted(path):
        assert loaded.affine.tobytes() == scan.volume.affine.tobytes(), "another affine than nibabel's"
        assert written.header.get_zooms() == loaded.header.get_zooms()[:3], "zooms that changed"


def open_pair(path: Path) -> None:
    """Open a pair with nibabel and read the image; a header that nibabel refuses is refused."""
    try:
        image = nib.load(path)
    except Exception as failure:  # nibabel's own refusal, of whatever type
        raise MrharmonyError(f"{path}: nibabel cannot open it.") from failure
    scan = read_scan(image)
    assert np.isfinite(scan.volume.voxels).all(), "voxels without value"
    assert np.isfinite(scan.volume.affine).all(), "an affine without value"


def _reinterpreted(path: Path) -> bool:
    """Say whether nibabel itself cannot give the affine."""
    try:
        return not np.isfinite(nib.load(path).affine).all()
    except (ImageFileError, ValueError):
        return True


def _sound(random: np.random.Generator, kind: type[Any]) -> bytearray:
    voxels = random.integers(0, 120, _SHAPE).astype(_DTYPES[random.integers(len(_DTYPES))])
    return bytearray(kind(voxels, _AFFINE).to_bytes())


def _header(content: bytearray, kind: type[Any]) -> np.ndarray[Any, Any]:
    """Return the fields of a header; what is set in them is set in the content."""
    dtype = header_dtype if kind is nib.MGHImage else kind.header_class.template_dtype
    return np.ndarray(1, dtype, content)


def _extreme(random: np.random.Generator, content: bytearray, kind: type[Any]) -> None:
    fields = _header(content, kind)
    for name in random.choice(fields.dtype.names, random.integers(1, 4)):
        values = fields[name].reshape(-1)
        if values.dtype.kind in "fiu":
            choices = _FLOATS if values.dtype.kind == "f" else _INTEGERS
            value = choices[random.integers(len(choices))]
            with np.errstate(all="ignore"):
                values[random.integers(values.size)] = np.array(value).astype(values.dtype)


def _claim(random: np.random.Generator, content: bytearray, kind: type[Any]) -> None:
    """Claim many voxels; a tenth of the files hold 64 million of them, all 0, after those of the scan."""
    fields = _header(content, kind)
    full = random.random() < 0.1
    sizes = [400, 400, 400, 1] if full else [*random.choice(_LARGE, 3), random.choice((1, 900))]
    if kind is nib.MGHImage:
        fields["dims"] = sizes
    else:
        fields["dim"][0, :5] = [random.integers(3, 5), *sizes]
    content.extend(bytes(400**3 if full else 0))


def _flip(random: np.random.Generator, content: bytearray, kind: type[Any]) -> None:
    end = len(content) if random.random() < 0.3 else min(352, len(content))
    for place in random.integers(0, end, random.integers(1, 9)):
        content[place] ^= 1 << int(random.integers(8))


def _cut(random: np.random.Generator, content: bytearray, kind: type[Any]) -> None:
    del content[int(random.integers(len(content))) :]


def _swell(random: np.random.Generator, content: bytearray, kind: type[Any]) -> None:
    place = int(random.integers(len(content)))
    content[place:place] = random.bytes(int(random.integers(1, 2000)))


_MUTATIONS = (_extreme, _extreme, _claim, _flip, _cut, _swell)


def _maker(kind: type[Any], name: str) -> Callable[[np.random.Generator, Path], Path]:
    """Return what writes a damaged file of a kind, damaged before or after compression."""

    def make(random: np.random.Generator, folder: Path) -> Path:
        content = _sound(random, kind)
        mutate = _MUTATIONS[random.integers(len(_MUTATIONS))]
        mutate(random, content, kind)
        path = folder / name
        if name.endswith(("gz", "mgz")):
            content = bytearray(gzip.compress(content, 1, mtime=0))
            if mutate is _claim:
                content += bytes(2**20)  # padding, which gzip allows: the claim could be compressed into it
            if random.random() < 0.3:
                (_flip, _cut, _swell)[random.integers(3)](random, content, kind)
        path.write_bytes(content)
        return path

    return make


def _pair(random: np.random.Generator, folder: Path) -> Path:
    kind = (nib.Nifti1Pair, nib.Nifti2Pair, nib.Spm99AnalyzeImage)[random.integers(3)]
    image = kind(random.integers(0, 120, _SHAPE).astype(np.int16), _AFFINE)
    nib.save(image, folder / "pair.img")
    path = folder / "pair.hdr"
    for part, mutations in ((path, (_extreme, _extreme, _flip)), (path.with_suffix(".img"), (_cut, _swell))):
        if random.random() < 0.6:
            content = bytearray(part.read_bytes())
            mutations[random.integers(len(mutations))](random, content, kind)
            part.write_bytes(content)
    return path


KINDS = (
    Kind("NIfTI-1", _maker(nib.Nifti1Image, "scan.nii"), open_image),
    Kind("NIfTI-1, gzip", _maker(nib.Nifti1Image, "scan.nii.gz"), open_image),
    Kind("NIfTI-2", _maker(nib.Nifti2Image, "scan.nii"), open_image),
    Kind("NIfTI-2, gzip", _maker(nib.Nifti2Image, "scan.nii.gz"), open_image),
    Kind("MGH", _maker(nib.MGHImage, "scan.mgh"), open_image),
    Kind("MGZ", _maker(nib.MGHImage, "scan.mgz"), open_image),
    Kind("pair, by nibabel", _pair, open_pair),
)
