"""Where the lock's fit starts from: one curve for the whole brain, times a gain that is smooth in space.

Two scanners differ by their contrast, which is one curve of intensities, and by their receive fields, which
multiply it. Both together have a tenth of the lattice's unknowns; the lattice then corrects what they leave.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mrharmony.core.robust import huber_trust
from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import DoubleArray, LockSettings, smoothness
from mrharmony.lock.fit import fit_bilateral_grid

GAIN_NODES = (3, 4, 3)
_GAIN_SMOOTHNESS = 1e-3  # weight of the mean squared slope of the gain per 100 mm, in squared canonical units
_VOXELS = 60_000  # enough for 36 unknowns


def fit_lock(
    positions: FloatArray, source: FloatArray, contrast: FloatArray, settings: LockSettings
) -> BilateralGrid:
    """Return the lock from `source` to `look`, its lattice fitted from the gain prior on.

    Parameters and errors are those of `fit_bilateral_grid`; so is the identity where nothing is to explain.
    """
    prior = gain_prior(positions, source, contrast, settings)
    return fit_bilateral_grid(positions, source, contrast, prior=prior, settings=settings)


def gain_prior(
    positions: FloatArray, source: FloatArray, contrast: FloatArray, settings: LockSettings
) -> BilateralGrid:
    """Return T(x, s) = g(x) · t(s) on the settings' lattice, g trilinear on 3×4×3 nodes.

    The curve t is the lock with a single node; g minimises Σ (g(x) t(source) - look)², robustly and smoothly.

    Parameters
    ----------
    positions
        Template mm, shape (n, 3).
    source, look
        Intensities before and wanted, canonical units, shape (n,).
    settings
        Of the lock.

    Raises
    ------
    MrharmonyError
        As `fit_bilateral_grid`.
    """
    single = settings.model_copy(update={"nodes": (1, 1, 1)})
    curve = fit_bilateral_grid(positions, source, contrast, settings=single)
    some = slice(None, None, max(1, len(source) // _VOXELS))
    toned = curve.apply(positions[some], source[some]).astype(np.float64)
    gain = _fitted_gain(positions[some], toned, contrast[some] - toned)
    lattice = settings.lattice()
    at_nodes = 1 + _hats(lattice.node_positions) @ gain
    levels = lattice.knots + curve.offsets[0, 0, 0]
    offsets = (at_nodes[:, None] - 1) * levels + curve.offsets[0, 0, 0]
    return BilateralGrid(lattice.field_of_view, lattice.knots, offsets.reshape(lattice.offsets.shape))


def _fitted_gain(positions: FloatArray, toned: DoubleArray, missing: DoubleArray) -> DoubleArray:
    """Return g - 1 at the gain's nodes, flat; exactly 0 where nothing is missing."""
    design = _hats(positions) * toned[:, None]
    stiff = _stiffness()

    def solved(trust: DoubleArray) -> DoubleArray:
        weighted = design * (trust / trust.sum())[:, None]
        return np.asarray(np.linalg.solve(weighted.T @ design + stiff, weighted.T @ missing))

    gain = solved(np.ones(len(missing)))
    trust = huber_trust(missing - design @ gain)
    return gain if trust is None else solved(trust)


@lru_cache(maxsize=1)
def _stiffness() -> DoubleArray:
    """Return the quadratic form that keeps the gain smooth and near 1: the lock's, at one of its knots."""
    knots = (0.0, 1.0)  # the fewest that a lock may have
    settings = LockSettings(nodes=GAIN_NODES, knots=knots, spatial_smoothness=_GAIN_SMOOTHNESS, lift_pull=0.0)
    return np.asarray(smoothness(settings).toarray()[:: len(knots), :: len(knots)])


def _hats(positions: FloatArray) -> DoubleArray:
    """Return the weight of each of the gain's nodes at positions, shape (n, 36)."""
    grid = BilateralGrid.identity(GAIN_NODES)
    weights = np.ones((len(positions), 1))
    for axis, size in enumerate(GAIN_NODES):
        steps = (positions[:, axis] - grid.field_of_view[0, axis]) / grid.spacing[axis]
        near = np.maximum(0, 1 - np.abs(np.clip(steps, 0, size - 1)[:, None] - np.arange(size)))
        weights = (weights[:, :, None] * near[:, None, :]).reshape(len(positions), -1)
    return weights
