"""Canonical brains: a scan's brain on a grid in template millimetres, and what methods take from a scan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.preparation.prepared import PreparedScan, voxel_positions
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import resample_brain

STATISTICS_ZOOM = 2.0  # mm


class CanonicalBrain(NamedTuple):
    """A brain in canonical units on a grid, with its mask there."""

    volume: Volume  # on a grid in template mm
    mask: BoolArray
    scale: float  # native intensity that became 1 (`PreparedScan.scale`)

    def positions(self) -> FloatArray:
        """Return the positions of the brain's voxels, template mm, shape (n, 3)."""
        return voxel_positions(self.mask, self.volume.affine)


def brain_on_grid(scan: PreparedScan) -> CanonicalBrain:
    """Return a scan's brain on the 2 mm grid that domains are fitted on; not resampled if it lies on it."""
    grid = Grid.working(STATISTICS_ZOOM)
    if lies_on(scan, grid):
        volume = Volume(np.where(scan.brain_mask, scan.intensities(), 0), grid.affine)
        return CanonicalBrain(volume, scan.brain_mask, scan.scale)
    return CanonicalBrain(*scan.canonical(grid), scan.scale)


def at_working_zoom(brain: CanonicalBrain) -> CanonicalBrain:
    """Return a brain on the 2 mm grid that domains are fitted on; resampled if it lies on another."""
    grid = Grid.working(STATISTICS_ZOOM)
    if brain.volume.shape == grid.shape and np.allclose(brain.volume.affine, grid.affine):
        return brain
    voxels, mask = resample_brain(brain.volume, brain.mask, grid.shape, grid.affine)
    return CanonicalBrain(Volume(voxels, grid.affine), mask, brain.scale)


def canonical_brain(scan: PreparedScan) -> CanonicalBrain:
    """Return `brain_on_grid(scan)`, computed once a scan."""
    return scan.once(brain_on_grid)


def brain_positions(scan: PreparedScan) -> FloatArray:
    """Return the positions of the native brain voxels, template mm, shape (n, 3), computed once a scan."""
    return scan.once(_brain_positions)


def _brain_positions(scan: PreparedScan) -> FloatArray:
    return scan.positions(scan.brain_mask)


def lies_on(scan: PreparedScan, grid: Grid) -> bool:
    """Return whether a scan's native voxels lie on the grid's, so that nothing has to be resampled."""
    return scan.native.shape == grid.shape and np.allclose(
        scan.rigid_to_template @ scan.native.affine, grid.affine
    )


def on_brain(scan: PreparedScan, values: NDArray[np.floating]) -> FloatArray:
    """Return voxels of shape (i, j, k) with these values, shape (n,), in the native brain and 0 outside."""
    inside = np.zeros(scan.mask_in_box.shape, dtype=np.float32)
    inside[scan.mask_in_box] = values
    voxels = np.zeros(scan.native.shape, dtype=np.float32, order="F")  # as files have them
    voxels[scan.box] = inside
    return voxels


def brain_intensities(scan: PreparedScan) -> FloatArray:
    """Return the canonical intensities of the native brain voxels, shape (n,)."""
    # Two divisions, each rounded: `PreparedScan.intensities` may differ from this in the last bit.
    corrected = scan.in_brain(scan.native.voxels) / scan.in_brain(scan.bias_field)
    return np.asarray(corrected / np.float32(scan.scale), dtype=np.float32)
