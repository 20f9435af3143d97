"""Read a scan in one pass over its file, and check everything on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np

from mrharmony.core.findings import (
    Finding,
    MrharmonyError,
    ScanFault,
    ScanRefused,
    error,
    has_error,
    proceed,
    run_checks,
    warning,
)
from mrharmony.core.hashing import file_sha256
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.scans.acquisition import acquisition_findings
from mrharmony.scans.geometry import GEOMETRY_CHECKS, assumed_ras, check_orientation
from mrharmony.scans.headers import parse_header
from mrharmony.scans.names import COMPRESSED_SUFFIXES, scan_suffix
from mrharmony.scans.stream import MAX_RATIO, ByteSource, check_file, open_scan, unreadable
from mrharmony.scans.voxels import (
    LAYOUT_CHECKS,
    VOXEL_CHECKS,
    Layout,
    StoredVoxels,
    check_finite,
    read_voxels,
)

ScanSource: TypeAlias = Path | str | nib.spatialimages.SpatialImage
"""A scan: the path of a file, or a nibabel image, read as the file that nibabel would write of it."""

VoxelChecks = tuple[Callable[[StoredVoxels], Iterable[Finding]], ...]

SAME_GRID_MM = 0.01  # how far the affines of a scan and of its mask may differ in any entry
IN_MEMORY = "(image in memory)"  # takes the place of a file's name
MAX_TRAILING_BYTES = 64 * 2**20  # read beyond the voxels before the file is called a decompression bomb


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan as it was read."""

    path: Path  # the file; that of an image in memory does not exist
    volume: Volume  # finite intensities on the native grid, and the affine
    header: nib.Nifti1Header  # the geometry of the scan and nothing else: outputs are written with it
    findings: tuple[Finding, ...]  # what is worth knowing about the scan; none is an error

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file's content, hexadecimal, computed at most once."""
        return file_sha256(self.path)


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
    scan = _accepted(source, assume_ras, VOXEL_CHECKS)
    return replace(scan, findings=(*scan.findings, *acquisition_findings(scan.path)))


def read_mask(source: ScanSource, like: Scan) -> BoolArray:
    """Read a brain mask on the grid of the scan `like`: voxels above 0 are brain.

    Raises
    ------
    ScanRefused
        The file is broken.
    MrharmonyError
        The mask lies on another grid.
    """
    unoriented = any(finding.code == "missing-affine" for finding in like.findings)
    scan = _accepted(source, unoriented, (check_finite,))
    mask = scan.volume
    if mask.shape != like.volume.shape or np.abs(mask.affine - like.volume.affine).max() > SAME_GRID_MM:
        raise MrharmonyError(
            f"{scan.path}: the mask is not on the voxel grid of {like.path.name}. Resample it there."
        )
    return np.asarray(mask.voxels > 0)


def read_labels(source: ScanSource) -> Volume:
    """Read a label map, which need not look like a scan; `ScanRefused` if the file is broken."""
    return _accepted(source, False, (check_finite,)).volume


def check_scan(source: ScanSource, *, assume_ras: bool = False) -> tuple[Finding, ...]:
    """Return everything that is worth knowing about a scan; a broken file is a finding, never an exception.

    Takes any path, or an image in memory; `assume_ras` as in `read_scan`.
    """
    path, content = _named(source)
    return (*_inspect(path, content, assume_ras, VOXEL_CHECKS)[1], *acquisition_findings(path))


def _accepted(source: ScanSource, assume_ras: bool, voxel_checks: VoxelChecks) -> Scan:
    path, content = _named(source)
    scan, findings = _inspect(path, content, assume_ras, voxel_checks)
    if scan is None:
        raise ScanRefused(path, findings)
    return scan


def _named(source: ScanSource) -> tuple[Path, bytes | None]:
    """Return the path of a file, or a name for an image in memory and what nibabel would write of it."""
    if isinstance(source, str | Path):
        return Path(source), None
    if isinstance(source, nib.MGHImage):
        return Path(f"{IN_MEMORY}.mgh"), source.to_bytes()
    if not isinstance(source, nib.Nifti1Image):
        source = nib.Nifti1Image.from_image(source)
    return Path(f"{IN_MEMORY}.nii"), source.to_bytes()


def _inspect(
    path: Path, content: bytes | None, assume_ras: bool, voxel_checks: VoxelChecks
) -> tuple[Scan | None, tuple[Finding, ...]]:
    """Return the scan, or None where a finding refuses it, and all findings."""
    findings: list[Finding] = []
    scan = None
    try:
        with np.errstate(all="ignore"):
            if content is not None:
                source = ByteSource(iter([content]))
                scan = _read(path, source, len(content), assume_ras, voxel_checks, findings)
            else:
                proceed(tuple(check_file(path)))
                with open_scan(path, findings) as source:
                    scan = _read(path, source, _capacity(path), assume_ras, voxel_checks, findings)
    except ScanFault as fault:
        findings.extend(fault.findings)
    except OSError as failure:
        findings.append(unreadable(failure))
    except MemoryError:
        findings.append(error("out-of-memory", "The scan does not fit in memory.", "Use a larger machine."))
    return None if has_error(findings) else scan, tuple(findings)


def _capacity(path: Path) -> int:
    """Return the most content that the file can hold: a header that claims more is refused."""
    return path.stat().st_size * (MAX_RATIO if scan_suffix(path) in COMPRESSED_SUFFIXES else 1)


def _read(
    path: Path,
    source: ByteSource,
    capacity: int,
    assume_ras: bool,
    voxel_checks: VoxelChecks,
    findings: list[Finding],
) -> Scan | None:
    """Read header, voxels and the rest of the file, adding to the findings as they come."""
    header = parse_header(path, source)
    layout = header.layout(capacity)
    findings += proceed(run_checks(LAYOUT_CHECKS, layout))
    geometry = header.geometry(layout.shape)
    findings += header.repairs
    findings += run_checks((partial(check_orientation, assume_ras), *GEOMETRY_CHECKS), geometry)
    stored = read_voxels(source, layout)
    findings += run_checks(voxel_checks, stored)
    findings += tuple(_check_end(source, layout))
    if has_error(findings):
        return None
    output_header = header.output_header(geometry)
    known = geometry.affine is not None
    affine = np.asarray(output_header.get_best_affine()) if known else assumed_ras(geometry)
    voxels = stored.intensities.reshape(geometry.shape, order="F")
    return Scan(path, Volume(voxels, affine), output_header, tuple(findings))


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
