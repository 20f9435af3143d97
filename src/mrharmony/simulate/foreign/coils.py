"""Receive fields of loops around the head: each sees near tissue brighter, as Biot and Savart have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.simulate.bias import HEAD_CENTRE_MM, HEAD_RADIUS_MM
from mrharmony.simulate.foreign.sites import CoilArray

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
UNEQUAL_SEED = 7


def loop_centres(coils: CoilArray) -> NDArray[np.float64]:
    """Return the loops' centres in scanner mm, shape (n, 3): a spiral around the head."""
    height = coils.lowest + (1 - coils.lowest) * (np.arange(coils.elements) + 0.5) / coils.elements
    angle = GOLDEN_ANGLE * np.arange(coils.elements)
    around = np.sqrt(1 - height**2)
    directions = np.stack([around * np.cos(angle), around * np.sin(angle), height], axis=1)
    return np.asarray(HEAD_CENTRE_MM + directions * (HEAD_RADIUS_MM + coils.standoff_mm))


def sensitivities(
    coils: CoilArray,
    shape: tuple[int, int, int],
    affine: Matrix,
    log_gains: NDArray[np.float64],
    shift_mm: NDArray[np.float64],
) -> FloatArray:
    """Return what each loop sees of every voxel, shape (n, i, j, k), positive.

    The field of a loop of radius R on its axis, R³ / (R² + d²)^(3/2) at the distance d from its centre, is
    taken in all directions. The sensitivity is 1 at the loop's centre, times its gain.

    Parameters
    ----------
    coils, shape, affine
        The loops and the grid: voxel counts, and voxel indices to scanner mm.
    log_gains, shift_mm
        What this scan adds to the logarithm of each loop's gain, shape (n,), and to the array's place, (3,).
    """
    fixed = np.random.default_rng(UNEQUAL_SEED).standard_normal(coils.elements) * coils.unequal
    gains = np.exp(fixed + log_gains)
    voxels = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ voxels + affine[:3, 3:]
    seen = np.empty((coils.elements, voxels.shape[1]), dtype=np.float32)
    for number, centre in enumerate(loop_centres(coils) + shift_mm):
        squared = ((world - centre[:, None]) ** 2).sum(axis=0) / coils.radius_mm**2
        seen[number] = gains[number] * (1 + squared) ** -1.5
    return seen.reshape(coils.elements, *shape)


def combined(images: NDArray[np.inexact]) -> FloatArray:
    """Return the root of the sum of squares of the loops' images, complex or real, shape (i, j, k)."""
    squares = (images.real**2 + images.imag**2).sum(axis=0)
    return np.asarray(np.sqrt(squares), dtype=np.float32)
