"""Read the stored voxels as float32 intensities, piece by piece, and count what cannot be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrharmony.scans.byte_source import ByteSource
from mrharmony.scans.layout import Layout
from mrharmony.volume import FloatArray

VOXELS_AT_ONCE = 1 << 19
EXACT_INTEGERS = 2**24
"""Every whole number up to this one is a float32."""


@dataclass(frozen=True)
class StoredVoxels:
    """What the file holds.

    Parameters
    ----------
    intensities
        Scaled intensities in the file's order (first axis fastest), shape (voxels,), float32.
    non_finite
        How many stored values are NaN or infinite.
    overflowing
        How many are finite, but too large for float32.
    inexact
        How many are whole numbers of 64 bits beyond `EXACT_INTEGERS`.
    wide_integers
        Whether the file stores 64-bit integers.
    """

    intensities: FloatArray
    non_finite: int
    overflowing: int
    inexact: int
    wide_integers: bool

    @property
    def all_finite(self) -> bool:
        """Whether every intensity has a value."""
        return self.non_finite == 0 and self.overflowing == 0


def read_voxels(source: ByteSource, layout: Layout) -> StoredVoxels:
    """Read all voxels that a sound layout announces.

    Intensities are computed in float64, as nibabel does, and rounded once to float32; beside the result
    only one piece of the file is held in memory.

    Raises
    ------
    ScanFault
        The content ends early or is damaged.
    """
    assert layout.dtype is not None
    intensities = np.empty(layout.voxel_count, dtype=np.float32)
    counts = np.zeros(3, dtype=np.int64)
    source.skip_to(int(layout.offset))
    for start in range(0, layout.voxel_count, VOXELS_AT_ONCE):
        piece = intensities[start : start + VOXELS_AT_ONCE]
        stored = np.frombuffer(source.read(piece.size * layout.dtype.itemsize), dtype=layout.dtype)
        piece[:] = _scaled(stored, *layout.scaling)
        counts += _oddities(stored, piece)
    non_finite, overflowing, inexact = map(int, counts)
    wide_integers = layout.dtype.kind in "iu" and layout.dtype.itemsize == 8
    return StoredVoxels(intensities, non_finite, overflowing, inexact, wide_integers)


def _scaled(stored: NDArray[np.number], slope: float, inter: float) -> FloatArray:
    if (slope, inter) != (1.0, 0.0):
        stored = stored.astype(np.float64) * slope + inter
    return stored.astype(np.float32)


def _oddities(stored: NDArray[np.number], intensities: FloatArray) -> tuple[int, int, int]:
    """Count non-finite stored values, finite ones that overflow, and 64-bit integers that are inexact."""
    unusable = int(np.count_nonzero(~np.isfinite(intensities)))
    if np.issubdtype(stored.dtype, np.floating):
        non_finite = int(np.count_nonzero(~np.isfinite(stored)))
        return non_finite, unusable - non_finite, 0
    if stored.dtype.itemsize < 8:
        return 0, unusable, 0
    return 0, unusable, int(np.count_nonzero((stored > EXACT_INTEGERS) | (stored < -EXACT_INTEGERS)))
