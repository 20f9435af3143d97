"""What a scanner does to fine detail: point spread, slice profile, and the end of sampled k-space."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter

FWHM_PER_SD = 2.3548

Triple = tuple[float, float, float]


def blur(images: NDArray[Any], fwhm_mm: Triple, zooms: Triple) -> NDArray[Any]:
    """Blur with a Gaussian point spread.

    Parameters
    ----------
    images
        Real or complex, shape (n, i, j, k).
    fwhm_mm, zooms
        Full width at half maximum and voxel edges along i, j, k.
    """
    deviations = np.asarray(fwhm_mm) / FWHM_PER_SD / zooms
    return np.asarray(gaussian_filter(images, (0, *deviations), mode="nearest"))


def thick_slices(images: NDArray[Any], profile_mm: Triple, zooms: Triple) -> NDArray[Any]:
    """Average over the rectangular profile of slices thicker than the voxels.

    Parameters
    ----------
    images
        Real or complex, shape (n, i, j, k).
    profile_mm
        Thickness along i, j, k; where it is not above the voxel's edge, nothing changes.
    zooms
        Voxel edges along i, j, k in mm.
    """
    for axis, (profile, zoom) in enumerate(zip(profile_mm, zooms, strict=True), start=1):
        if profile > zoom:
            images = convolve1d(images, box_weights(profile / zoom), axis=axis, mode="nearest")
    return images


def box_weights(width: float) -> NDArray[np.float64]:
    """Overlap of a rectangle, `width` ≥ 1 voxels wide about a voxel's centre, with each voxel; sum 1."""
    reach = int(np.ceil((width - 1) / 2))
    offsets = np.abs(np.arange(-reach, reach + 1))
    return np.asarray(np.clip(width / 2 - offsets + 0.5, 0, 1) / width)


def truncate_kspace(images: NDArray[Any], matrix_share: Triple) -> NDArray[Any]:
    """Leave out the ends of k-space, as a smaller acquisition matrix does: edges ring (Gibbs).

    Parameters
    ----------
    images
        Real or complex, shape (n, i, j, k); white noise in them loses the same share of its power.
    matrix_share
        Share of the image's k-space that is acquired along i, j, k, 0 (exclusive) to 1; the rest is 0.

    Returns
    -------
    NDArray
        Complex images, same shape, with the same mean.
    """
    for axis, share in enumerate(matrix_share, start=1):
        if share < 1:
            kspace = scipy.fft.fft(images, axis=axis)
            outside = np.abs(scipy.fft.fftfreq(images.shape[axis])) > share / 2
            kspace[(slice(None),) * axis + (outside,)] = 0
            images = scipy.fft.ifft(kspace, axis=axis)
    return images
