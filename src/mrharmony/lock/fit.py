"""Fits the anatomy lock: the bilateral grid that best turns one set of intensities into another.

Least squares over all voxels at once, regularised, with bounds on the slope in intensity and on the change
per mm. The unknown is the difference from a starting transform, so nothing to explain gives exactly that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.robust import huber_trust
from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import BilateralGrid, corner_strides, locate, require_finite
from mrharmony.lock.bounds import Bounds, DoubleArray, LockSettings, smoothness, within_bounds

_CORNERS = np.array(list(np.ndindex(2, 2, 2, 2)))


def fit_bilateral_grid(
    positions: FloatArray,
    source: FloatArray,
    contrast: FloatArray,
    *,
    weights: FloatArray | None = None,
    prior: BilateralGrid | None = None,
    settings: LockSettings | None = None,
) -> BilateralGrid:
    """Return the bilateral grid T that minimises Σ w (T(x, source) - look)² under the settings' bounds.

    Parameters
    ----------
    positions
        Template mm, shape (n, 3).
    source, look
        Intensities before and wanted, canonical units, shape (n,). Voxels whose source lies outside the
        knots have no say.
    weights
        Trust in each voxel, ≥ 0, shape (n,); all equal by default.
    prior
        The transform to start from and to stay near where the voxels say nothing; the identity by default.
    settings
        Lattice, smoothness and bounds; `LockSettings()` by default.

    Returns
    -------
    BilateralGrid
        Monotone in intensity and of bounded change per mm. Exactly the identity if `look` equals `source`
        and there is no prior.

    Raises
    ------
    MrharmonyError
        If a value is NaN or infinite, a weight is negative, or no voxel has a say.
    """
    settings = settings or LockSettings()
    weights = np.ones(len(source), dtype=np.float32) if weights is None else weights
    fitted = {"source intensities": source, "contrast": contrast, "weights of the fit": weights}
    for what, values in fitted.items():
        require_finite(what, values)
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
    """What the normal equations need of each voxel, sorted by cell: equal cells share 16 unknowns."""

    starts: NDArray[np.intp]
    unknowns: NDArray[np.intp]
    hats: DoubleArray
    residuals: DoubleArray
    weights: DoubleArray

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
        hats = np.ones((len(order), 1))
        for fraction in fractions:
            pair = np.stack([1 - fraction[order], fraction[order]], axis=1)
            hats = (hats[:, :, None] * pair[:, None, :]).reshape(len(order), -1)
        occupied, starts = np.unique(cells[order], return_index=True)
        corners = _CORNERS @ np.array(corner_strides(grid.offsets.shape))
        unknowns = occupied[:, None] + corners
        return cls(starts, unknowns, hats, residuals[order], weights[order].astype(np.float64))

    def normal_equations(self, trust: DoubleArray, size: int) -> tuple[sparse.csc_array, DoubleArray]:
        """Return H = Aᵀ W A / Σw, sparse (size, size), and g = Aᵀ W r / Σw, shape (size,)."""
        weights = self.weights * trust
        weights = weights / weights.sum()
        ends = np.append(self.starts[1:], len(weights))
        grams = np.empty((len(self.starts), 16, 16))
        pulls = np.empty((len(self.starts), 16))
        for cell, (start, end) in enumerate(zip(self.starts, ends, strict=True)):
            hats = self.hats[start:end]
            weighted = hats * weights[start:end, None]
            grams[cell] = weighted.T @ hats
            pulls[cell] = weighted.T @ self.residuals[start:end]
        rows = np.repeat(self.unknowns, 16, axis=1).ravel()
        columns = np.tile(self.unknowns, (1, 16)).ravel()
        normal = sparse.coo_array((grams.ravel(), (rows, columns)), shape=(size, size)).tocsc()
        return normal, np.bincount(self.unknowns.ravel(), pulls.ravel(), size).astype(np.float64)

    def misfit(self, change: DoubleArray) -> DoubleArray:
        """Return the residuals that a solution leaves, shape (n,)."""
        counts = np.diff(np.append(self.starts, len(self.residuals)))
        explained = np.empty(len(self.residuals))
        ends = self.starts + counts
        for start, end, unknowns in zip(self.starts, ends, self.unknowns, strict=True):
            explained[start:end] = self.hats[start:end] @ change[unknowns]
        return self.residuals - explained


def _solve(start: BilateralGrid, voxels: _Voxels, settings: LockSettings) -> DoubleArray:
    """Return the change of the starting offsets, same shape; robust by reweighting."""
    change = _solve_once(start, voxels, np.ones(len(voxels.residuals)), settings)
    for _ in range(settings.reweightings):
        trust = huber_trust(voxels.misfit(change))
        if trust is None:
            break
        change = _solve_once(start, voxels, trust, settings)
    return change.reshape(start.offsets.shape)


def _solve_once(
    start: BilateralGrid, voxels: _Voxels, trust: DoubleArray, settings: LockSettings
) -> DoubleArray:
    normal, pull = voxels.normal_equations(trust, start.offsets.size)
    energy = normal + smoothness(settings)
    free = np.ones(start.offsets.shape, dtype=bool)
    free[..., 0] = settings.lift > 0
    kept = np.flatnonzero(free)
    change = np.zeros(start.offsets.size)
    bounds = Bounds.of(start, settings)
    change[kept] = bounds.solve(energy[kept][:, kept].tocsc(), pull[kept], kept)
    return change
