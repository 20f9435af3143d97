"""From what a method returns to the harmonized scan: native voxels, the target's units, evidence.

A method with the anatomy lock finds a transform of intensities, `render` applies it to the scan's own voxels.
Other methods find a picture or a change on a grid of template space, which is interpolated to those voxels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.domains.statistics import DomainStatistics, target_statistics
from mrharmony.evidence.drift import scan_evidence
from mrharmony.lock.bilateral_grid import BilateralGrid, require_finite
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import Extent, HarmonizedVolume
from mrharmony.preparation.canonical import (
    STATISTICS_ZOOM,
    CanonicalBrain,
    brain_intensities,
    brain_positions,
    canonical_brain,
    lies_on,
    on_brain,
)
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid


def through_lock(
    scan: PreparedScan,
    transform: BilateralGrid,
    method: str,
    source: Domain | None,
    target: Domain,
    statistics: Mapping[str, DomainStatistics],
    extent: Extent = "brain",
) -> HarmonizedVolume:
    """Return a scan through its fitted transform (`render`), in the target's units (`in_target_units`)."""
    voxels = render(scan, transform, extent)
    return in_target_units(scan, voxels, source, target, statistics, {"method": method}, extent)


def in_target_units(
    scan: PreparedScan,
    intensities: FloatArray,
    source: Domain | None,
    target: Domain,
    statistics: Mapping[str, DomainStatistics],
    provenance: Mapping[str, object],
    extent: Extent = "brain",
) -> HarmonizedVolume:
    """Return what a method made of a scan, in the target's native units, with evidence.

    Parameters
    ----------
    scan
        The prepared scan.
    intensities
        Canonical units, shape (i, j, k); 0 outside the brain unless the extent is `head`.
    source, target
        The domains, `source` is None where it is unknown.
    statistics
        Of every known domain, by name; they give the output its units. Must have the target's.
    provenance
        Name of the method, and what else the sidecar records.
    extent
        What was transformed.
    """
    scale = output_scale(scan, source, target, statistics)
    volume = scan.native.with_voxels(_times(scan, intensities, scale, extent))
    wanted = target_statistics(statistics, target)
    evidence = scan_evidence(scan, volume, scale, wanted)
    made = {**provenance, "extent": extent}
    return HarmonizedVolume(volume, scale, evidence, made, target_statistics=wanted)


def _times(scan: PreparedScan, intensities: FloatArray, scale: float, extent: Extent) -> FloatArray:
    """Return intensities times a scale, computed where they are not 0."""
    if extent == "head":
        return intensities * np.float32(scale)
    voxels = np.zeros(scan.native.shape, dtype=np.float32, order="F")  # as files have them
    voxels[scan.box] = intensities[scan.box] * np.float32(scale)
    return voxels


def output_scale(
    scan: PreparedScan, source: Domain | None, target: Domain, statistics: Mapping[str, DomainStatistics]
) -> float:
    """Return the native intensity that 1 canonical unit becomes in the output.

    The scan's own if it stays in its domain, so that identity is exact; else the target domain's typical one.
    """
    if source is not None and source.name == target.name:
        return scan.scale
    return target_statistics(statistics, target).scale


def lock_of(extent: Extent) -> LockSettings:
    """Return the usual lock for an extent; in a whole head the air is transformed too, and stays black."""
    return LockSettings() if extent == "brain" else LockSettings(lift=0)


def render(scan: PreparedScan, transform: BilateralGrid, extent: Extent = "brain") -> FloatArray:
    """Return T(x, s) at the scan's own voxels, without resampling.

    Parameters
    ----------
    scan
        The prepared scan; s are its bias-corrected canonical intensities.
    transform
        T, in template mm and canonical units.
    extent
        `brain` sets voxels outside the brain mask to 0; `head` transforms all voxels.

    Returns
    -------
    Canonical intensities, shape (i, j, k).
    """
    if transform.is_identity:  # where the voxels lie makes no difference
        return _unchanged(scan, extent)
    if extent == "brain":
        changed = transform.apply(brain_positions(scan), scan.intensities_in_box[scan.mask_in_box])
        return on_brain(scan, changed)
    everywhere = np.ones(scan.native.shape, dtype=bool)
    changed = transform.apply(scan.positions(everywhere), scan.intensities().ravel())
    return changed.reshape(scan.native.shape)


def _unchanged(scan: PreparedScan, extent: Extent) -> FloatArray:
    """Return a scan's own canonical intensities as `render` returns them; raises as `BilateralGrid.apply`."""
    whole = extent == "head"
    intensities = scan.intensities() if whole else scan.intensities_in_box[scan.mask_in_box]
    require_finite("intensities to transform", intensities)
    return intensities if whole else on_brain(scan, intensities)


def truth_fitted(scan: PreparedScan, truth: FloatArray) -> FloatArray:
    """Return a scan through the lock that is fitted to its truth: the best that any contrast could give.

    `truth` is the true target scan at the scan's voxels. Truth and result are in canonical units, shape
    (i, j, k); the result is 0 outside the brain mask.
    """
    source = scan.intensities_in_box[scan.mask_in_box]
    return render(scan, fit_bilateral_grid(brain_positions(scan), source, scan.in_brain(truth)))


def at_native_voxels(scan: PreparedScan, picture: Volume, grid: Grid) -> FloatArray:
    """Return a picture on a grid of template space at the voxels of a scan's brain, 0 outside.

    Interpolated linearly, on the scan's native grid: what the picture's grid cannot show is lost.
    """
    return on_brain(scan, _interpolated(scan, picture.voxels, grid))


def add_change(scan: PreparedScan, change: FloatArray) -> FloatArray:
    """Return a scan's canonical intensities plus a change, on the native grid, 0 outside the brain.

    The scan keeps its own voxels; only the change, on the 2 mm grid, is interpolated, linearly. A change
    finer than 2 mm is therefore lost, and one that varies from voxel to voxel adds its own edges to the scan.
    """
    grid = Grid.working(STATISTICS_ZOOM)
    if lies_on(scan, grid):
        here = change[scan.brain_mask]
    else:
        # Beyond the canonical brain the change goes on, so that the brain's border does not fade.
        here = _interpolated(scan, filled_outward(change, canonical_brain(scan).mask), grid)
    return on_brain(scan, brain_intensities(scan) + here)


def _interpolated(scan: PreparedScan, voxels: FloatArray, grid: Grid) -> FloatArray:
    """Return values on a grid at the voxels of the scan's brain, shape (n,)."""
    places = grid.voxel_of(scan.positions(scan.brain_mask))
    return np.asarray(map_coordinates(voxels, places.T, order=1, mode="nearest"))


def filled_outward(voxels: FloatArray, mask: BoolArray) -> FloatArray:
    """Return a volume in which each voxel outside the mask has the value of the nearest one inside."""
    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(voxels[tuple(nearest)])


def require_grid(brain: CanonicalBrain) -> None:
    """Refuse a training brain that is not on the grid of all fits, `Grid.working(2.0)`."""
    grid, volume = Grid.working(STATISTICS_ZOOM), brain.volume
    if volume.shape != grid.shape or not np.allclose(volume.affine, grid.affine):
        size = "×".join(str(count) for count in volume.shape)
        raise MrharmonyError(f"A training brain of {size} voxels is off the 2 mm template grid; resample it.")
