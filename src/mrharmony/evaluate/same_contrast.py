"""A scan in the contrast of another of the same head, so that only anatomy is left to differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import FloatArray

_LEVELS = 512
_LEAST_SLOPE = 0.1  # of the curve; flatter ones lose contrast, which must show rather than be undone
_END_LEVELS = 8  # levels that tell how the curve goes on beyond the last one


def in_contrast_of(reference: CanonicalBrain, scan: CanonicalBrain) -> CanonicalBrain:
    """Return m⁻¹(scan), m the curve of slope ≥ 0.1 with the least Σ (m(reference) - scan)² in the mask.

    m is the isotonic regression of the scan on the reference's intensity levels (Barlow et al. 1972,
    "Statistical Inference under Order Restrictions"), linear between the levels. It compares voxel with
    voxel, not histogram with histogram: a change of tissue volumes is not taken for one of contrast.

    Parameters
    ----------
    reference, scan
        The same head on the same grid; the mask is the reference's.
    """
    before, after = reference.volume.voxels[reference.mask], scan.volume.voxels[reference.mask]
    levels, curve = _increasing_curve(before, after)
    voxels = np.zeros(reference.mask.shape, dtype=np.float32)
    voxels[reference.mask] = np.interp(after, curve, levels)
    return CanonicalBrain(reference.volume.with_voxels(voxels), reference.mask, reference.scale)


def _increasing_curve(
    before: FloatArray, after: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the reference's levels and what they become, both increasing, ends continued far outwards."""
    order = np.argsort(before, kind="stable")
    starts = np.unique(np.linspace(0, len(before), _LEVELS, endpoint=False).astype(np.intp))
    counts = np.diff([*starts, len(before)])
    levels = np.add.reduceat(before[order].astype(np.float64), starts) / counts
    means = np.add.reduceat(after[order].astype(np.float64), starts) / counts
    sloped = isotonic_regression(means - _LEAST_SLOPE * levels, weights=counts).x + _LEAST_SLOPE * levels
    return _continued(levels, sloped)


def _continued(
    levels: NDArray[np.float64], curve: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Add a point one unit beyond each end, where the last levels lead."""
    reach = min(_END_LEVELS, len(levels) - 1)
    start = (curve[reach] - curve[0]) / (levels[reach] - levels[0])
    end = (curve[-1] - curve[-1 - reach]) / (levels[-1] - levels[-1 - reach])
    return (
        np.concatenate([[levels[0] - 1], levels, [levels[-1] + 1]]),
        np.concatenate([[curve[0] - start], curve, [curve[-1] + end]]),
    )
