"""The brain's intensities before and after, brought into order once for all figures that need their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.filters import threshold_multiotsu

from mrharmony.core.volume import BoolArray, FloatArray

_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class BrainIntensities:
    """Intensities of a brain's voxels, shape (n,) each.

    Parameters
    ----------
    before, after
        Of source and output, voxel by voxel.
    order
        `argsort(before, kind="stable")`.
    rising_before, rising_after
        Each sorted by itself.
    """

    before: FloatArray
    after: FloatArray
    order: NDArray[np.intp]
    rising_before: FloatArray
    rising_after: FloatArray

    @classmethod
    def of(cls, source: FloatArray, output: FloatArray, mask: BoolArray) -> Self:
        """Take them from images of shape (i, j, k) with a mask that is not empty."""
        before, after = source[mask], output[mask]
        order = stable_order(before)
        return cls(before, after, order, before[order], np.sort(after))


def stable_order(values: FloatArray) -> NDArray[np.intp]:
    """Return `argsort(values, kind="stable")` of fewer than 2³² numbers, several times as fast.

    NumPy sorts whole numbers with vector instructions, but has none for a stable order. Here the upper half
    of a whole number of 64 bits rises with the value, and the lower half is the place.
    """
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0, its equal
    rising = bits ^ np.where(bits & _SIGN, ~np.uint32(0), _SIGN)  # of two negative numbers, the bits fall
    keys = rising.astype(np.uint64) << np.uint64(32) | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return np.asarray(keys & np.uint64(0xFFFFFFFF), dtype=np.intp)


def quantiles(rising: FloatArray, probabilities: ArrayLike) -> NDArray[np.floating]:
    """Return `np.quantile(rising, probabilities)` of values that are sorted already, without a copy."""
    places = (len(rising) - 1) * np.asarray(probabilities)
    lower = np.floor(places).astype(np.intp)
    share = places - lower.astype(places.dtype)
    low, high = rising[lower], rising[np.minimum(lower + 1, len(rising) - 1)]
    step = high - low
    # NumPy counts from the nearer neighbour.
    return np.where(share < 0.5, low + step * share, high - step * (1 - share))


def histogram(rising: FloatArray, bins: int) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Return `np.histogram(rising, bins)` of values that are sorted already, from the edges' places alone."""
    edges = np.histogram_bin_edges(rising, bins)
    places = np.searchsorted(rising, edges[1:-1])
    return np.diff([0, *places, len(rising)]), edges


def class_thresholds(counts: NDArray[np.integer], edges: NDArray[np.floating]) -> NDArray[np.floating] | None:
    """Return the intensities that part the dark, the middle and the bright class of a histogram, shape (2,).

    They minimise the variance within the classes (Otsu 1979, IEEE Trans SMC 9:62). None where fewer than
    three bins hold a voxel. Numbers of voxels of shape (bins,), edges of the bins of shape (bins + 1,).
    """
    if np.count_nonzero(counts) < 3:
        return None
    thresholds: NDArray[np.floating] = threshold_multiotsu(hist=(counts, (edges[1:] + edges[:-1]) / 2))
    return thresholds
