"""Virtual heads: a base anatomy, the average or a real person's, made into a new person.

The base is pulled through a warp onto a grid, and its soft maps are folded into one person's tissues.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.simulate.anatomy import CSF, WM, Anatomy, myelination_map, template_maps, ventricle_region
from mrharmony.simulate.known_factors import add_lesions, random_blobs, thin_cortex
from mrharmony.simulate.warp import (
    LATTICE_AFFINE,
    LATTICE_SHAPE,
    Warp,
    compose,
    head_size,
    lattice_positions,
    random_shape,
    smooth_noise,
    ventricle_warp,
)
from mrharmony.space.grid import Grid
from mrharmony.space.sampling import sample, voxel_positions

VOXELS_AT_ONCE = 1 << 18
HEAD_SIZE_SPREAD = 0.08
# MNI space is larger than people: the mean head is about 0.92 of it along each axis (Lancaster et al. 2007,
# Hum Brain Mapp 28:1194).
AVERAGE_SIZE = 0.92
VENTRICLE_RANGE = (0.6, 2.5)
# Folds differ between people where the average is undecided: log-odds noise, sd by smoothness in mm.
FOLD_SCALES = ((9.0, 0.35), (3.5, 0.55))
MYELIN_NOISE = 0.10


@dataclass(frozen=True)
class Folding:
    """How soft base maps become one person's tissues: p_t ∝ (p_t exp(bias_t + noise_t)) ** sharpness."""

    sharpness: float  # 1 keeps the maps; the average of many people needs about 3 to resemble one
    csf_bias: float  # log-odds given to CSF, so that narrow sulci survive the sharpening
    noise: float  # scale of the random log-odds of CSF and WM


def pull_head(
    base: Anatomy, grid: Grid, warp: Warp, folding: Folding, noise: Tensor, ventricle_scale: float
) -> Anatomy:
    """Sample a base anatomy on a grid through a warp (grid mm to base mm), and fold its tissues.

    Where the base is finer than the grid, voxels are averages of it. The noise of CSF, WM and myelination has
    shape (3, i, j, k) on the lattice; `ventricle_scale` is what the warp does to the ventricles, for the
    record.
    """
    around = () if base.around is None else (base.around,)
    stacked = np.concatenate([base.tissues, base.ventricles[None], base.myelination[None], *around])
    maps = torch.from_numpy(stacked)
    voxels = voxels_near(base.filled, base.affine, grid, warp)
    centres = voxel_positions(grid.affine, voxels)
    points = _points_within_voxel(grid.affine, finer=grid.affine[0, 0] > 1.5 * base.zooms[0])
    filled = np.empty((len(maps), len(centres)), dtype=np.float32)
    for chunk in range(0, len(centres), VOXELS_AT_ONCE):
        here = slice(chunk, chunk + VOXELS_AT_ONCE)
        parts = []
        for point in points:
            positions, local_noise = warp.pull(centres[here] + point, noise)
            parts.append(_fold(sample(maps, base.affine, positions), local_noise, folding))
        filled[:, here] = torch.stack(parts).mean(dim=0).numpy()
    whole = np.zeros((len(maps), *grid.shape), dtype=np.float32)
    i, j, k = voxels
    whole[:, i, j, k] = filled
    return Anatomy(
        whole[:4], whole[5], whole[4], grid.affine, ventricle_scale, around=whole[6:] if around else None
    )


def _fold(maps: Tensor, noise: Tensor, folding: Folding) -> Tensor:
    """Sharpen and perturb tissue shares; keep how much brain a voxel holds and which CSF is ventricle.

    What lies around the brain, from the seventh map on, stays as it is.
    """
    tissues, ventricles, myelination = maps[:4], maps[4], maps[5]
    brain = tissues.sum(dim=0)
    ventricular = (ventricles / tissues[CSF].clamp_min(1e-6)).clamp_max(1)
    weights = tissues**folding.sharpness
    bias = folding.csf_bias + folding.noise * noise[0] * (1 - ventricular)
    weights[CSF] *= (folding.sharpness * bias).exp()
    weights[WM] *= (folding.sharpness * folding.noise * noise[1]).exp()
    folded = weights * (brain / weights.sum(dim=0).clamp_min(1e-12))
    level = (myelination + noise[2]).clamp(0, 1)
    return torch.cat([folded, (folded[CSF] * ventricular)[None], level[None], maps[6:]])


def _points_within_voxel(affine: Matrix, finer: bool) -> Tensor:
    """Offsets (mm) of the points that stand for a voxel, shape (n, 3).

    Its centre; or, where the base is finer than the grid, the centres of four of its eight octants that
    share no face: their mean is the voxel's average to first order at half of the cost.
    """
    corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]] if finer else [[0, 0, 0]]
    return torch.from_numpy((0.25 * np.array(corners) @ affine[:3, :3].T).astype(np.float32))


def voxels_near(brain: FloatArray, affine: Matrix, grid: Grid, warp: Warp) -> tuple[NDArray[np.intp], ...]:
    """Indices of the grid's voxels that may hold brain: found on the lattice, with a margin of one point.

    `brain` is the base's share of brain, or of all that is to be found, shape (i, j, k), `affine` its voxel
    indices to mm; the warp leads from the grid's mm to those.
    """
    share = sample(torch.from_numpy(brain)[None], affine, warp.pull(lattice_positions())[0])
    near = maximum_filter(share[0].numpy().reshape(LATTICE_SHAPE) > 0.05, size=3)
    inverse = np.linalg.inv(LATTICE_AFFINE) @ grid.affine
    nearest = [
        np.clip(
            np.round(inverse[axis, axis] * np.arange(size) + inverse[axis, 3]), 0, LATTICE_SHAPE[axis] - 1
        )
        for axis, size in enumerate(grid.shape)
    ]
    return np.nonzero(near[np.ix_(*(index.astype(np.intp) for index in nearest))])


AVERAGE_FOLDING = Folding(sharpness=3.0, csf_bias=0.5, noise=1.0)
PERSON_FOLDING = Folding(sharpness=1.0, csf_bias=0.0, noise=0.35)


@lru_cache(maxsize=1)
def average_anatomy() -> Anatomy:
    """Return the average head's soft maps at 1 mm, made once in the process."""
    tissues, affine = template_maps()
    shape = tissues.shape[1:]
    ventricles = tissues[CSF] * ventricle_region(shape, affine)
    return Anatomy(tissues, myelination_map(shape, affine), ventricles, affine)


def virtual_head(
    rng: np.random.Generator,
    grid: Grid,
    base: Anatomy | None = None,
    ventricle_scale: float | None = None,
    *,
    pose: Matrix | None = None,
    cortical_thinning: float = 0.0,
    lesions_ml: float = 0.0,
) -> Anatomy:
    """Make a new person: random shape, folds, head size, myelination; biology by known factors.

    Parameters
    ----------
    rng
        Source of everything random.
    grid
        Where to put the head.
    base
        The anatomy to start from, for instance `segment_brain` of a real brain; `None` is the average.
    ventricle_scale
        Ventricle volume over that of the same head with factor 1, 0.3..4; `None` draws it from 0.6..2.5,
        log-uniformly.
    pose
        The grid's millimetres to template millimetres, rigid, shape (4, 4): how the head lies in the
        scanner; `None` leaves it in template space.
    cortical_thinning
        Share of the cerebral cortex that becomes CSF, 0..0.5 (`thin_cortex`).
    lesions_ml
        Volume of white-matter lesions, 0..60 ml (`add_lesions`).

    Returns
    -------
    Anatomy
        On the grid, with the factors set; the same `rng` with other factors gives the same person.

    Raises
    ------
    ValueError
        If the ventricle scale is out of range.
    MrharmonyError
        If another factor is, or this anatomy cannot have it.
    """
    drawn = float(np.exp(rng.uniform(*np.log(VENTRICLE_RANGE))))
    factor = drawn if ventricle_scale is None else ventricle_scale
    if not 0.3 <= factor <= 4:
        raise ValueError(f"ventricle_scale must lie within 0.3..4, not {factor:g}")
    source = average_anatomy() if base is None else base
    folding = AVERAGE_FOLDING if base is None else PERSON_FOLDING
    typical = AVERAGE_SIZE if base is None else 1.0
    linear = head_size(rng, typical, HEAD_SIZE_SPREAD) @ (np.eye(4) if pose is None else pose)
    shape = random_shape(rng)
    noise = _random_fields(rng)
    ventricles = ventricle_warp(source.ventricles, source.affine, factor)
    warp = Warp(compose(ventricles, shape), linear)
    head = pull_head(source, grid, warp, folding, noise, factor)
    head = thin_cortex(head, cortical_thinning, linear)
    return add_lesions(head, random_blobs(rng), lesions_ml, linear) if lesions_ml else head


def _random_fields(rng: np.random.Generator) -> Tensor:
    """Log-odds noise of CSF and of WM, and myelination noise, on the lattice, shape (3, i, j, k)."""
    fields = smooth_noise(rng, FOLD_SCALES)
    fields[2] *= MYELIN_NOISE / fields[2].std()
    return torch.from_numpy(fields)
