"""Read the stored voxels as float32 intensities, piece by piece, and count what cannot be right.

What can be wrong with the intensities of a scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.findings import error, warning
from mrharmony.core.volume import Finding, FloatArray
from mrharmony.scans.layout import Layout
from mrharmony.scans.stream import ByteSource

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


FEWEST_LEVELS = 20
"""With fewer grey levels it is a mask or a label map, not a T1w scan."""

FEW_LEVELS = 64
LEVEL_SAMPLE = 1 << 20


def check_finite(stored: StoredVoxels) -> Iterator[Finding]:
    """Find voxels that are NaN, infinite, or beyond float32."""
    if stored.non_finite:
        share = stored.non_finite / stored.intensities.size
        yield error(
            "non-finite-voxels",
            f"{stored.non_finite:,} voxels ({share:.2%}) are NaN or infinite.",
            "Find out which step made them; if they are background, set them to 0 (`fslmaths IN -nan OUT`).",
        )
    if stored.overflowing:
        yield error(
            "intensity-overflow",
            f"{stored.overflowing:,} voxels have intensities that float32 cannot hold.",
            "Check the header's scl_slope, or rescale the intensities.",
        )


def check_wide_integers(stored: StoredVoxels) -> Iterator[Finding]:
    """Find 64-bit integers: harmless while they are small, but foreign to most tools of the field."""
    if stored.inexact:
        yield error(
            "integer64",
            f"{stored.inexact:,} voxels are 64-bit integers beyond {EXACT_INTEGERS:,}, not intensities.",
            "Convert the scan to int16 or float32 with sensible intensities.",
        )
    elif stored.wide_integers:
        yield warning(
            "integer64",
            "The voxels are 64-bit integers, which many tools cannot read; all fit float32 exactly.",
            "Nothing to do here; for other tools, convert the scan to int16 or float32.",
        )


def check_contrast(stored: StoredVoxels) -> Iterator[Finding]:
    """Find images without content, and masks or label maps given as scans."""
    intensities = stored.intensities
    if not stored.all_finite:
        return
    if intensities.min() == intensities.max():
        yield error(
            "constant-image",
            f"Every voxel is {intensities[0]:g}: the image is empty.",
            "Convert or export the scan again.",
        )
        return
    levels = grey_levels(stored)
    if levels < FEWEST_LEVELS:
        yield error(
            "few-grey-levels",
            f"The image has only {levels} different intensities: a mask or a label map, not a scan.",
            "Give the T1w scan itself.",
        )
    elif levels < FEW_LEVELS:
        yield warning(
            "few-grey-levels",
            f"The image has only {levels} different intensities; fine contrast was lost.",
            "Convert the scan again without reducing its bit depth, if you can.",
        )


def check_sign(stored: StoredVoxels) -> Iterator[Finding]:
    """Find negative intensities, which a magnitude image does not have."""
    intensities = stored.intensities
    if not stored.all_finite:
        return
    negative = int(np.count_nonzero(intensities < 0))
    if negative > np.count_nonzero(intensities) / 2:
        yield error(
            "mostly-negative",
            f"{negative:,} voxels, most of those that are not 0, are negative.",
            "Give the magnitude image as the scanner made it, not a z-scored, phase or CT image.",
        )
    elif negative:
        yield warning(
            "negative-intensities",
            f"{negative:,} voxels are negative, down to {intensities.min():g}.",
            "Resampling can do that; give the scan as the scanner made it, if you can.",
        )


def grey_levels(stored: StoredVoxels) -> int:
    """Count different intensities; exactly below `FEW_LEVELS`, otherwise at least that many."""
    intensities = stored.intensities
    sample = intensities[:: max(1, intensities.size // LEVEL_SAMPLE)]
    levels = np.unique(sample).size
    return levels if levels >= FEW_LEVELS else np.unique(intensities).size


VOXEL_CHECKS = (check_finite, check_wide_integers, check_contrast, check_sign)
