"""The detail of a brain, and a filter that changes it.

Detail is the power of the fine spatial frequencies, which sharpness and noise decide. Low frequencies are
taken away, so contrast, bias and the size of structures count little; the rim of the mask is tapered away, so
it makes no difference how a brain was cut out.

The filter's gains are real and symmetric, so it moves no edge. Power and gains lie on a coarse lattice over
(|fx|, |fy|, |fz|), cycles per mm along the axes of the template: one lattice serves every grid and alignment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, map_coordinates

from mrharmony.core.volume import BoolArray, FloatArray, Matrix
from mrharmony.domains.fitted import masked
from mrharmony.preparation.canonical import CanonicalBrain

BINS = 6  # along each axis
HIGHEST = 0.25  # cycles per mm, the Nyquist frequency of the 2 mm grid
_ONSET = (0.03, 0.08)  # cycles per mm: where the filter begins, and where the gains hold in full
_MARGIN_MM = 12.0  # of zeros around the brain, so that its ends do not meet
_SMOOTH_MM = 4.0  # standard deviation of the local mean that is taken away
_RIM_MM = (4.0, 12.0)  # depth below the mask's border at which the taper begins and ends
_LEAST = 1e-9  # power per voxel, far below noise: the logarithm of a constant brain stays finite


def log_spectrum(brain: CanonicalBrain) -> NDArray[np.float64]:
    """Return the logarithm of a brain's mean power in each bin of (|fx|, |fy|, |fz|), shape (6, 6, 6).

    Bins have equal width from 0 to 0.25 cycles per mm along right, anterior, superior. White noise of
    standard deviation s adds s² to the power of every bin. The brain lies on the 2 mm template grid.
    """
    masked(brain)
    (box,) = find_objects(brain.mask.astype(np.uint8))
    mask, zooms = np.pad(brain.mask[box], 1), brain.volume.zooms
    weight = _taper(mask, zooms)
    residual = local_residual(np.pad(brain.volume.voxels[box], 1), mask, zooms)
    power = np.abs(fft.rfftn(residual * weight)) ** 2 / max(float(np.square(weight).sum()), 1.0)
    bins = _bins_of(mask.shape, zooms)
    mean = np.bincount(bins, power.ravel(), BINS**3) / np.maximum(np.bincount(bins, minlength=BINS**3), 1)
    return np.asarray(np.log(mean + _LEAST).reshape(BINS, BINS, BINS))


def local_residual(voxels: FloatArray, mask: BoolArray, zooms: tuple[float, float, float]) -> FloatArray:
    """Return intensities minus their mean in a Gaussian neighbourhood of 4 mm, 0 outside the mask.

    r = s - (G * m s) / (G * m) with mask m and Gaussian G (normalized convolution, Knutsson & Westin 1993):
    what lies outside the mask makes no difference, and a constant brain has no residual.
    """
    sigmas = [_SMOOTH_MM / zoom for zoom in zooms]
    inside = gaussian_filter(mask.astype(np.float32), sigmas, mode="constant", truncate=3)
    level = np.float32(voxels[mask].mean()) if mask.any() else np.float32(0)
    centred = np.where(mask, voxels - level, 0).astype(np.float32)
    smooth = gaussian_filter(centred, sigmas, mode="constant", truncate=3)
    return np.where(mask, centred - smooth / np.maximum(inside, 1e-6), 0).astype(np.float32)


def _taper(mask: BoolArray, zooms: tuple[float, float, float]) -> FloatArray:
    """Return a smooth weight: 0 in the rim of the mask and outside, 1 deep inside."""
    begin, end = _RIM_MM
    depth = distance_transform_edt(mask, sampling=zooms)
    return np.asarray(np.sin(np.clip((depth - begin) / (end - begin), 0, 1) * np.pi / 2) ** 2, np.float32)


def _bins_of(shape: tuple[int, ...], zooms: tuple[float, float, float]) -> NDArray[np.intp]:
    """Return the bin of each coefficient of `rfftn`, shape (n,)."""
    i, j, k = shape
    axes = [fft.fftfreq(i, zooms[0]), fft.fftfreq(j, zooms[1]), fft.rfftfreq(k, zooms[2])]
    steps = [np.minimum(np.abs(axis) * (BINS / HIGHEST), BINS - 1).astype(np.intp) for axis in axes]
    return np.asarray(np.ravel_multi_index(np.meshgrid(*steps, indexing="ij"), (BINS,) * 3).ravel())


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
    """Return the gain, between 1 and the nearest `gains`, at frequencies (3, ...) in cycles per mm."""
    places = np.abs(frequency) * np.float32(BINS / HIGHEST) - np.float32(0.5)
    full = map_coordinates(gains.astype(np.float32), places, order=1, mode="nearest")
    begin, end = _ONSET
    radius = np.sqrt(np.square(frequency).sum(axis=0))
    onset = np.sin(np.clip((radius - begin) / (end - begin), 0, 1) * (np.pi / 2)) ** 2
    return np.asarray(1 + onset * (full - 1), np.float32)


def frequencies(sizes: list[int], to_template: Matrix) -> FloatArray:
    """Return the template frequency of each coefficient of `rfftn`, cycles per mm, (3, i, j, k // 2 + 1).

    A wave of k cycles per voxel has the frequency f = A⁻ᵀ k, where A takes voxels to template mm.
    """
    i, j, k = sizes
    axes = np.meshgrid(fft.fftfreq(i), fft.fftfreq(j), fft.rfftfreq(k), indexing="ij", sparse=True)
    inverse = np.linalg.inv(to_template[:3, :3]).T
    return np.stack([sum(row[a] * axes[a] for a in range(3)) for row in inverse]).astype(np.float32)


def _odd_size(least: int) -> int:
    """Return an odd size that is quick to transform; without a Nyquist frequency every gain is symmetric."""
    size = least | 1
    while fft.next_fast_len(size) > size:
        size += 2
    return size
