"""A filter of real, symmetric gains: it changes sharpness and noise and moves no edge.

The gains lie on a coarse lattice over (|fx|, |fy|, |fz|), cycles per mm along the axes of the template, so
one lattice serves every grid and posture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import find_objects, map_coordinates

from mrharmony.harmonize.detail_spectrum import BINS, HIGHEST, local_residual
from mrharmony.volume import BoolArray, FloatArray, Matrix

_ONSET = (0.03, 0.08)  # cycles per mm: where the filter begins, and where the gains hold in full
_MARGIN_MM = 12.0  # of zeros around the brain, so that its ends do not meet


def filter_brain(
    voxels: FloatArray, mask: BoolArray, to_template: Matrix, gains: NDArray[np.float64]
) -> FloatArray:
    """Return a brain through the filter, 0 outside the mask.

    y = x + F⁻¹[(g - 1) F r], with r the brain minus its local mean, 0 outside the mask (`local_residual`). So
    a constant brain stays what it is, nothing bleeds over the mask's border, and the phase of every frequency
    is kept. No intensity falls below 0, or farther below than it was.

    Parameters
    ----------
    voxels, mask
        Intensities and brain, shape (i, j, k).
    to_template
        Voxel indices to template mm, shape (4, 4); any rotation and zooms.
    gains
        Shape (6, 6, 6), positive, on the bins of `log_spectrum`; linear between their centres, constant
        beyond the last, and 1 at the lowest frequencies.
    """
    filtered = np.zeros_like(voxels)
    if not mask.any():
        return filtered
    (box,) = find_objects(mask.astype(np.uint8))
    inside, brain = mask[box], voxels[box]
    zooms = np.linalg.norm(to_template[:3, :3], axis=0)
    residual = local_residual(brain, inside, (float(zooms[0]), float(zooms[1]), float(zooms[2])))
    sizes = [
        _odd_size(size + 2 * int(np.ceil(_MARGIN_MM / z))) for size, z in zip(brain.shape, zooms, strict=True)
    ]
    response = gain_at(frequencies(sizes, to_template), gains) - 1
    spectrum = fft.rfftn(residual, sizes) * response.astype(np.float32)
    change = fft.irfftn(spectrum, sizes)[tuple(slice(size) for size in brain.shape)]
    floor = np.minimum(brain, 0)
    filtered[box] = np.where(inside, np.maximum(brain + change, floor), 0)
    return filtered


def gain_at(frequency: FloatArray, gains: NDArray[np.float64]) -> FloatArray:
    """Return the gain at frequencies of the template.

    Parameters
    ----------
    frequency
        Cycles per mm, shape (3, ...).
    gains
        As in `filter_brain`.

    Returns
    -------
    Shape (...): between 1 and the nearest gains.
    """
    places = np.abs(frequency) * np.float32(BINS / HIGHEST) - np.float32(0.5)
    full = map_coordinates(gains.astype(np.float32), places, order=1, mode="nearest")
    begin, end = _ONSET
    radius = np.sqrt(np.square(frequency).sum(axis=0))
    onset = np.sin(np.clip((radius - begin) / (end - begin), 0, 1) * (np.pi / 2)) ** 2
    return np.asarray(1 + onset * (full - 1), np.float32)


def frequencies(sizes: list[int], to_template: Matrix) -> FloatArray:
    """Return the template frequency of each coefficient of `rfftn`, cycles per mm.

    A wave of k cycles per voxel has the frequency f = A⁻ᵀ k, where A takes voxels to template mm.

    Parameters
    ----------
    sizes
        i, j, k of the volume that is transformed.
    to_template
        A, shape (4, 4).

    Returns
    -------
    Shape (3, i, j, k // 2 + 1).
    """
    i, j, k = sizes
    axes = np.meshgrid(fft.fftfreq(i), fft.fftfreq(j), fft.rfftfreq(k), indexing="ij", sparse=True)
    inverse = np.linalg.inv(to_template[:3, :3]).T
    return np.stack([sum(row[a] * axes[a] for a in range(3)) for row in inverse]).astype(np.float32)


def _odd_size(least: int) -> int:
    """Return an odd size that is quick to transform; without a Nyquist frequency every gain is symmetric."""
    size = least | 1
    while _without(size, (3, 5, 7, 11)) > 1:
        size += 2
    return size


def _without(number: int, factors: tuple[int, ...]) -> int:
    for factor in factors:
        while number % factor == 0:
            number //= factor
    return number
