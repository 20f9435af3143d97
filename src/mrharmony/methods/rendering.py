"""From a fitted transform to the harmonized scan: native voxels, the target's units, evidence.

A change that is only known on the 2 mm template grid, brought to the voxels of a scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.domains.statistics import DomainStatistics, target_statistics
from mrharmony.evidence.drift import scan_evidence
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.prepare.canonical import (
    STATISTICS_ZOOM,
    brain_intensities,
    brain_positions,
    canonical_brain,
    lies_on,
    on_brain,
)
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.space.grid import Grid

Extent = Literal["brain", "head"]
_USUAL = LockSettings()


def lock_of(extent: Extent, settings: LockSettings = _USUAL) -> LockSettings:
    """Return the lock for an extent: where the air around the head is transformed too, black stays black."""
    return settings if extent == "brain" else settings.model_copy(update={"lift": 0})


def through_lock(
    scan: PreparedScan,
    transform: BilateralGrid,
    method: str,
    source: Domain | None,
    target: Domain,
    statistics: Mapping[str, DomainStatistics],
    extent: Extent = "brain",
) -> HarmonizedVolume:
    """Return a scan through its fitted transform, with evidence and provenance.

    Parameters
    ----------
    scan, transform
        The prepared scan, and the transform of its canonical intensities.
    method, source, target
        How and between which domains the transform was found.
    statistics
        Of every known domain, by name; they give the output its units.
    extent
        `brain` or `head`; see `render`.

    Raises
    ------
    MrharmonyError
        If the target domain is unknown.
    """
    scale = output_scale(scan, source, target, statistics)
    volume = render(scan, transform, scale, extent)
    provenance: dict[str, object] = {
        "method": method,
        "extent": extent,
        "slope_range": list(transform.slope_range),
        "change_per_mm": transform.change_per_mm,
    }
    return HarmonizedVolume(
        volume, scale, scan_evidence(scan, volume, scale, target_statistics(statistics, target)), provenance
    )


def in_target_units(
    scan: PreparedScan,
    intensities: FloatArray,
    source: Domain | None,
    target: Domain,
    statistics: Mapping[str, DomainStatistics],
    provenance: dict[str, object],
) -> HarmonizedVolume:
    """Return what a method without the lock made of a scan's brain, with evidence.

    Parameters
    ----------
    scan
        The prepared scan.
    intensities
        Canonical units, shape (i, j, k), 0 outside the brain.
    source, target, statistics
        As of `through_lock`.
    provenance
        Name of the method, and what else is to be known.

    Raises
    ------
    MrharmonyError
        If the target domain is unknown.
    """
    scale = output_scale(scan, source, target, statistics)
    volume = scan.native.with_voxels(intensities * np.float32(scale))
    evidence = scan_evidence(scan, volume, scale, target_statistics(statistics, target))
    return HarmonizedVolume(volume, scale, evidence, {**provenance, "extent": "brain"})


def truth_fitted(scan: PreparedScan, truth: FloatArray) -> FloatArray:
    """Return a scan through the lock that is fitted to its truth: the best that any look could give.

    Parameters
    ----------
    scan
        The prepared scan.
    truth
        Canonical intensities of the true target scan at the scan's voxels, shape (i, j, k).

    Returns
    -------
    Canonical intensities, shape (i, j, k), 0 outside the brain mask.
    """
    mask = scan.brain_mask
    positions, intensities = brain_positions(scan), scan.intensities(mask)
    lock = fit_bilateral_grid(positions, intensities, truth[mask])
    return on_brain(scan, lock.apply(positions, intensities))


def output_scale(
    scan: PreparedScan, source: Domain | None, target: Domain, statistics: Mapping[str, DomainStatistics]
) -> float:
    """Return the native intensity that 1 canonical unit becomes in the output.

    The scan's own if it stays in its domain, so that identity is exact; else the target domain's typical one.
    """
    if source is not None and source.name == target.name:
        return scan.scale
    return target_statistics(statistics, target).scale


def render(scan: PreparedScan, transform: BilateralGrid, scale: float, extent: Extent = "brain") -> Volume:
    """Return scale · T(x, s) at the scan's own voxels, without resampling.

    Parameters
    ----------
    scan
        The prepared scan; s are its bias-corrected canonical intensities.
    transform
        T, in template mm and canonical units.
    scale
        Native intensity of 1 canonical unit in the output.
    extent
        `brain` sets voxels outside the brain mask to 0; `head` transforms all voxels.
    """
    if extent == "brain":
        intensities = scan.intensities(scan.brain_mask)
        changed = transform.apply(brain_positions(scan), intensities)
        return scan.native.with_voxels(on_brain(scan, changed * np.float32(scale)))
    everywhere = np.ones(scan.native.shape, dtype=bool)
    changed = transform.apply(scan.positions(everywhere), scan.intensities().ravel())
    return scan.native.with_voxels((changed * np.float32(scale)).reshape(scan.native.shape))


def add_change(scan: PreparedScan, change: FloatArray) -> FloatArray:
    """Return a scan's canonical intensities plus a change, on the native grid, 0 outside the brain.

    The scan keeps its own voxels; only the change is interpolated, linearly. A change finer than 2 mm is
    therefore lost, and one that varies from voxel to voxel adds its own edges to the scan.

    Parameters
    ----------
    scan
        The prepared scan.
    change
        Canonical units, on `Grid.working(2.0)`, meaningful in the brain.
    """
    grid = Grid.working(STATISTICS_ZOOM)
    if lies_on(scan, grid):
        here = change[scan.brain_mask]
    else:
        # Beyond the canonical brain the change goes on, so that the brain's border does not fade.
        everywhere = filled_outward(change, canonical_brain(scan).mask)
        voxels = grid.voxel_of(scan.positions(scan.brain_mask))
        here = map_coordinates(everywhere, voxels.T, order=1, mode="nearest")
    return on_brain(scan, brain_intensities(scan) + here)


def filled_outward(voxels: FloatArray, mask: BoolArray) -> FloatArray:
    """Return a volume in which each voxel outside the mask has the value of the nearest one inside.

    Parameters
    ----------
    voxels, mask
        Shape (i, j, k).
    """
    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(voxels[tuple(nearest)])


def require_grid(shape: tuple[int, int, int], affine: Matrix) -> None:
    """Refuse a training brain that lies on another grid than the one of all fits.

    Raises
    ------
    MrharmonyError
        If shape or affine differ from `Grid.working(2.0)`.
    """
    grid = Grid.working(STATISTICS_ZOOM)
    if shape != grid.shape or not np.allclose(affine, grid.affine):
        size = "×".join(str(count) for count in shape)
        raise MrharmonyError(
            f"A training brain of {size} voxels is not on the 2 mm template grid; resample it."
        )
