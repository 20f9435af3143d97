"""A change that is only known on the 2 mm template grid, brought to the voxels of a scan."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from mrharmony.harmonize.per_scan import (
    STATISTICS_ZOOM,
    brain_intensities,
    canonical_brain,
    lies_on,
    on_brain,
)
from mrharmony.prepare import Grid, PreparedScan
from mrharmony.volume import BoolArray, FloatArray, Matrix, MrharmonyError


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
