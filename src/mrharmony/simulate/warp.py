"""Smooth invertible warps of template space: random shape, ventricle size as a known factor, head size.

A warp pulls back: what a head shows at x, the base anatomy shows at warp(x). Random shape is the flow of a
stationary velocity field, so it is invertible by construction (Arsigny et al. 2006, MICCAI, scaling and
squaring). Ventricles grow along the outward normal of their own wall until their volume is the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter
from torch import Tensor

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.simulate.bias import HEAD_CENTRE_MM
from mrharmony.space.sampling import grid_positions, sample, transform

LATTICE_MM = 3.0
LATTICE_SHAPE = (72, 88, 72)
LATTICE_AFFINE = np.array(
    [[LATTICE_MM, 0, 0, -106.5], [0, LATTICE_MM, 0, -147.5], [0, 0, LATTICE_MM, -94.5], [0, 0, 0, 1.0]]
)
SQUARINGS = 5
# Displacement standard deviations (mm) by smoothness (mm, sd of the Gaussian): lobes, gyri, folds.
SHAPE_SCALES = ((28.0, 3.0), (12.0, 1.0), (6.0, 0.7))
VENTRICLE_STEP_MM = 0.6
VENTRICLE_REACH_MM = 22.0
MAX_VENTRICLE_STEPS = 60
PROBE_MM = 2.1
PROBE_MARGIN_MM = 12.0


@dataclass(frozen=True)
class Warp:
    """A displacement field on the coarse lattice of this module, and a linear map before it."""

    displacement: Tensor  # mm, shape (3, i, j, k) on `LATTICE_SHAPE`, float32
    linear: Matrix  # head to base: template mm to template mm, shape (4, 4), applied first

    def pull(self, positions: Tensor, fields: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map positions in the head (mm, shape (n, 3)) to those in the base anatomy.

        Further `fields` on the lattice, shape (c, i, j, k), are read at the same places; their values,
        shape (c, n), are returned too.
        """
        moved = transform(positions, self.linear)
        lattice = self.displacement if fields is None else torch.cat([self.displacement, fields])
        values = sample(lattice, LATTICE_AFFINE, moved, "border")
        return moved + values[:3].T, values[3:]


@lru_cache(maxsize=1)
def lattice_positions() -> Tensor:
    """Lattice points in mm, shape (n, 3)."""
    return grid_positions(LATTICE_SHAPE, LATTICE_AFFINE)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of x → inner first, then outer: u_inner(x) + u_outer(x + u_inner(x)); lattice fields."""
    moved = lattice_positions() + inner.reshape(3, -1).T
    return inner + sample(outer, LATTICE_AFFINE, moved, "border").view_as(inner)


def exponential(velocity: Tensor) -> Tensor:
    """Displacement of a stationary velocity field's flow over unit time (scaling and squaring)."""
    displacement: Tensor = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = compose(displacement, displacement)
    return displacement


def random_shape(rng: np.random.Generator) -> Tensor:
    """Draw a smooth invertible displacement of several mm, shape (3, i, j, k)."""
    return exponential(torch.from_numpy(smooth_noise(rng, SHAPE_SCALES)))


def smooth_noise(rng: np.random.Generator, scales: tuple[tuple[float, float], ...]) -> FloatArray:
    """Draw three fields on the lattice, (3, i, j, k): sums of noise of each smoothness (mm) and deviation."""
    fields = np.zeros((3, *LATTICE_SHAPE), dtype=np.float32)
    for smoothness, deviation in scales:
        noise = rng.standard_normal(fields.shape, dtype=np.float32)
        smooth = gaussian_filter(noise, (0, *[smoothness / LATTICE_MM] * 3), mode="wrap")
        fields += deviation / smooth.std() * smooth
    return fields


def head_size(rng: np.random.Generator, typical: float, spread: float) -> Matrix:
    """Draw a head size, head mm to base mm about the centre of the head, shape (4, 4).

    Each axis lies within ± the share `spread` of the `typical` size relative to the base anatomy; the axes
    differ less from each other than heads do.
    """
    size = typical * (1 + spread * (rng.uniform(-0.7, 0.7) + rng.uniform(-0.3, 0.3, 3)))
    linear = np.diag([*(1 / size), 1.0])
    linear[:3, 3] = HEAD_CENTRE_MM - HEAD_CENTRE_MM / size
    return linear


def ventricle_warp(ventricles: FloatArray, affine: Matrix, factor: float) -> Tensor:
    """Displacement that makes the ventricles `factor` > 0 times as large, pull-back on the lattice.

    Small steps along the wall's normal are composed until the volume is reached; the last step is shortened
    by linear interpolation.

    Parameters
    ----------
    ventricles, affine
        Share of each voxel that is ventricle, shape (i, j, k), and voxel indices to mm; `MrharmonyError` if
        there are none, or they cannot become so large or small.
    factor
        Target volume over present volume.
    """
    if factor == 1:
        return torch.zeros(3, *LATTICE_SHAPE)
    shares = torch.from_numpy(ventricles)[None]
    probes = _probes(ventricles, affine)

    def volume(displacement: Tensor) -> float:
        moved = probes + sample(displacement, LATTICE_AFFINE, probes).T
        return float(sample(shares, affine, moved).sum())

    step = -float(np.sign(factor - 1)) * _normal_field(shares, affine)
    displacement = torch.zeros(3, *LATTICE_SHAPE)
    start = now = volume(displacement)
    for _ in range(MAX_VENTRICLE_STEPS):
        further = compose(displacement, step)
        then = volume(further)
        if abs(then - start) >= abs(factor - 1) * start:
            return displacement + (factor * start - now) / (then - now) * (further - displacement)
        displacement, now = further, then
    raise MrharmonyError(f"the ventricles of this anatomy cannot be made {factor:g} times as large")


def _probes(ventricles: FloatArray, affine: Matrix) -> Tensor:
    """Regular points (mm, shape (n, 3)) around the ventricles at which their volume is measured.

    They lie off the lattice, since between its points the displacement is smoother than on them.
    """
    box = find_objects((ventricles > 0.1).astype(np.int8))
    if not box:
        raise MrharmonyError("this anatomy has no ventricles to enlarge or shrink")
    corners = np.array([[span.start, span.stop] for span in box[0]]).T
    world = np.sort(corners @ affine[:3, :3].T + affine[:3, 3], axis=0)
    low, high = world[0] - PROBE_MARGIN_MM, world[1] + PROBE_MARGIN_MM
    grid = np.diag([PROBE_MM, PROBE_MM, PROBE_MM, 1.0])
    grid[:3, 3] = low
    i, j, k = np.ceil((high - low) / PROBE_MM).astype(int)
    return grid_positions((i, j, k), grid)


def _normal_field(shares: Tensor, affine: Matrix) -> Tensor:
    """Steps outward along the ventricle wall's normal (mm), fading with distance, shape (3, i, j, k)."""
    inside = sample(shares, affine, lattice_positions()).numpy().reshape(LATTICE_SHAPE) > 0.5
    distance = distance_transform_edt(~inside, LATTICE_MM) - distance_transform_edt(inside, LATTICE_MM)
    normal = np.stack(np.gradient(gaussian_filter(distance, 1.0), LATTICE_MM))
    fading = np.maximum(1 - np.maximum(distance, 0) / VENTRICLE_REACH_MM, 0) ** 2
    return torch.from_numpy((VENTRICLE_STEP_MM * fading * normal).astype(np.float32))
