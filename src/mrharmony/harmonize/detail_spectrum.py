"""The detail of a brain: the power of its fine spatial frequencies, which sharpness and noise decide.

Low frequencies are taken away, so contrast, bias and the size of structures count little; the rim of the mask
is tapered away, so the way a brain was cut out does not tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter

from mrharmony.harmonize.fitted import masked
from mrharmony.harmonize.population import CanonicalBrain
from mrharmony.volume import BoolArray, FloatArray

BINS = 6  # along each axis
HIGHEST = 0.25  # cycles per mm, of the 2 mm grid
_SMOOTH_MM = 4.0  # standard deviation of the local mean that is taken away
_RIM_MM = (4.0, 12.0)  # depth below the mask's border at which the taper begins and ends
_LEAST = 1e-9  # power per voxel, far below noise: the logarithm of a constant brain stays finite


def log_spectrum(brain: CanonicalBrain) -> NDArray[np.float64]:
    """Return the logarithm of a brain's mean power in each bin of (|fx|, |fy|, |fz|).

    Parameters
    ----------
    brain
        Canonical units, on the 2 mm template grid.

    Returns
    -------
    NDArray
        Shape (6, 6, 6); bins of equal width from 0 to 0.25 cycles per mm along right, anterior, superior.
        White noise of standard deviation s adds s² to the power of every bin.

    Raises
    ------
    MrharmonyError
        If the mask is empty or an intensity in it is not finite.
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

    The mean is taken over voxels of the mask alone (normalized convolution, Knutsson & Westin 1993), so what
    lies outside tells nothing, and a constant brain has no residual.

    Parameters
    ----------
    voxels, mask
        Shape (i, j, k).
    zooms
        Voxel size, mm.
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
