"""Fits the anatomy lock: the bilateral grid that best turns one set of intensities into another.

With T = T₀ + d, T₀ the starting transform and d the unknown change of its offsets, the fit minimises

    Σ_v w_v (a_vᵀd - r_v)² / Σ_v w_v + dᵀSd    under the bounds lower ≤ G·d ≤ upper,

where a_v holds the 16 interpolation weights of voxel v, r_v = contrast - T₀(x, source) is what the start
leaves, S is the regularisers' form (`smoothness`) and G are the bounds' rows (`Bounds`). All voxels count at
once (Chen et al. 2016), and where nothing has to be explained d is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import (
    BilateralGrid,
    DoubleArray,
    corner_strides,
    locate,
    require_finite,
    tensor_product,
)
from mrharmony.lock.bounds import Bounds, LockSettings, smoothness, within_bounds

_CORNERS = np.array(list(np.ndindex(2, 2, 2, 2)))
_HUBER = 1.345  # of the residual's standard deviation: 95 % efficient for Gaussian noise (Huber 1964)
_DEVIATION = 1.4826  # standard deviation of Gaussian noise over the median of its absolute value


def huber_trust(misfit: DoubleArray) -> DoubleArray | None:
    """Return the weights that make the next least-squares fit robust, shape (n,); None if half fit exactly.

    Huber's ρ grows linearly beyond a limit k, so one pass of iteratively reweighted least squares weights a
    residual r by min(1, k / |r|) (here times k). The limit follows the residuals' median, which outliers do
    not move.
    """
    size = np.abs(misfit)
    limit = _HUBER * _DEVIATION * np.median(size)
    return None if limit == 0 else np.asarray(limit / np.maximum(size, limit))


def fit_bilateral_grid(
    positions: FloatArray,
    source: FloatArray,
    contrast: FloatArray,
    *,
    weights: FloatArray | None = None,
    prior: BilateralGrid | None = None,
    settings: LockSettings | None = None,
) -> BilateralGrid:
    """Return the bilateral grid T that minimises Σ w (T(x, source) - contrast)² under the settings' bounds.

    Parameters
    ----------
    positions
        Template mm, shape (n, 3).
    source, contrast
        Intensities of the scan and those to reach, canonical units, shape (n,). Voxels whose source lies
        outside the knots do not count.
    weights
        Weight of each voxel, ≥ 0, shape (n,); all equal by default.
    prior
        The transform to start from, and to stay near where no voxel lies; the identity by default.
    settings
        Lattice, smoothness and bounds; `LockSettings()` by default.

    Returns
    -------
    BilateralGrid
        Monotone in intensity and of bounded change per mm. Exactly the identity if `contrast` equals
        `source` and there is no prior.

    Raises
    ------
    MrharmonyError
        If a value is NaN or infinite, a weight is negative, or no voxel counts.
    """
    settings = settings or LockSettings()
    weights = np.ones(len(source), dtype=np.float32) if weights is None else weights
    require_finite("source intensities", source)
    require_finite("intensities of the contrast", contrast)
    require_finite("weights of the fit", weights)
    if np.any(weights < 0):
        raise MrharmonyError("The weights of the fit must not be negative; give 0 to leave a voxel out.")
    start = settings.lattice() if prior is None else prior.on_lattice(settings.lattice())
    used = (weights > 0) & (source >= start.knots[0]) & (source <= start.knots[-1])
    if not used.any():
        raise MrharmonyError("No voxel to fit the lock to: the mask is empty or the scan is not scaled.")
    residuals = contrast[used].astype(np.float64) - start.apply(positions[used], source[used])
    if not residuals.any():
        return start
    voxels = _Voxels.in_cells(start, positions[used], source[used], residuals, weights[used])
    return within_bounds(start, _solve(start, voxels, settings), settings)


@dataclass(frozen=True)
class _Voxels:
    """The rows a_v of the design, residuals and weights, by cell: the voxels of a cell share 16 unknowns."""

    starts: NDArray[np.intp]  # number of each occupied cell's first voxel, shape (cells,)
    unknowns: NDArray[np.intp]  # flat indices of a cell's corners in the offsets, shape (cells, 16)
    design: DoubleArray  # interpolation weights of a voxel's corners, shape (16, n)
    residuals: DoubleArray  # shape (n,)
    weights: DoubleArray  # shape (n,)

    @classmethod
    def in_cells(
        cls,
        grid: BilateralGrid,
        positions: FloatArray,
        source: FloatArray,
        residuals: DoubleArray,
        weights: FloatArray,
    ) -> _Voxels:
        cells, fractions = locate(grid, positions, source)
        order = np.argsort(cells, kind="stable")
        ends = (np.stack([1 - fraction[order], fraction[order]]) for fraction in fractions)
        design = tensor_product(ends)
        occupied, starts = np.unique(cells[order], return_index=True)
        corners = _CORNERS @ np.array(corner_strides(grid.offsets.shape))
        unknowns = occupied[:, None] + corners
        return cls(starts, unknowns, design, residuals[order], weights[order].astype(np.float64))

    def normal_equations(self, trust: DoubleArray, size: int) -> tuple[sparse.csc_array, DoubleArray]:
        """Return H = AᵀWA / Σw, sparse (size, size), and g = AᵀWr / Σw, shape (size,)."""
        weights = self.weights * trust
        weights = weights / weights.sum()
        grams = np.empty((len(self.starts), 16, 16))
        pulls = np.empty((len(self.starts), 16))
        for cell, voxels in enumerate(self._cells()):
            design = self.design[:, voxels]
            weighted = design * weights[voxels]
            grams[cell] = weighted @ design.T
            pulls[cell] = weighted @ self.residuals[voxels]
        rows = np.repeat(self.unknowns, 16, axis=1).ravel()
        columns = np.tile(self.unknowns, (1, 16)).ravel()
        normal = sparse.coo_array((grams.ravel(), (rows, columns)), shape=(size, size)).tocsc()
        return normal, np.bincount(self.unknowns.ravel(), pulls.ravel(), size).astype(np.float64)

    def misfit(self, change: DoubleArray) -> DoubleArray:
        """Return the residuals that a solution leaves, shape (n,)."""
        explained = np.empty(len(self.residuals))
        for voxels, unknowns in zip(self._cells(), self.unknowns, strict=True):
            explained[voxels] = change[unknowns] @ self.design[:, voxels]
        return self.residuals - explained

    def _cells(self) -> list[slice]:
        return [slice(*ends) for ends in pairwise([*self.starts, len(self.residuals)])]


def _solve(start: BilateralGrid, voxels: _Voxels, settings: LockSettings) -> DoubleArray:
    """Return the change of the starting offsets, same shape.

    After the first solution, voxels that fit badly get Huber's weights: what the contrast does not have, such
    as a lesion or a vessel, must not bend the curves of its neighbourhood.
    """
    free = np.ones(start.offsets.shape, dtype=bool)
    free[..., 0] = settings.lift > 0
    kept = np.flatnonzero(free)
    bounds = Bounds.of(start, settings)
    change, trust = np.zeros(free.size), np.ones(len(voxels.residuals))
    for rounds_left in reversed(range(settings.reweightings + 1)):
        normal, pull = voxels.normal_equations(trust, free.size)
        energy = normal + smoothness(settings)
        change[kept] = bounds.solve(energy[kept][:, kept].tocsc(), pull[kept], kept)
        robust = huber_trust(voxels.misfit(change)) if rounds_left else None
        if robust is None:
            break
        trust = robust
    return change.reshape(start.offsets.shape)
