"""The start of the lock's fit: one curve for the whole brain, times a gain that is smooth in space.

Two scanners differ by their contrast, which is one curve of intensities, and by their receive fields, which
multiply it. Both together have a tenth of the lattice's unknowns; the lattice then corrects what they leave.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import BilateralGrid, DoubleArray
from mrharmony.lock.bounds import LockSettings, smoothness
from mrharmony.lock.fit import fit_bilateral_grid, huber_trust

GAIN_NODES = (3, 4, 3)  # chosen with the lock's by benchmarks.calibration.lock
_GAIN_SMOOTHNESS = 1e-3  # weight of the mean squared gradient of the gain per 100 mm, squared canonical units
_VOXELS = 60_000  # enough for 36 unknowns


def fit_lock(
    positions: FloatArray, source: FloatArray, contrast: FloatArray, settings: LockSettings
) -> BilateralGrid:
    """Return the lock from `source` to `contrast`: its lattice fitted from the gain prior on.

    Parameters and errors are those of `fit_bilateral_grid`; where nothing has to be explained, it is the
    identity too.
    """
    prior = gain_prior(positions, source, contrast, settings)
    return fit_bilateral_grid(positions, source, contrast, prior=prior, settings=settings)


def gain_prior(
    positions: FloatArray, source: FloatArray, contrast: FloatArray, settings: LockSettings
) -> BilateralGrid:
    """Return T(x, s) = g(x) · t(s) on the settings' lattice, g trilinear on 3×4×3 nodes.

    The curve t is the lock with a single node; g minimises Σ (g(x) t(source) - contrast)², robustly and
    smoothly. Parameters and errors are those of `fit_bilateral_grid`.
    """
    single = settings.model_copy(update={"nodes": (1, 1, 1)})
    curve = fit_bilateral_grid(positions, source, contrast, settings=single)
    some = slice(None, None, max(1, len(source) // _VOXELS))
    toned = curve.apply(positions[some], source[some]).astype(np.float64)
    gain_nodes = BilateralGrid.identity(GAIN_NODES)
    design = gain_nodes.node_weights(positions[some]) * toned
    gain = _fitted_gain(design, contrast[some] - toned)
    lattice = settings.lattice()
    at_nodes = 1 + gain @ gain_nodes.node_weights(lattice.node_positions)
    # With t = s + D, g · t = s + D' where D' = (g - 1) · t + D; exactly D where the gain is 1.
    curve_offsets = curve.offsets[0, 0, 0]
    offsets = (at_nodes[:, None] - 1) * (lattice.knots + curve_offsets) + curve_offsets
    return BilateralGrid(lattice.field_of_view, lattice.knots, offsets.reshape(lattice.offsets.shape))


def _fitted_gain(design: DoubleArray, missing: DoubleArray) -> DoubleArray:
    """Return γ = g - 1 at the gain's nodes, flat; exactly 0 where nothing is missing.

    Ridge regression, first with equal weights and then with Huber's: γ minimises
    Σ_v w_v (Σ_n design_nv γ_n - missing_v)² / Σ_v w_v + γᵀSγ with design_nv = t(s_v) · node weight_n(x_v).
    """
    stiff = _stiffness()

    def solved(trust: DoubleArray) -> DoubleArray:
        weighted = design * (trust / trust.sum())
        return np.asarray(np.linalg.solve(weighted @ design.T + stiff, weighted @ missing))

    gain = solved(np.ones(len(missing)))
    trust = huber_trust(missing - gain @ design)
    return gain if trust is None else solved(trust)


@cache
def _stiffness() -> DoubleArray:
    """Return the quadratic form S that keeps the gain smooth and near 1: the lock's, at one of its knots."""
    knots = (0.0, 1.0)  # the fewest that a lock may have
    settings = LockSettings(nodes=GAIN_NODES, knots=knots, spatial_smoothness=_GAIN_SMOOTHNESS, lift_pull=0.0)
    return np.asarray(smoothness(settings).toarray()[:: len(knots), :: len(knots)])
