"""Read a scan in one pass over its file, and check everything on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import nibabel as nib
import numpy as np

from mrharmony.core.findings import (
    Finding,
    ScanFault,
    ScanRefused,
    error,
    fault,
    has_error,
    proceed,
    run_checks,
    warning,
)
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.scans.acquisition import acquisition_findings
from mrharmony.scans.blank_slices import check_blank_slices
from mrharmony.scans.geometry import GEOMETRY_CHECKS, assumed_ras, check_orientation
from mrharmony.scans.headers import parse_header
from mrharmony.scans.stream import ByteSource, Storage, check_file, open_scan, storage_of, unreadable
from mrharmony.scans.voxels import (
    CLAIM_CHECKS,
    LAYOUT_CHECKS,
    MANY_VALUED_CODE,
    VOXEL_CHECKS,
    Layout,
    StoredVoxels,
    check_brain_mask,
    check_finite,
    check_grid,
    intensities_of,
    non_finite,
    other_grid,
    read_voxels,
)

ScanSource: TypeAlias = Path | str | nib.spatialimages.SpatialImage
"""A scan: the path of a file, or a nibabel image, read as the file that nibabel would write of it."""

VoxelCheck: TypeAlias = Callable[[StoredVoxels], Iterable[Finding]]

SAME_GRID_MM = 0.01  # how far the affines of a scan and of its mask may differ in any entry
IN_MEMORY = "(image in memory)"  # takes the place of a file's name
NO_FILE = Storage(2**63)  # of voxels that are in memory already
MAX_TRAILING_BYTES = 64 * 2**20  # read beyond the voxels before the file is called a decompression bomb


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan as it was read."""

    path: Path  # the file; that of an image in memory does not exist
    volume: Volume  # finite intensities on the native grid, and the affine
    header: nib.Nifti1Header  # the geometry of the scan and nothing else: outputs are written with it
    findings: tuple[Finding, ...]  # what is worth knowing about the scan; none is an error
    sha256: str | None  # of the very bytes that were read, hexadecimal; None of an image in memory


class _Checks(NamedTuple):
    """What is checked of an image: before its voxels are read, and after."""

    layout: tuple[Callable[[Layout], Iterable[Finding]], ...]
    voxels: tuple[VoxelCheck, ...]


_SCAN = _Checks(LAYOUT_CHECKS, (*VOXEL_CHECKS, check_blank_slices))
_LABELS = _Checks(LAYOUT_CHECKS, (check_finite,))


def read_scan(source: ScanSource, *, assume_ras: bool = False) -> Scan:
    """Read and check one scan.

    Parameters
    ----------
    source
        A `.nii`, `.nii.gz`, `.mgh` or `.mgz` file, or an image in memory.
    assume_ras
        Accept a scan whose header does not say how it lies, as one whose voxel axes run to the right,
        anterior and superior.

    Returns
    -------
    Scan
        With finite voxels, an invertible affine and no error among its findings.

    Raises
    ------
    ScanRefused
        The scan is broken or is not one T1w volume; all findings are with it.
    """
    scan = _accepted(source, assume_ras, _SCAN)
    return replace(scan, findings=(*scan.findings, *_acquisition(source)))


def read_mask(source: ScanSource, like: Scan) -> BoolArray:
    """Read a mask on the grid of the scan `like`: voxels above 0 are in it; raises as `read_beside`."""
    return np.asarray(read_beside(source, like).volume.voxels > 0)


def read_brain_mask(source: ScanSource, like: Scan) -> tuple[BoolArray, tuple[Finding, ...]]:
    """Read a brain mask that was given for the scan `like`, and what is odd about it.

    Voxels above 0 are brain. Raises as `read_beside`, and where they cannot be the brain.
    """
    voxel_ml = like.volume.voxel_mm3 / 1000
    mask = read_beside(source, like, partial(check_brain_mask, _named(source)[0].name, voxel_ml))
    odd = tuple(finding for finding in mask.findings if finding.code == MANY_VALUED_CODE)
    return np.asarray(mask.volume.voxels > 0), odd


def read_beside(source: ScanSource, like: Scan, *checks: VoxelCheck) -> Scan:
    """Read a mask or a map on the grid of the scan `like`; `checks` are made of its voxels.

    Raises `ScanRefused` where the file is broken or its image lies on another grid.
    """
    unoriented = any(finding.code == "missing-affine" for finding in like.findings)
    shape, name = like.volume.shape, like.path.name
    grid = partial(check_grid, shape, name)  # a foreign image takes no memory
    try:
        image = _accepted(source, unoriented, _Checks((*CLAIM_CHECKS, grid), (check_finite, *checks)))
    except ScanRefused as refused:
        findings = tuple(_remedied(finding, name) for finding in refused.findings)
        raise ScanRefused(refused.path, findings) from None
    if np.abs(image.volume.affine - like.volume.affine).max() > SAME_GRID_MM:
        raise ScanRefused(image.path, (other_grid(name),))
    return image


def _remedied(finding: Finding, scan: str) -> Finding:
    """Return a finding on a mask; what lies beside an oriented scan can take its header."""
    if finding.code != "missing-affine":
        return finding
    return replace(
        finding, fix=f"Give it the header of {scan} if it lies on its voxels, as `fslcpgeom` does."
    )


def read_labels(source: ScanSource) -> Volume:
    """Read a label map, which need not look like a scan; `ScanRefused` if the file is broken."""
    return _accepted(source, False, _LABELS).volume


def check_scan(
    source: ScanSource, *checks: Callable[[Volume], Iterable[Finding]], assume_ras: bool = False
) -> tuple[Finding, ...]:
    """Return everything that is worth knowing about a scan; a broken file is a finding, never an exception.

    Takes any path, or an image in memory; `assume_ras` as in `read_scan`. `checks` are made of a scan that
    `read_scan` would take.
    """
    scan, findings = _inspect(*_named(source), assume_ras, _SCAN)
    more = run_checks(checks, scan.volume) if scan else ()
    return (*findings, *more, *_acquisition(source))


def _acquisition(source: ScanSource) -> Iterable[Finding]:
    """Say what name and sidecar of a file tell of its acquisition; an image in memory has neither."""
    return acquisition_findings(Path(source)) if isinstance(source, str | Path) else ()


def _accepted(source: ScanSource, assume_ras: bool, checks: _Checks) -> Scan:
    path, image = _named(source)
    scan, findings = _inspect(path, image, assume_ras, checks)
    if scan is None:
        raise ScanRefused(_file_of(image) or path, findings)
    return scan


def _named(source: ScanSource) -> tuple[Path, nib.spatialimages.SpatialImage | None]:
    """Return the path of a file, or a name for an image in memory and the image."""
    if isinstance(source, str | Path):
        return Path(source), None
    return Path(f"{IN_MEMORY}{'.mgh' if isinstance(source, nib.MGHImage) else '.nii'}"), source


def _content(image: nib.spatialimages.SpatialImage, checks: _Checks) -> bytes:
    """Return what nibabel would write of an image; `ScanFault` where its shape or its voxels forbid that.

    An image that nibabel has opened without reading its voxels is judged by its header first.
    """
    proceed(run_checks(checks.layout, _layout(image)))
    _require_all_kept(image)
    try:
        if not isinstance(image, nib.Nifti1Image | nib.MGHImage):
            image = nib.Nifti1Image.from_image(image)
        content: bytes = image.to_bytes()
    except MemoryError:
        raise
    except Exception as failure:  # whatever nibabel makes of a damaged file
        raise fault(
            "unreadable",
            f"nibabel cannot read the image ({' '.join(str(failure).split())}).",
            "Copy or convert the scan again.",
        ) from failure
    return content


def _require_all_kept(image: nib.spatialimages.SpatialImage) -> None:
    """Raise `ScanFault` where nibabel would lose a mask, or write voxels that are no numbers as integers."""
    voxels, as_integers = image.dataobj, image.get_data_dtype().kind in "iu"
    if isinstance(voxels, np.ma.MaskedArray):
        raise fault(
            "masked-voxels",
            "The voxels are a masked array, and an image cannot hold its mask.",
            "Fill it first, for instance with `voxels.filled(0)`.",
        )
    if as_integers and isinstance(voxels, np.ndarray) and voxels.dtype.kind == "f":
        lost = int(np.count_nonzero(~np.isfinite(voxels)))
        if lost:
            raise ScanFault(non_finite(lost, voxels.size))


def _layout(image: nib.spatialimages.SpatialImage) -> Layout:
    """Return the claims of an image, as a file without any header of its own."""
    dtype = image.get_data_dtype()
    file = _file_of(image)
    storage = storage_of(file) if file else NO_FILE
    return Layout(image.shape, dtype.name, dtype, 0, 0, 1.0, 0.0, storage, has_footer=False)


def _file_of(image: nib.spatialimages.SpatialImage | None) -> Path | None:
    """Return the file that nibabel reads an image's voxels from; None where they are in memory."""
    if image is None or not nib.is_proxy(image.dataobj):
        return None
    file = image.file_map["image"].filename
    return Path(file) if file else None


def _inspect(
    path: Path, image: nib.spatialimages.SpatialImage | None, assume_ras: bool, checks: _Checks
) -> tuple[Scan | None, tuple[Finding, ...]]:
    """Return the scan, or None where a finding refuses it, and all findings."""
    findings: list[Finding] = []
    scan = None
    try:
        with np.errstate(all="ignore"):
            if image is not None:
                content = _content(image, checks)
                storage, source = Storage(len(content)), ByteSource(iter([content]))
                scan = _read(path, source, storage, assume_ras, checks, findings)
            else:
                proceed(tuple(check_file(path)))
                with open_scan(path, findings) as source:
                    scan = _read(path, source, storage_of(path), assume_ras, checks, findings)
    except ScanFault as fault:
        findings.extend(fault.findings)
    except OSError as failure:
        findings.append(unreadable(failure))
    except MemoryError:
        findings.append(error("out-of-memory", "The scan does not fit in memory.", "Use a larger machine."))
    return None if has_error(findings) else scan, tuple(findings)


def _read(
    path: Path,
    source: ByteSource,
    storage: Storage,
    assume_ras: bool,
    checks: _Checks,
    findings: list[Finding],
) -> Scan | None:
    """Read header, voxels and the rest of the file, adding to the findings as they come."""
    header = parse_header(path, source)
    layout = header.layout(storage)
    findings += proceed(run_checks(checks.layout, layout))
    geometry = header.geometry(layout.shape)
    findings += header.repairs
    findings += run_checks((partial(check_orientation, assume_ras), *GEOMETRY_CHECKS), geometry)
    stored = read_voxels(source, layout)
    voxel_findings = run_checks(checks.voxels, stored)
    findings += voxel_findings
    findings += tuple(_check_end(source, layout))
    if has_error(findings):
        return None
    output_header = header.output_header(geometry)
    known = geometry.affine is not None
    affine = np.asarray(output_header.get_best_affine()) if known else assumed_ras(geometry)
    voxels = intensities_of(stored, voxel_findings).reshape(geometry.shape, order="F")
    sha256 = source.file.sha256() if source.file else None
    return Scan(path, Volume(voxels, affine), output_header, tuple(findings), sha256)


def _check_end(source: ByteSource, layout: Layout) -> Iterator[Finding]:
    """Read to the end, so that the whole file is verified, and say what follows the voxels."""
    trailing = source.drain(MAX_TRAILING_BYTES)
    if trailing > MAX_TRAILING_BYTES:
        yield error(
            "decompression-bomb",
            f"More than {MAX_TRAILING_BYTES:,} bytes follow the voxels that the header announces.",
            "The header or the file is damaged: convert the scan again.",
        )
    elif trailing and not layout.has_footer:
        yield warning(
            "trailing-data",
            f"{trailing:,} bytes follow the voxels; they are ignored.",
            "Convert the scan again if you did not expect that.",
        )
