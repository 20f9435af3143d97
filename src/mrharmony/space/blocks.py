"""Means over blocks of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrharmony.core.volume import FloatArray


def block_means(voxels: FloatArray, factors: Sequence[int]) -> FloatArray:
    """Return means over blocks of so many voxels; at the upper ends the last voxels may be left out."""
    for axis, factor in enumerate(factors):  # one after the other: each leaves less for the next
        planes = np.moveaxis(voxels, axis, 0)
        whole = len(planes) // factor * factor
        total = sum(planes[first:whole:factor] for first in range(factor))
        voxels = np.moveaxis(np.asarray(total / np.float32(factor)), 0, axis)
    return voxels
