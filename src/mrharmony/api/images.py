"""Images in: paths, nibabel images and volumes, checked alike; and virtual ones to try things on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np

from mrharmony.api.paths import at_home, is_path
from mrharmony.core.arguments import require_between, require_count, require_flag
from mrharmony.core.findings import Finding, MrharmonyError, ScanRefused
from mrharmony.core.volume import BoolArray, Volume, real_array
from mrharmony.preparation.foreseen import foreseen_faults
from mrharmony.preparation.pipeline import prepare_beside
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.reading import Scan, ScanSource, check_scan, read_scan
from mrharmony.simulate.cohort import crop_to_head, field_of_view
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.recipe import ZOOM_RANGE_MM
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head

Image: TypeAlias = nib.spatialimages.SpatialImage | Volume | str | Path
"""A T1-weighted scan: a nibabel image, a `Volume`, or the path of a file."""


def load(image: Image, *, assume_ras: bool = False) -> Scan:
    """Read and check one T1-weighted scan.

    Parameters
    ----------
    image
        A nibabel image, a `Volume`, or the path of a `.nii`, `.nii.gz`, `.mgh` or `.mgz` file. An image in
        memory is read as the file that nibabel would write of it.
    assume_ras
        Accept a scan whose header gives no orientation; its voxel axes then run right, anterior, superior.

    Returns
    -------
    Scan
        `volume` has finite float32 intensities, shape (i, j, k), and the affine in mm; `findings` says
        what is worth knowing.

    Raises
    ------
    ScanRefused
        If the scan is broken or is not one volume; the exception holds all findings.
    MrharmonyError
        If it is neither path nor image, such as an array without its affine.

    Examples
    --------
    >>> import mrharmony
    >>> mrharmony.load(mrharmony.virtual_scan(zoom=4.0)).volume.orientation
    'RAS'
    """
    require_flag("assume_ras", assume_ras)
    return read_scan(as_source(image), assume_ras=assume_ras)


def check(image: Image, *, assume_ras: bool = False) -> tuple[Finding, ...]:
    """Return everything that is worth knowing about a scan before any work; a broken scan raises nothing.

    Parameters
    ----------
    image, assume_ras
        As in `load`.

    Returns
    -------
    tuple of Finding
        Each with `level` (`info`, `warning`, or `error` where the scan would be refused), `code`, `message`
        and `fix`. Empty if there is nothing to say.

    Raises
    ------
    MrharmonyError
        If it is neither path nor image.

    Examples
    --------
    >>> import mrharmony, numpy
    >>> flat = mrharmony.Volume(numpy.zeros((32, 32, 32)), numpy.eye(4))
    >>> [finding.code for finding in mrharmony.check(flat) if finding.level == "error"]
    ['constant-image']
    """
    require_flag("assume_ras", assume_ras)
    return check_scan(as_source(image), foreseen_faults, assume_ras=assume_ras)


def prepare(
    image: Image, *, brain_mask: Image | BoolArray | None = None, seed: int = 0, assume_ras: bool = False
) -> PreparedScan:
    """Find a scan's brain, receive field, rigid alignment and intensity scale; no voxel is resampled.

    `Harmonizer.harmonize` does this by itself; a prepared scan is prepared once for many targets.

    Parameters
    ----------
    image
        A whole head or a skull-stripped brain, as in `load`.
    brain_mask
        Brain mask on the same grid: an image whose voxels above 0 are brain, or an array of the scan's
        shape. Where it is missing, a network finds the brain.
    seed
        Seed of the points at which the alignment is estimated, at least 0.
    assume_ras
        As in `load`.

    Returns
    -------
    PreparedScan
        With `native` (the scan as read), `brain_mask`, `bias_field`, `rigid_to_template` (mm to mm, 4×4),
        `scale` (the intensity that is 1 in canonical units), `remarks` on the scan and `findings` of
        preparation.

    Raises
    ------
    ScanRefused
        If the scan is broken.
    MrharmonyError
        If it holds no plausible brain, the mask does not fit it, or an argument cannot be taken.

    Examples
    --------
    >>> import mrharmony
    >>> mrharmony.prepare(mrharmony.virtual_scan("spgr-1.5t", zoom=4.0)).skull_stripped
    True
    """
    require_count("seed", seed)
    scan = load(image, assume_ras=assume_ras)
    return replace(prepare_loaded(scan, brain_mask, seed), remarks=scan.findings)


def virtual_scan(scanner: str = "mprage-3t", *, person: int = 0, zoom: float = 2.0) -> nib.Nifti1Image:
    """Return a virtual skull-stripped head as a simulated scanner sees it, to try things on.

    Parameters
    ----------
    scanner
        Name of a simulated scanner; `mrharmony.simulate.scanner.load_scanners()` has them all.
    person
        Number of the virtual person, at least 0; one person can visit many scanners.
    zoom
        Voxel edge length in mm, 0.7 to 5.

    Returns
    -------
    nibabel.Nifti1Image
        Intensities in the scanner's units, float32, 0 outside the brain.

    Raises
    ------
    MrharmonyError
        If there is no such scanner or person, or the voxels have another size.

    Examples
    --------
    >>> import mrharmony
    >>> mrharmony.virtual_scan("spgr-1.5t", zoom=4.0).ndim
    3
    """
    require_count("person", person)
    require_between("zoom", zoom, *ZOOM_RANGE_MM)
    scanners = load_scanners()
    if not isinstance(scanner, str) or scanner not in scanners:
        raise MrharmonyError(
            f"{scanner!s:.60}: no such simulated scanner. Choose from: {', '.join(scanners)}."
        )
    head = crop_to_head(virtual_head(np.random.default_rng(person), field_of_view(zoom)))
    volume = scan_head(head, scanners[scanner], np.random.default_rng([person, *scanner.encode()]))
    return nib.Nifti1Image(np.array(volume.voxels), volume.affine)


def prepare_loaded(scan: Scan, brain_mask: Image | BoolArray | None, seed: int) -> PreparedScan:
    """Return a scan prepared, with its own brain or the one given."""
    if isinstance(brain_mask, np.ndarray):
        if brain_mask.shape != scan.volume.shape:
            raise MrharmonyError(
                f"brain_mask: has the shape {brain_mask.shape}, the scan {scan.volume.shape}. Give a mask on "
                "the scan's grid."
            )
        mask = real_array("brain_mask", brain_mask).astype(np.float32)
        brain_mask = nib.Nifti1Image(mask, scan.volume.affine)
    given = None if brain_mask is None else as_source(brain_mask, "brain_mask")
    try:
        return prepare_beside(scan, given, seed=seed)
    except ScanRefused as refusal:  # of the mask: the scan is read
        if given is None or isinstance(given, Path):
            raise
        raise ScanRefused("brain_mask", refusal.findings) from refusal


def as_source(image: Image, argument: str = "image") -> ScanSource:
    """Return an image as `read_scan` takes it; raises `MrharmonyError` for what is none."""
    if isinstance(image, Volume):
        return nib.Nifti1Image(np.asarray(image.voxels), image.affine)
    if isinstance(image, nib.spatialimages.SpatialImage):
        return image
    if is_path(image):
        return at_home(Path(image))
    raise MrharmonyError(
        f"{argument}: a value of type {type(image).__name__} is no image. Give one path, one nibabel image, "
        "or mrharmony.Volume(array, affine)."
    )
