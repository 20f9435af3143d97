"""Heads for measured sites: label maps warped into new people, as shares of structures in every voxel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy
from mrharmony.simulate.heads import HEAD_SIZE_SPREAD, voxels_near
from mrharmony.simulate.known_factors import GREY_SHARE
from mrharmony.simulate.label_maps import FLUID, STRUCTURES, VENTRICLES, LabelMap
from mrharmony.simulate.warp import (
    Warp,
    compose,
    head_size,
    random_shape,
    smooth_noise,
    ventricle_warp,
)
from mrharmony.space.grid import Grid
from mrharmony.space.sampling import nearest_values, sample, voxel_positions

NAMES = tuple(STRUCTURES)
WHITE = (
    "cerebral-white-matter", "cerebellar-white-matter", "brain-stem", "ventral-diencephalon", "optic-chiasm",
)  # fmt: skip
DEEP_GREY = ("thalamus", "caudate", "putamen", "pallidum", "accumbens")
# Volume of the lateral and third ventricles at a ventricle scale of 1 (45 years).
VENTRICLES_ML = 20.0
FACTOR_LIMITS = (0.3, 4.0)
TEXTURE_SCALES = ((10.0, 1.0), (5.0, 0.8))  # smoothness in mm, weight
POINTS_EACH_WAY = 3  # within a voxel, along each axis


@dataclass(frozen=True, eq=False)
class LabelledHead:
    """A person at a measured site.

    Parameters
    ----------
    anatomy
        The tissues, which are the truth; skull-stripped.
    shares
        Share of each voxel that each of `STRUCTURES` has, float32, shape (structures, i, j, k), sum 1; all
        that lies around the brain is fluid.
    scores
        How far the person's level of each structure lies from the mean, in standard deviations, shape
        (structures,).
    texture
        Smooth variation within structures, mean 0, standard deviation about 1, shape (i, j, k).
    """

    anatomy: Anatomy
    shares: FloatArray
    scores: FloatArray
    texture: FloatArray

    def crop(self, margin_mm: float) -> LabelledHead:
        """Return the brain with a margin."""
        box = self.anatomy.box(margin_mm)
        return replace(
            self, anatomy=self.anatomy.crop(*box), shares=self.shares[:, *box], texture=self.texture[box]
        )


def labelled_head(
    rng: np.random.Generator, grid: Grid, base: LabelMap, ventricle_scale: float, pose: Matrix
) -> LabelledHead:
    """Make a new person from a label map: random shape, head size and brightness, and ventricles of a volume.

    Parameters
    ----------
    rng
        Source of everything random.
    grid, pose
        Where to put the head, and the grid's millimetres to template millimetres, rigid, shape (4, 4).
    base
        A label map in template millimetres.
    ventricle_scale
        Volume of the lateral and third ventricles over 20 ml, before the random shape changes it a little. A
        base whose ventricles would have to change by more than 0.3 to 4 times has the nearest that it can.
    """
    ventricles = base.where(*VENTRICLES)
    base_ml = ventricles.sum() * float(np.prod(base.zooms)) / 1000
    factor = float(np.clip(ventricle_scale * VENTRICLES_ML / base_ml, *FACTOR_LIMITS))
    linear = head_size(rng, 1.0, HEAD_SIZE_SPREAD) @ pose
    growth = ventricle_warp(*_axis_aligned(ventricles.astype(np.float32), base.affine), factor)
    warp = Warp(compose(growth, random_shape(rng)), linear)
    noise = torch.from_numpy(smooth_noise(rng, TEXTURE_SCALES))[:1]
    scores = rng.standard_normal(len(NAMES)).astype(np.float32)
    shares, brain, texture = _pull(base, grid, warp, noise / noise.std())
    anatomy = _anatomy(shares * brain, grid.affine, factor * base_ml / VENTRICLES_ML)
    return LabelledHead(anatomy, shares, scores, texture)


def _axis_aligned(ventricles: FloatArray, affine: Matrix) -> tuple[FloatArray, Matrix]:
    """Resample the ventricles on the axes of template space at 2 mm."""
    grid = Grid.working(2.0)
    places = voxel_positions(grid.affine, tuple(np.indices(grid.shape).reshape(3, -1)))
    seen = sample(torch.from_numpy(ventricles)[None], affine, places)
    return seen.numpy().reshape(grid.shape), grid.affine


def _pull(base: LabelMap, grid: Grid, warp: Warp, noise: Tensor) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count the labels at points within each voxel; return structures, brain (both shares) and texture."""
    codes = _codes(base)
    voxels = voxels_near(base.brain_mask.astype(np.float32), base.affine, grid, warp)
    centres = voxel_positions(grid.affine, voxels)
    places, texture_there = warp.pull(centres, noise)
    counts = np.zeros((2 * len(NAMES), len(centres)), dtype=np.float32)
    # Within a voxel the displacement hardly changes, since it is smooth on a lattice of 3 mm.
    points = _points(grid) @ torch.from_numpy(warp.linear[:3, :3].T.astype(np.float32))
    for point in points:
        seen = nearest_values(codes, base.affine, places + point)
        counts[seen, np.arange(len(centres))] += 1 / len(points)
    inside, outside = counts.reshape(2, len(NAMES), -1)
    shares = np.zeros((len(NAMES), *grid.shape), dtype=np.float32)
    shares[NAMES.index("outer-csf")] = 1
    i, j, k = voxels
    shares[:, i, j, k] = inside + outside
    brain, texture = np.zeros((2, *grid.shape), dtype=np.float32)
    brain[voxels] = inside.sum(axis=0)
    texture[voxels] = texture_there[0].numpy()
    return shares, brain, texture


def _codes(base: LabelMap) -> NDArray[np.uint8]:
    """Number of the structure in each voxel, and the structures' count more outside the brain mask.

    What is no structure is outer fluid.
    """
    of_label = np.full(int(base.labels.max()) + 1, NAMES.index("outer-csf"), dtype=np.uint8)
    for number, labels in enumerate(STRUCTURES.values()):
        of_label[[label for label in labels if label < len(of_label)]] = number
    return np.where(base.brain_mask, of_label[base.labels], of_label[base.labels] + np.uint8(len(NAMES)))


def _points(grid: Grid) -> Tensor:
    """Offsets (mm) of regular points within a voxel, shape (n, 3)."""
    steps = (np.indices((POINTS_EACH_WAY,) * 3).reshape(3, -1).T + 0.5) / POINTS_EACH_WAY - 0.5
    return torch.from_numpy((steps * grid.zooms).astype(np.float32))


def _anatomy(shares: FloatArray, affine: Matrix, ventricle_scale: float) -> Anatomy:
    """Return the tissues that structures consist of, as the first simulator has them."""
    lesions = shares[NAMES.index("lesion")]
    fluid, white, deep = (_sum(shares, names) for names in (FLUID, WHITE, DEEP_GREY))
    tissues = np.empty((4, *lesions.shape), dtype=np.float32)
    tissues[CSF], tissues[DEEP_GM] = fluid, deep
    tissues[WM] = white + (1 - GREY_SHARE) * lesions
    tissues[CORTICAL_GM] = shares.sum(axis=0) - fluid - white - deep - (1 - GREY_SHARE) * lesions
    myelination = np.full(lesions.shape, 0.5, dtype=np.float32)
    ventricles = _sum(shares, VENTRICLES)
    return Anatomy(tissues, myelination, ventricles, affine, ventricle_scale, lesions=lesions)


def _sum(shares: FloatArray, names: tuple[str, ...]) -> FloatArray:
    return np.asarray(shares[[NAMES.index(name) for name in names]].sum(axis=0))
