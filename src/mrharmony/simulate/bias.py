"""Receive bias fields: how brightly the coil sees each place, as a smooth function of position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from mrharmony.core.volume import FloatArray, Matrix

# Powers of x, y, z of every monomial up to degree 3: enough for a head coil, whose field is smooth.
BIAS_TERMS = tuple(
    (a, b, c) for degree in range(4) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)
    for c in (degree - a - b,)
)  # fmt: skip
HEAD_CENTRE_MM = np.array([0.0, -18.0, 8.0])
HEAD_RADIUS_MM = np.array([70.0, 88.0, 70.0])


class BiasPattern(BaseModel, frozen=True, extra="forbid"):
    """The receive field shared by all scans of a scanner, as its logarithm.

    Parameters
    ----------
    curvature
        Log brightness of the middle of the head above its rim: positive for a volume coil at 3 T
        (dielectric), negative for a phased array, which sees near tissue brighter.
    right, anterior, superior
        Log brightness gained from the centre of the head to its right, anterior, superior end.
    twist
        Strength of a cubic component: coil elements of unequal gain.
    """

    curvature: float = 0.0
    right: float = 0.0
    anterior: float = 0.0
    superior: float = 0.0
    twist: float = 0.0

    def coefficients(self) -> FloatArray:
        """Return the log field's coefficients for `BIAS_TERMS`, shape (20,), in head radii."""
        named = {
            (0, 0, 0): self.curvature * 0.5,
            (1, 0, 0): self.right, (0, 1, 0): self.anterior, (0, 0, 1): self.superior,
            (2, 0, 0): -self.curvature, (0, 2, 0): -self.curvature, (0, 0, 2): -self.curvature,
            (0, 2, 1): self.twist, (2, 1, 0): -self.twist,
        }  # fmt: skip
        return np.array([named.get(term, 0.0) for term in BIAS_TERMS], dtype=np.float32)


def bias_field(coefficients: FloatArray, shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Evaluate a receive field on a grid; positive, 1 where the logarithm is 0, shape (i, j, k).

    Parameters
    ----------
    coefficients
        Of the logarithm, one for each of `BIAS_TERMS`, shape (20,).
    shape, affine
        The grid: voxel counts, and voxel indices to template mm (may be oblique).
    """
    # A cubic along each axis is fixed by its values at four voxel indices; the rest is interpolation.
    nodes = [np.linspace(0, max(size - 1, 1), 4) for size in shape]
    i, j, k = np.meshgrid(*nodes, indexing="ij")
    world = np.einsum("ab,bijk->aijk", affine[:3], np.stack([i, j, k, np.ones_like(i)]))
    x, y, z = (world - HEAD_CENTRE_MM.reshape(3, 1, 1, 1)) / HEAD_RADIUS_MM.reshape(3, 1, 1, 1)
    logarithm = sum(g * x**a * y**b * z**c for g, (a, b, c) in zip(coefficients, BIAS_TERMS, strict=True))
    bases = [_lagrange(node, size) for node, size in zip(nodes, shape, strict=True)]
    field = np.einsum("abc,ai,bj,ck->ijk", logarithm, *bases, optimize=True)
    return np.asarray(np.exp(field.astype(np.float32)))


def _lagrange(nodes: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Lagrange's basis polynomials of the nodes at the voxel indices 0..size-1, shape (4, size)."""
    powers = np.vander(np.arange(size), 4)
    return np.linalg.solve(np.vander(nodes, 4).T, powers.T)
