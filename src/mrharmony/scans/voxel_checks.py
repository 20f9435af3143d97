"""What can be wrong with the intensities of a scan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mrharmony.scans.findings import error, warning
from mrharmony.scans.voxels import EXACT_INTEGERS, StoredVoxels
from mrharmony.volume import Finding

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
