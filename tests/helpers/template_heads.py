"""What the brains and heads of these tests are made of."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from mrharmony.core.volume import FloatArray, Matrix, Volume
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import AVERAGE_FOLDING, average_anatomy, pull_head
from mrharmony.simulate.warp import LATTICE_SHAPE, Warp
from mrharmony.space.grid import Grid
from mrharmony.space.template import template

MARKER = (-40.0, -20.0, 15.0)  # template mm: deep in the left hemisphere


def marker_position(canonical: Volume) -> NDArray[np.float64]:
    """Find the bright ball of the `brain` fixture in a canonical brain, in template mm."""
    bright = canonical.voxels > 0.75 * canonical.voxels.max()
    place: NDArray[np.float64] = np.argwhere(bright).mean(axis=0)
    return place @ canonical.affine[:3, :3] + canonical.affine[:3, 3]


def on_grid(voxels: NDArray[np.generic], shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Sample a template map on another grid of template space."""
    zoom = np.linalg.norm(affine[:3, :3], axis=0).mean()
    smooth = gaussian_filter(voxels.astype(np.float32), np.sqrt(max(zoom**2 - 1, 0)) / 2.3548)
    to_template = np.linalg.inv(template().affine) @ affine
    sampled: FloatArray = affine_transform(smooth, to_template[:3, :3], to_template[:3, 3], shape, order=1)
    return sampled


def template_anatomy(grid: Grid) -> Anatomy:
    """Return the average head on a grid, sharpened to resemble one person's."""
    silent = torch.zeros(3, *LATTICE_SHAPE)
    return pull_head(average_anatomy(), grid, Warp(silent, np.eye(4)), AVERAGE_FOLDING, silent, 1.0)
