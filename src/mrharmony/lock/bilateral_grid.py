"""The anatomy lock: a transform of intensities, smooth in position and monotone in intensity.

The transform changes the contrast of a scan and not its anatomy: equal neighbours stay nearly equal, and the
order of grey values at one place is kept. The representation is the bilateral grid of Chen, Paris and Durand
(2007), "Real-time edge-aware image processing with the bilateral grid", fitted to a pair of images as in Chen
et al. (2016), "Bilateral guided upsampling".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Matrix

DoubleArray = NDArray[np.float64]

# The ICBM152 brain with 2 to 6 mm around it, in template millimetres (lower corner, upper corner).
FIELD_OF_VIEW = ((-76.0, -110.0, -76.0), (76.0, 78.0, 84.0))
_CHUNK = 1 << 16  # voxels transformed at once: small enough for the processor's cache


@dataclass(frozen=True)
class BilateralGrid:
    """T(x, s) = s + D(x, s) with D trilinear in the position x and piecewise linear in the intensity s.

    D(x, s) = Σ w_ijk(x) v_m(s) D_ijkm, where w and v are hat functions: 1 at their own node or knot, falling
    to 0 at its neighbours ("slicing", Chen et al. 2007). Outside the field of view D keeps its value at the
    border; below the first and above the last knot D is constant, so that T continues there with slope 1.

    Parameters
    ----------
    field_of_view
        Lower and upper corner in template mm, shape (2, 3); the outermost nodes lie on it.
    knots
        Increasing intensities in canonical units, shape (m,).
    offsets
        D at every node and knot in canonical units, shape (i, j, k, m), float64.
    """

    field_of_view: Matrix
    knots: DoubleArray
    offsets: DoubleArray

    def __post_init__(self) -> None:
        for name in ("field_of_view", "knots", "offsets"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.field_of_view.shape != (2, 3) or self.offsets.shape[3:] != self.knots.shape:
            raise ValueError(f"no bilateral grid: {self.field_of_view.shape}, {self.offsets.shape}")
        if self.knots.size < 2 or np.any(np.diff(self.knots) <= 0):
            raise ValueError("knots must be at least two increasing intensities")
        if not np.isfinite(self.offsets).all():
            raise ValueError("offsets must be finite")

    @classmethod
    def identity(
        cls, nodes: tuple[int, int, int] = (1, 1, 1), knots: tuple[float, ...] = (0.0, 1.0)
    ) -> BilateralGrid:
        """Return the transform over `FIELD_OF_VIEW` that changes nothing: T(x, s) = s to the bit."""
        return cls(np.array(FIELD_OF_VIEW), np.array(knots), np.zeros((*nodes, len(knots))))

    @property
    def spacing(self) -> DoubleArray:
        """Distance between neighbouring nodes along x, y, z in mm, shape (3,); infinite for a single node."""
        extent = self.field_of_view[1] - self.field_of_view[0]
        intervals = np.array(self.offsets.shape[:3]) - 1
        steps: DoubleArray = np.full(3, np.inf)
        np.divide(extent, intervals, out=steps, where=intervals > 0)
        return steps

    @property
    def slope_range(self) -> tuple[float, float]:
        """Least and greatest slope of T in intensity at any place: T is monotone if the first is ≥ 0.

        At a node the slopes are those between knots; between nodes they are averages of the nodes' slopes.
        """
        slopes = 1 + np.diff(self.offsets, axis=3) / np.diff(self.knots)
        return float(slopes.min()), float(slopes.max())

    @property
    def change_per_mm(self) -> float:
        """Greatest |∂T/∂x| along an axis, in canonical units per mm.

        A patch of constant intensity gets at most this gradient along each axis: the partial derivatives of
        a trilinear function are averages of differences between neighbouring nodes.
        """
        steps = [np.abs(np.diff(self.offsets, axis=axis)) / self.spacing[axis] for axis in range(3)]
        return max(float(step.max(initial=0.0)) for step in steps)

    @property
    def is_identity(self) -> bool:
        """Whether T(x, s) = s everywhere."""
        return not self.offsets.any()

    def apply(self, positions: FloatArray, intensities: FloatArray) -> FloatArray:
        """Return T(x, s), shape (n,), float32.

        Parameters
        ----------
        positions
            Template mm, shape (n, 3).
        intensities
            Canonical units, shape (n,), finite.

        Raises
        ------
        MrharmonyError
            If an intensity or a position is NaN or infinite.
        """
        require_finite("intensities to transform", intensities)
        require_finite("positions of the voxels", positions)
        if self.is_identity:
            return np.array(intensities, dtype=np.float32)
        transformed = np.empty(len(intensities), dtype=np.float32)
        for start in range(0, len(intensities), _CHUNK):
            part = slice(start, start + _CHUNK)
            transformed[part] = intensities[part] + self._interpolate(positions[part], intensities[part])
        return transformed

    def _interpolate(self, positions: FloatArray, intensities: FloatArray) -> FloatArray:
        cells, fractions = locate(self, positions, intensities)
        table = self.offsets.astype(np.float32).ravel()
        strides = corner_strides(self.offsets.shape)
        below, above = table[:-1], table[1:]
        x, y, z, s = fractions
        change = np.zeros(len(intensities), dtype=np.float32)
        # Σ w_ijk (D_ijkm + s (D_ijkm+1 - D_ijkm)) over the cell's nodes, s the fraction between two knots; an
        # axis with a single node has one end.
        ends = [(1 - f, f)[: min(size, 2)] for f, size in zip((x, y, z), self.offsets.shape, strict=False)]
        for i, weight_i in enumerate(ends[0]):
            for j, weight_j in enumerate(ends[1]):
                weight_ij = weight_i * weight_j
                for k, weight_k in enumerate(ends[2]):
                    corner = cells + (i * strides[0] + j * strides[1] + k * strides[2])
                    lower = below.take(corner)
                    change += weight_ij * weight_k * (lower + s * (above.take(corner) - lower))
        return change

    def grounded(self) -> BilateralGrid:
        """Return the transform with D = 0 at the first knot, so that black stays black."""
        offsets = self.offsets.copy()
        offsets[..., 0] = 0
        return BilateralGrid(self.field_of_view, self.knots, offsets)

    @property
    def node_positions(self) -> FloatArray:
        """Positions of the nodes, template mm, shape (i · j · k, 3); a single node lies in the middle."""
        axes = [
            np.linspace(lower, upper, size) if size > 1 else np.array([(lower + upper) / 2])
            for lower, upper, size in zip(*self.field_of_view, self.offsets.shape[:3], strict=True)
        ]
        places = np.meshgrid(*axes, indexing="ij")
        return np.stack([place.ravel() for place in places], axis=1).astype(np.float32)

    def node_weights(self, positions: FloatArray) -> DoubleArray:
        """Return the weight w_ijk(x) of every node at positions in template mm, shape (i · j · k, n)."""
        sizes = self.offsets.shape[:3]
        hats = (
            np.maximum(0, 1 - np.abs(self.node_coordinates(positions, axis) - np.arange(size)[:, None]))
            for axis, size in enumerate(sizes)
        )
        return tensor_product(hats)

    def node_coordinates(self, positions: FloatArray, axis: int) -> DoubleArray:
        """Return positions in template mm in units of nodes along an axis, clipped, shape (n,)."""
        steps = (positions[:, axis] - self.field_of_view[0, axis]) / self.spacing[axis]
        return np.asarray(np.clip(steps, 0, self.offsets.shape[axis] - 1))

    def on_lattice(self, other: BilateralGrid) -> BilateralGrid:
        """Return this transform sampled at the nodes and knots of another grid."""
        nodes = other.node_positions
        places = np.repeat(nodes, other.knots.size, axis=0)
        intensities = np.tile(other.knots, len(nodes)).astype(np.float32)
        offsets = self._interpolate(places, intensities).astype(np.float64)
        return BilateralGrid(other.field_of_view, other.knots, offsets.reshape(other.offsets.shape))

    def blend(self, other: BilateralGrid, share: float) -> BilateralGrid:
        """Return (1 - share) · self + share · other, as monotone and as smooth as the worse of the two.

        Parameters
        ----------
        other
            A grid on the same lattice; see `on_lattice`.
        share
            0 returns self, 1 returns the other.
        """
        same = self.offsets.shape == other.offsets.shape and np.array_equal(self.knots, other.knots)
        if not same or not np.array_equal(self.field_of_view, other.field_of_view):
            raise ValueError("grids on different lattices cannot be blended; use on_lattice first")
        offsets = (1 - share) * self.offsets + share * other.offsets
        return BilateralGrid(self.field_of_view, self.knots, offsets)


def tensor_product(axes: Iterable[NDArray[np.floating]]) -> DoubleArray:
    """Return the products of weights along several axes, shapes (a, n), (b, n), …: shape (a · b · …, n)."""
    weights = np.ones((1, 1))
    for axis in axes:
        weights = (weights[:, None] * axis).reshape(-1, axis.shape[1])
    return weights


def locate(
    grid: BilateralGrid, positions: FloatArray, intensities: FloatArray
) -> tuple[NDArray[np.intp], tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """Return the cell of each voxel: flat index of its lowest corner, and the voxel's place in it.

    The place is four fractions in 0..1, along x, y, z and intensity: along an axis, the cell's lower corner
    has the weight 1 - fraction and its upper corner the weight fraction. Positions outside the field of view
    and intensities outside the knots are moved to the border.
    """
    cells = np.zeros(len(intensities), dtype=np.intp)
    fractions = []
    for axis, size in enumerate(grid.offsets.shape[:3]):
        steps = grid.node_coordinates(positions, axis)
        cell = np.minimum(steps.astype(np.intp), max(size - 2, 0))
        cells = cells * size + cell
        fractions.append((steps - cell).astype(np.float32))
    knots = grid.knots
    bounded = np.clip(intensities, knots[0], knots[-1])
    cell = np.clip(np.searchsorted(knots, bounded, side="right") - 1, 0, knots.size - 2)
    fraction = (bounded - knots[cell]) / (knots[cell + 1] - knots[cell])
    x, y, z = fractions
    return cells * knots.size + cell, (x, y, z, fraction.astype(np.float32))


def corner_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the step in flat index to a cell's next corner along each axis; 0 where an axis has one node."""
    steps = np.cumprod([1, *shape[:0:-1]])[::-1]
    return tuple(int(step) if size > 1 else 0 for step, size in zip(steps, shape, strict=True))


def require_finite(what: str, values: NDArray[np.floating]) -> None:
    """Refuse values that are NaN or infinite; `what` names them in the message."""
    if not np.isfinite(values).all():
        raise MrharmonyError(f"The {what} contain NaN or infinity; export or convert the scan again.")
