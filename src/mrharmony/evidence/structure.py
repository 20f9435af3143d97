"""Structure that an output has and its source lacks, or the other way round, place by place.

A harmonization without faults changes contrast smoothly, so within a few millimetres the output o is a line
of the source through one tone curve, p: o ≈ a p + b, the local model of the guided filter (He, Sun and Tang
2013, IEEE TPAMI 35:1397, equation 3). The variance that the best line leaves,

    min_ab var(o - a p - b) = var(o) - cov(p, o)² / var(p),

is structure that the source does not have; with p and o exchanged, structure that was lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evidence.intensities import BrainIntensities, quantiles, stable_order
from mrharmony.space.blocks import block_means

_CELL_MM = 2.0  # means over cells of about this size are compared, so that noise counts little
_REACH_MM = 4.0  # standard deviation of the neighbourhood
_WORST = 99.9  # per cent: the thousandth of the brain that fits least, one or two millilitres
_NOISE = 1e-4  # variance that is taken for noise, of outputs whose 90th percentile is 1
_TONES = 100  # groups of equal size, by source intensity, whose medians make the tone curve
_UNIT = np.float32(0.9)  # the 90th percentile of the output
_SAMPLED = 200_000  # voxels that the tone curve is taken from


def structure_change(
    brain: BrainIntensities, mask: BoolArray, zooms: tuple[float, float, float]
) -> tuple[float, float]:
    """Return new and lost structure, in shares of the output's 90th percentile.

    Square roots of the variances above over a Gaussian neighbourhood; the 99.9th percentile over the brain.

    Parameters
    ----------
    brain
        Intensities before and after.
    mask
        Where these lie, shape (i, j, k).
    zooms
        Voxel size, mm.
    """
    unit = float(quantiles(brain.rising_after, _UNIT))
    if unit <= 0:
        return 0.0, 0.0
    factors = tuple(max(1, round(_CELL_MM / zoom)) for zoom in zooms)
    share = block_means(mask.astype(np.float32), factors)
    inside = np.zeros(mask.shape, np.float32)
    means = []
    for values in (_toned(brain), brain.after):
        inside[mask] = values / np.float32(unit)
        means.append(block_means(inside, factors) / np.maximum(share, 0.5))
    sigmas = [_REACH_MM / (zoom * factor) for zoom, factor in zip(zooms, factors, strict=True)]
    expected, found = means
    return _unexplained(expected, found, share > 0.5, sigmas)


def _unexplained(
    expected: FloatArray, found: FloatArray, inside: BoolArray, sigmas: list[float]
) -> tuple[float, float]:
    """Return what of `found` is not in `expected`, and the other way round."""
    if not inside.any():
        return 0.0, 0.0
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigmas, truncate=3)[inside]

    def mean(cells: FloatArray) -> FloatArray:
        """Return the Gaussian means around the brain's cells, over cells of the brain alone, shape (n,)."""
        smooth = ndimage.gaussian_filter(np.where(inside, cells, 0), sigmas, truncate=3)
        return np.asarray(smooth[inside] / weight)

    means = mean(expected), mean(found)
    variances = [mean(v * v) - m * m for v, m in zip((expected, found), means, strict=True)]
    covariance = mean(expected * found) - means[0] * means[1]
    old, new = (np.maximum(variance, 0) for variance in variances)
    added, lost = new - covariance**2 / (old + _NOISE), old - covariance**2 / (new + _NOISE)
    return _worst(added), _worst(lost)


def _worst(variances: NDArray[np.floating]) -> float:
    return float(np.sqrt(max(float(np.percentile(variances, _WORST)), 0.0)))


def _toned(brain: BrainIntensities) -> FloatArray:
    """Return the source through the rising tone curve that brings it nearest to the output, shape (n,)."""
    before, after, order, rising = brain.before, brain.after, brain.order, brain.rising_before
    sampled = slice(None, None, max(1, len(before) // _SAMPLED))
    groups = np.array_split(stable_order(before[sampled]), min(_TONES, len(before[sampled])))
    # The first darkest and the first brightest voxel, so that vessels keep their brightness.
    ends = order[:1], order[np.searchsorted(rising, rising[-1:])]
    levels, became = (
        [float(np.median(part)) for part in (v[ends[0]], *(v[sampled][g] for g in groups), v[ends[1]])]
        for v in (before, after)
    )
    toned = np.empty_like(before)
    toned[order] = np.interp(rising, levels, np.maximum.accumulate(became))  # each next to the last one
    return toned
