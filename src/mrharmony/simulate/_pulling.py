"""Pull a base anatomy through a warp onto a grid, and fold its soft maps into one person's tissues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from mrharmony.prepare.grid import Grid
from mrharmony.simulate._resample import sample, voxel_positions
from mrharmony.simulate.anatomy import CSF, WM, Anatomy
from mrharmony.simulate.warp import LATTICE_AFFINE, LATTICE_SHAPE, Warp, lattice_positions
from mrharmony.volume import Matrix

VOXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Folding:
    """How soft base maps become one person's tissues: p_t ∝ (p_t exp(bias_t + noise_t)) ** sharpness.

    Parameters
    ----------
    sharpness
        1 keeps the maps; the average of many people needs about 3 to look like one.
    csf_bias
        Log-odds given to CSF, so that narrow sulci survive the sharpening.
    noise
        Scale of the random log-odds of CSF and WM.
    """

    sharpness: float
    csf_bias: float
    noise: float


def pull_head(
    base: Anatomy, grid: Grid, warp: Warp, folding: Folding, noise: Tensor, ventricle_scale: float
) -> Anatomy:
    """Show a base anatomy through a warp, folded anew.

    Parameters
    ----------
    base
        The anatomy to pull.
    grid
        Where to show it; where the base is finer than the grid, voxels are averages of it.
    warp
        Grid mm to base mm.
    folding, noise
        How tissues are sharpened and perturbed; noise of CSF, WM, myelination on the lattice, (3, i, j, k).
    ventricle_scale
        What the warp does to the ventricles, for the record.
    """
    maps = torch.from_numpy(np.concatenate([base.tissues, base.ventricles[None], base.myelination[None]]))
    voxels = _reach(base, grid, warp)
    centres = voxel_positions(grid.affine, voxels)
    points = _points_within_voxel(grid.affine, finer=grid.affine[0, 0] > 1.5 * base.zooms[0])
    filled = np.empty((6, len(centres)), dtype=np.float32)
    for chunk in range(0, len(centres), VOXELS_AT_ONCE):
        here = slice(chunk, chunk + VOXELS_AT_ONCE)
        parts = []
        for point in points:
            positions, local_noise = warp.pull(centres[here] + point, noise)
            parts.append(_fold(sample(maps, base.affine, positions), local_noise, folding))
        filled[:, here] = torch.stack(parts).mean(dim=0).numpy()
    whole = np.zeros((6, *grid.shape), dtype=np.float32)
    i, j, k = voxels
    whole[:, i, j, k] = filled
    return Anatomy(whole[:4], whole[5], whole[4], grid.affine, ventricle_scale)


def _fold(maps: Tensor, noise: Tensor, folding: Folding) -> Tensor:
    """Sharpen and perturb tissue shares; keep how much brain a voxel holds and which CSF is ventricle."""
    tissues, ventricles, myelination = maps[:4], maps[4], maps[5]
    brain = tissues.sum(dim=0)
    ventricular = (ventricles / tissues[CSF].clamp_min(1e-6)).clamp_max(1)
    weights = tissues**folding.sharpness
    bias = folding.csf_bias + folding.noise * noise[0] * (1 - ventricular)
    weights[CSF] *= (folding.sharpness * bias).exp()
    weights[WM] *= (folding.sharpness * folding.noise * noise[1]).exp()
    folded = weights * (brain / weights.sum(dim=0).clamp_min(1e-12))
    level = (myelination + noise[2]).clamp(0, 1)
    return torch.cat([folded, (folded[CSF] * ventricular)[None], level[None]])


def _points_within_voxel(affine: Matrix, finer: bool) -> Tensor:
    """Offsets (mm) of the points that stand for a voxel, shape (n, 3).

    Its centre; or, where the base is finer than the grid, the centres of four of its eight octants that
    share no face: their mean is the voxel's average to first order at half of the cost.
    """
    corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]] if finer else [[0, 0, 0]]
    return torch.from_numpy((0.25 * np.array(corners) @ affine[:3, :3].T).astype(np.float32))


def _reach(base: Anatomy, grid: Grid, warp: Warp) -> tuple[NDArray[np.intp], ...]:
    """Indices of the grid's voxels that may hold brain: found on the lattice, with a margin of one point."""
    brain = torch.from_numpy(base.tissues.sum(axis=0))[None]
    share = sample(brain, base.affine, warp.pull(lattice_positions())[0])
    near = maximum_filter(share[0].numpy().reshape(LATTICE_SHAPE) > 0.05, size=3)
    inverse = np.linalg.inv(LATTICE_AFFINE) @ grid.affine
    nearest = [
        np.clip(
            np.round(inverse[axis, axis] * np.arange(size) + inverse[axis, 3]), 0, LATTICE_SHAPE[axis] - 1
        )
        for axis, size in enumerate(grid.shape)
    ]
    return np.nonzero(near[np.ix_(*(index.astype(np.intp) for index in nearest))])
