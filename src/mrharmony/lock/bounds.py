"""What constrains the fit of the lock: its lattice, its regularisers, and the bounds that it never leaves.

The bounds are what makes the lock a lock. A least slope ≥ 0 keeps the order of intensities at one place, the
greatest slope limits how much noise is amplified, and the greatest change per mm limits the gradient that a
patch of constant intensity can get: the lock cannot draw an edge where the scan has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.sparse.csgraph import reverse_cuthill_mckee

from mrharmony.lock.bilateral_grid import BilateralGrid, DoubleArray

_STEPS = 100  # of the multipliers, at most
_ACCURACY = 1e-4  # canonical units, a hundredth of a good scan's noise


class LockSettings(BaseModel):
    """Lattice, smoothness and bounds of the lock.

    Nodes and spatial smoothness were chosen by benchmarks.calibration.lock; docs/lab-notes/method.md says
    what was not compared.

    Parameters
    ----------
    nodes
        Nodes along x, y, z over the field of view.
    knots
        Intensities in canonical units at which the curves may bend.
    spatial_smoothness, intensity_smoothness, prior_pull
        Weights, relative to the mean squared error over the voxels, of the mean squared gradient in space
        (per 100 mm), the mean squared second derivative in intensity, and the mean squared value, all of the
        change from the starting transform.
    slopes
        Least and greatest slope of T in intensity; the least is not negative.
    change_per_mm
        Greatest change of T along an axis at one intensity, in canonical units per mm.
    lift
        Greatest T(x, knots[0]) - knots[0]; the least is 0. CSF is as black as air in an MP2RAGE image and
        grey elsewhere, so that black may have to become grey. With 0, black stays black.
    lift_pull
        Weight of the mean squared change of the lift, relative as above: a scan with little black in its
        brain cannot determine it.
    reweightings
        How often voxels that fit badly get less weight (Huber) and the fit is repeated.
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
        return BilateralGrid.identity(self.nodes, self.knots)


@lru_cache(maxsize=16)
def _difference(shape: tuple[int, ...], axis: int) -> sparse.csr_array:
    """Return the matrix of differences of flattened values along an axis: I ⊗ Δ ⊗ I, (Δv)_n = v_n+1 - v_n."""
    identity = sparse.eye_array(shape[axis], format="csr")
    step = identity[1:] - identity[:-1]
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    return sparse.kron(sparse.kron(sparse.eye_array(before), step), sparse.eye_array(after), format="csr")


@lru_cache(maxsize=4)
def smoothness(settings: LockSettings) -> sparse.csc_array:
    """Return the quadratic form S of the regularisers on the settings' lattice, sparse (size, size).

    dᵀSd = λ_p mean(d²) + λ_l mean(d(s₀)²) + λ_x Σ_axis mean((100 mm ∂d/∂x)²) + λ_s mean((∂²d/∂s²)²), the
    derivatives as differences between neighbours. λ_p > 0 makes it positive definite, so that nodes where no
    voxel lies are determined too: by their neighbours, and far from all voxels by the starting transform.
    """
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
        # Second derivative on uneven knots: difference of slopes over the distance between interval centres.
        slope = sparse.diags_array(1 / gaps) @ _difference((gaps.size + 1,), 0)
        curvature = sparse.diags_array(2 / (gaps[1:] + gaps[:-1])) @ _difference((gaps.size,), 0) @ slope
        bend = sparse.kron(sparse.eye_array(int(np.prod(shape[:3]))), curvature, format="csr")
        form = form + settings.intensity_smoothness / size * (bend.T @ bend)
    return form


def _solver(matrix: sparse.csc_array) -> Callable[[DoubleArray], DoubleArray]:
    """Factor a sparse, symmetric, positive definite matrix; return what solves matrix · x = right for x.

    Reordered by the algorithm of Cuthill and McKee (1969), the lock's matrix has so narrow a band that its
    banded Cholesky factor costs less than a sparse one.
    """
    entries = matrix.tocoo()
    order = reverse_cuthill_mckee(matrix.tocsr(), symmetric_mode=True)
    place = np.argsort(order)
    rows, columns = place[entries.row], place[entries.col]
    below = rows >= columns
    band = np.zeros((int((rows - columns).max()) + 1, len(order)))
    band[(rows - columns)[below], columns[below]] = entries.data[below]
    factor = cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)

    def solve(right: DoubleArray) -> DoubleArray:
        solution = np.empty_like(right)
        solution[order] = cho_solve_banded((factor, True), right[order], check_finite=False)
        return solution

    return solve


@dataclass(frozen=True)
class Bounds:
    """Bounds lower ≤ G·d ≤ upper on the change d of a starting transform's offsets.

    The rows of G are differences between neighbouring knots (slopes), the first knot's own value (lift), and
    differences between neighbouring nodes (change per mm).
    """

    rows: sparse.csr_array
    lower: DoubleArray
    upper: DoubleArray

    @classmethod
    def of(cls, start: BilateralGrid, settings: LockSettings) -> Bounds:
        """Return the bounds on the change of a starting transform."""
        shape, size = start.offsets.shape, start.offsets.size
        gaps = np.broadcast_to(np.diff(start.knots), (*shape[:3], shape[3] - 1)).ravel()
        rows = [_difference(shape, 3), sparse.eye_array(size, format="csr")[:: shape[3]]]
        # T = s + D has the slope 1 + ΔD / Δs, so that slopes in [a, b] are ΔD in [(a - 1) Δs, (b - 1) Δs].
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
        """Minimise ½ dᵀHd - gᵀd under the bounds by the alternating direction method of multipliers.

        Boyd et al. (2011), section 5.2, with z = G·d, the scaled dual variable u and the penalty ρ:

            d ← (H + ρGᵀG)⁻¹ (g + ρGᵀ(z - u)),  z ← clip(G·d + u, lower, upper),  u ← u + G·d - z.

        It ends where neither residual of their section 3.3 exceeds `_ACCURACY`, at the latest after 100
        steps; what is left outside the bounds is removed by `within_bounds`. H (`energy`) and g (`pull`)
        are those of the unknowns at the flat indices `kept`; the others stay 0.
        """
        change = _solver(energy)(pull)
        rows = self.rows[:, kept].tocsc()
        steps = rows @ change
        if np.all((steps >= self.lower) & (steps <= self.upper)):
            return change
        penalty = 2 * float(energy.diagonal().mean())  # near the scale of H, where the method converges fast
        solve = _solver(energy + penalty * (rows.T @ rows))
        allowed, dual = np.clip(steps, self.lower, self.upper), np.zeros(len(steps))
        for _ in range(_STEPS):
            change = solve(pull + penalty * (rows.T @ (allowed - dual)))
            steps, before = rows @ change, allowed
            allowed = np.clip(steps + dual, self.lower, self.upper)
            dual += steps - allowed
            if max(np.abs(steps - allowed).max(), np.abs(allowed - before).max()) < _ACCURACY:
                break
        return change


def within_bounds(start: BilateralGrid, change: DoubleArray, settings: LockSettings) -> BilateralGrid:
    """Return the changed transform, moved inside the bounds where the solution is not.

    The bounds hold exactly afterwards: rises between knots are clipped one by one and summed up again, and
    what then changes too fast in space is blended towards the mean over the nodes.
    """
    gaps = np.diff(start.knots)
    offsets = start.offsets + change
    rises = np.diff(offsets, axis=3)
    allowed = np.clip(rises, (settings.slopes[0] - 1) * gaps, (settings.slopes[1] - 1) * gaps)
    first = np.clip(offsets[..., :1], 0, settings.lift)
    if not (np.array_equal(rises, allowed) and np.array_equal(first, offsets[..., :1])):
        offsets = np.concatenate([first, first + np.cumsum(allowed, axis=3)], axis=3)
    fitted = BilateralGrid(start.field_of_view, start.knots, offsets)
    share = settings.change_per_mm / max(fitted.change_per_mm, settings.change_per_mm)
    if share == 1:
        return fitted
    # Slopes and lifts of a blend lie between those of both transforms, and the mean has no change per mm.
    mean = np.broadcast_to(offsets.mean(axis=(0, 1, 2)), offsets.shape)
    return BilateralGrid(start.field_of_view, start.knots, mean).blend(fitted, share)
