"""A brain on a grid in template millimetres, ready for statistics.

What a fitted method asks of a scan, once a scan.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import resample_brain


class CanonicalBrain(NamedTuple):
    """A scan ready for statistics.

    Parameters
    ----------
    volume
        Brain in canonical units on a grid in template mm.
    mask
        Its brain mask on the same grid.
    scale
        Native intensity that became 1 (`PreparedScan.scale`).
    """

    volume: Volume
    mask: BoolArray
    scale: float

    def positions(self) -> FloatArray:
        """Return where the brain's voxels lie, template mm, shape (n, 3)."""
        affine = self.volume.affine
        return np.asarray(np.argwhere(self.mask) @ affine[:3, :3].T + affine[:3, 3], np.float32)


STATISTICS_ZOOM = 2.0  # mm


def brain_on_grid(scan: PreparedScan) -> CanonicalBrain:
    """Return a scan on the 2 mm grid that domains are fitted on; its own voxels where they are the grid's."""
    grid = Grid.working(STATISTICS_ZOOM)
    if lies_on(scan, grid):
        volume = Volume(np.where(scan.brain_mask, scan.intensities(), 0), grid.affine)
        return CanonicalBrain(volume, scan.brain_mask, scan.scale)
    return CanonicalBrain(*scan.canonical(grid), scan.scale)


def at_working_zoom(brain: CanonicalBrain) -> CanonicalBrain:
    """Return a brain on the 2 mm grid that domains are fitted on; resampled where it lies on another."""
    grid = Grid.working(STATISTICS_ZOOM)
    if brain.volume.shape == grid.shape and np.allclose(brain.volume.affine, grid.affine):
        return brain
    voxels, mask = resample_brain(brain.volume, brain.mask, grid.shape, grid.affine)
    return CanonicalBrain(Volume(voxels, grid.affine), mask, brain.scale)


def canonical_brain(scan: PreparedScan) -> CanonicalBrain:
    """Return `brain_on_grid(scan)`, computed once a scan."""
    return scan.once(brain_on_grid)


def brain_positions(scan: PreparedScan) -> FloatArray:
    """Return where the native brain voxels lie, template mm, shape (n, 3); computed once a scan."""
    return scan.once(_brain_positions)


def _brain_positions(scan: PreparedScan) -> FloatArray:
    return scan.positions(scan.brain_mask)


def lies_on(scan: PreparedScan, grid: Grid) -> bool:
    """Return whether a scan's native voxels are the grid's, so that nothing has to be resampled."""
    return scan.native.shape == grid.shape and np.allclose(
        scan.rigid_to_template @ scan.native.affine, grid.affine
    )


def on_brain(scan: PreparedScan, values: NDArray[np.floating]) -> FloatArray:
    """Return a volume on the native grid with these values in the brain, shape (n,), and 0 outside."""
    voxels = np.zeros(scan.native.shape, dtype=np.float32)
    voxels[scan.brain_mask] = values
    return voxels


def brain_intensities(scan: PreparedScan) -> FloatArray:
    """Return the canonical intensities of the native brain voxels, shape (n,)."""
    corrected = scan.native.voxels[scan.brain_mask] / scan.bias_field[scan.brain_mask]
    return np.asarray(corrected / np.float32(scan.scale), dtype=np.float32)
