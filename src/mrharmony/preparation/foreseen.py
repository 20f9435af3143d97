"""What a glance at a scan tells that preparing would refuse: `check` says it, preparing begins with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mrharmony.core.findings import Finding, error
from mrharmony.core.volume import FloatArray, Volume

_SMALLEST_FIELD_OF_VIEW = 90.0  # mm
_SAMPLE = 100_000  # voxels that stand for all
_STANDS_OUT = 0.1  # of the range of intensities
# Measured on 68 heads of five scanners: 22 % of the voxels or more stand out brighter than the border of the
# field of view and none darker; with inverted intensities none brighter, and 23 % or more darker.
_MOST_BRIGHTER, _LEAST_DARKER = 0.01, 0.1
# A bright background alone is no fault: brain and contrast are found before one too. But the middle of a T1w
# head has its white matter near the bright end, and fluid far from it. Measured on the same heads, with their
# backgrounds filled brightly: -0.54 to -0.15; with inverted intensities: 0.22 to 0.56.
_MIDDLE = 40.0  # mm from the centre of what stands out
_MOST_SKEWED = 0.1


def foreseen_faults(volume: Volume) -> Iterator[Finding]:
    """Find what no brain can be found in: a small field of view, and intensities that are inverted.

    The intensities are finite and not all the same. Takes some milliseconds.
    """
    extent = (np.array(volume.shape) * volume.zooms).min()
    if extent < _SMALLEST_FIELD_OF_VIEW:
        yield error(
            "small-field-of-view",
            f"The field of view is {extent:.0f} mm at its narrowest, too small for a brain.",
            "Give a scan of the whole head.",
        )
    elif _is_inverted(volume):
        yield error(
            "inverted-intensities",
            "The background is brighter than the head, and white matter darker than grey: an inverted image.",
            "Give the T1w image as the scanner made it.",
        )


def _is_inverted(volume: Volume) -> bool:
    """Whether the background is brighter than all else, and the middle of the head is skewed as no T1w is."""
    step = max(1, round((volume.voxels.size / _SAMPLE) ** (1 / 3)))
    sample = volume.voxels[::step, ::step, ::step]
    border = np.median(np.concatenate([face[::step, ::step].ravel() for face in _faces(volume.voxels)]))
    low, high = np.percentile(sample, [1, 99.9])
    margin = _STANDS_OUT * (high - low)
    darker = sample < border - margin
    if np.mean(sample > border + margin) > _MOST_BRIGHTER or np.mean(darker) < _LEAST_DARKER:
        return False
    places = np.argwhere(sample < border) * volume.zooms * step
    centre = np.argwhere(darker).mean(axis=0) * volume.zooms * step
    middle = sample[sample < border][np.linalg.norm(places - centre, axis=1) < _MIDDLE]
    return middle.size > 0 and _skewness(middle) > _MOST_SKEWED


def _faces(voxels: FloatArray) -> list[FloatArray]:
    return [np.moveaxis(voxels, axis, 0)[side] for axis in range(3) for side in (0, -1)]


def _skewness(values: FloatArray) -> float:
    """Return how far the median lies from the middle of the 5th and 95th percentile: 1 is at the 5th, -1..1.

    Hinkley (1975), Biometrika 62:101-111; 0 where both are the same.
    """
    low, median, high = np.percentile(values, [5, 50, 95])
    return float((high + low - 2 * median) / (high - low)) if high > low else 0.0
