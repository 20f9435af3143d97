"""What the fit of the lock is held to: its lattice, its smoothness, and the bounds that it never leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.sparse.csgraph import reverse_cuthill_mckee

from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW, BilateralGrid

DoubleArray = NDArray[np.float64]
_STEPS = 100
_ACCURACY = 1e-4  # canonical units, a hundredth of a good scan's noise


class LockSettings(BaseModel):
    """How finely the lock may vary, how smooth it is, and what it never does.

    Parameters
    ----------
    nodes
        Nodes along x, y, z over the field of view.
    knots
        Intensities in canonical units at which the curves may bend.
    spatial_smoothness, intensity_smoothness, prior_pull
        Weights, relative to the mean squared error over the voxels, of the mean squared slope in space (per
        100 mm), the mean squared second derivative in intensity, and the mean squared difference from the
        starting transform.
    slopes
        Least and greatest slope of T in intensity; the least is not negative.
    change_per_mm
        Greatest change of T along an axis at one intensity, in canonical units per mm.
    lift
        Greatest T(x, knots[0]) - knots[0], the least is 0: CSF is as black as air in an MP2RAGE image, but
        grey elsewhere. With 0, black stays black.
    lift_pull
        Weight of the mean squared lift, relative as above; a scan with little black in its brain keeps it.
    reweightings
        How often voxels that fit badly are given less weight (Huber) and the fit is repeated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[int, int, int] = (5, 7, 5)
    knots: tuple[float, ...] = (0.0, 0.08, 0.16, 0.28, 0.42, 0.56, 0.7, 0.84, 0.98, 1.12)
    spatial_smoothness: Annotated[float, Field(ge=0)] = 1e-2
    intensity_smoothness: Annotated[float, Field(ge=0)] = 1e-5
    prior_pull: Annotated[float, Field(gt=0)] = 1e-4
    slopes: tuple[Annotated[float, Field(ge=0)], float] = (0.1, 5.0)
    change_per_mm: Annotated[float, Field(gt=0)] = 0.02
    lift: Annotated[float, Field(ge=0)] = 0.3
    lift_pull: Annotated[float, Field(ge=0)] = 5e-3
    reweightings: Annotated[int, Field(ge=0)] = 1

    def lattice(self) -> BilateralGrid:
        """Return the identity on this lattice."""
        return BilateralGrid.identity(self.nodes, self.knots, FIELD_OF_VIEW)


@lru_cache(maxsize=16)
def _difference(shape: tuple[int, ...], axis: int) -> sparse.csr_array:
    """Return the sparse matrix that takes differences of flattened values along an axis."""
    identity = sparse.eye_array(shape[axis], format="csr")
    step = identity[1:] - identity[:-1]
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    return sparse.kron(sparse.kron(sparse.eye_array(before), step), sparse.eye_array(after), format="csr")


@lru_cache(maxsize=4)
def smoothness(settings: LockSettings) -> sparse.csc_array:
    """Return the quadratic form of the settings' regularisers on their lattice, sparse (size, size)."""
    grid = settings.lattice()
    shape, size = grid.offsets.shape, grid.offsets.size
    pull = np.full(shape, settings.prior_pull / size)
    pull[..., 0] += settings.lift_pull * shape[3] / size
    form = sparse.diags_array(pull.ravel(), format="csc")
    for axis in range(3):
        if shape[axis] > 1:
            gradient = _difference(shape, axis) * (100 / grid.spacing[axis])
            form = form + settings.spatial_smoothness / size * (gradient.T @ gradient)
    if shape[3] > 2:
        gaps = np.diff(grid.knots)
        slope = sparse.diags_array(1 / gaps) @ _difference((gaps.size + 1,), 0)
        curvature = sparse.diags_array(2 / (gaps[1:] + gaps[:-1])) @ _difference((gaps.size,), 0) @ slope
        bend = sparse.kron(sparse.eye_array(int(np.prod(shape[:3]))), curvature, format="csr")
        form = form + settings.intensity_smoothness / size * (bend.T @ bend)
    return form


@dataclass(frozen=True)
class Factors:
    """Cholesky factor of a sparse, symmetric, positive definite matrix, its unknowns in a narrow band.

    On the lock's lattice the band is so narrow that it is factored faster than the sparse matrix is.
    """

    order: NDArray[np.intp]
    band: DoubleArray

    @classmethod
    def of(cls, matrix: sparse.csc_array) -> Factors:
        """Factor a matrix; its unknowns are ordered by the algorithm of Cuthill and McKee (1969)."""
        entries = matrix.tocoo()
        order = reverse_cuthill_mckee(matrix.tocsr(), symmetric_mode=True)
        place = np.argsort(order)
        rows, columns = place[entries.row], place[entries.col]
        below = rows >= columns
        band = np.zeros((int((rows - columns).max()) + 1, len(order)))
        band[(rows - columns)[below], columns[below]] = entries.data[below]
        return cls(order, cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False))

    def solve(self, wanted: DoubleArray) -> DoubleArray:
        """Return x of matrix · x = wanted, shape (n,)."""
        solution = np.empty_like(wanted)
        ordered = cho_solve_banded((self.band, True), wanted[self.order], check_finite=False)
        solution[self.order] = ordered
        return solution


@dataclass(frozen=True)
class Bounds:
    """Bounds lower ≤ G·change ≤ upper on lifts and on differences between neighbouring knots and nodes."""

    rows: sparse.csr_array
    lower: DoubleArray
    upper: DoubleArray

    @classmethod
    def of(cls, start: BilateralGrid, settings: LockSettings) -> Bounds:
        """Return the bounds on the change of a starting transform."""
        shape, size = start.offsets.shape, start.offsets.size
        gaps = np.broadcast_to(np.diff(start.knots), (*shape[:3], shape[3] - 1)).ravel()
        rows = [_difference(shape, 3), sparse.eye_array(size, format="csr")[:: shape[3]]]
        lower = [(settings.slopes[0] - 1) * gaps, np.zeros(rows[1].shape[0])]
        upper = [(settings.slopes[1] - 1) * gaps, np.full(rows[1].shape[0], settings.lift)]
        for axis in range(3):
            if shape[axis] > 1:
                rows.append(_difference(shape, axis))
                limit = np.full(rows[-1].shape[0], settings.change_per_mm * start.spacing[axis])
                lower.append(-limit)
                upper.append(limit)
        stacked = sparse.vstack(rows, format="csr")
        already = stacked @ start.offsets.ravel()
        return cls(stacked, np.concatenate(lower) - already, np.concatenate(upper) - already)

    def solve(self, energy: sparse.csc_array, pull: DoubleArray, kept: NDArray[np.intp]) -> DoubleArray:
        """Minimise ½ dᵀ H d - gᵀ d under the bounds by the alternating direction method of multipliers.

        Boyd et al. (2011), section 5.2, with the stiffness ρ near the data's. It ends where neither residual
        of their section 3.3 exceeds `_ACCURACY`, at the latest after 100 steps; what is left outside the
        bounds is removed by `within_bounds`.
        """
        change = Factors.of(energy).solve(pull)
        rows = self.rows[:, kept].tocsc()
        steps = rows @ change
        if np.all((steps >= self.lower) & (steps <= self.upper)):
            return change
        stiffness = 2 * float(energy.diagonal().mean())
        factors = Factors.of(energy + stiffness * (rows.T @ rows))
        allowed, dual = np.clip(steps, self.lower, self.upper), np.zeros(len(steps))
        for _ in range(_STEPS):
            change = factors.solve(pull + stiffness * (rows.T @ (allowed - dual)))
            steps, before = rows @ change, allowed
            allowed = np.clip(steps + dual, self.lower, self.upper)
            dual += steps - allowed
            if max(np.abs(steps - allowed).max(), np.abs(allowed - before).max()) < _ACCURACY:
                break
        return change


def within_bounds(start: BilateralGrid, change: DoubleArray, settings: LockSettings) -> BilateralGrid:
    """Return the changed transform, moved inside the bounds where the solution is not."""
    gaps = np.diff(start.knots)
    rises = np.diff(start.offsets + change, axis=3)
    allowed = np.clip(rises, (settings.slopes[0] - 1) * gaps, (settings.slopes[1] - 1) * gaps)
    offsets = start.offsets + change
    first = np.clip(offsets[..., :1], 0, settings.lift)
    if not (np.array_equal(rises, allowed) and np.array_equal(first, offsets[..., :1])):
        offsets = np.concatenate([first, first + np.cumsum(allowed, axis=3)], axis=3)
    fitted = BilateralGrid(start.field_of_view, start.knots, offsets)
    share = settings.change_per_mm / max(fitted.change_per_mm, settings.change_per_mm)
    # The mean over the nodes is as monotone as they are, so blending towards it keeps the slopes in range.
    mean = np.broadcast_to(offsets.mean(axis=(0, 1, 2)), offsets.shape)
    return BilateralGrid(start.field_of_view, start.knots, mean).blend(fitted, share) if share < 1 else fitted
