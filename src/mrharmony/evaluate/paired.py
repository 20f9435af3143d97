"""Paired scores: a harmonized scan against the true target scan of the same head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrharmony.volume import BoolArray, FloatArray

DATA_RANGE = 1.0  # canonical units, fixed, so that scores of different scans and methods compare
_SIGMA, _CUT = 1.5, 3.5  # of the Gaussian window: voxels, and where it ends in σ
_WIDTH = 7  # voxels of the uniform window
_MARGIN = 5  # voxels around the mask: the radius of the Gaussian window (σ 1.5, cut at 3.5 σ)
Window = Literal["gaussian", "uniform"]


@dataclass(frozen=True)
class PairedScores:
    """How close an output is to the truth inside the brain mask.

    Parameters
    ----------
    mse
        Mean squared error, in squared canonical units.
    psnr
        Peak signal-to-noise ratio in dB; infinite if output and truth are equal.
    ssim
        Mean structural similarity, -1..1.
    """

    mse: float
    psnr: float
    ssim: float


def paired_scores(
    output: FloatArray, truth: FloatArray, mask: BoolArray, data_range: float = DATA_RANGE
) -> PairedScores:
    """Return MSE, PSNR and SSIM inside a mask.

    Parameters
    ----------
    output, truth
        Intensities in the same units, shape (i, j, k).
    mask
        Voxels that count, shape (i, j, k), not empty.
    data_range
        L, the range of intensities, in the same units.
    """
    error = mean_squared_error(output, truth, mask)
    return PairedScores(error, peak_ratio(error, data_range), masked_ssim(output, truth, mask, data_range))


def mean_squared_error(output: FloatArray, truth: FloatArray, mask: BoolArray) -> float:
    """Return MSE = Σ (output - truth)² / n over the n voxels of the mask."""
    difference = output[mask].astype(np.float64) - truth[mask]
    return float(np.mean(difference**2))


def peak_ratio(error: float, data_range: float = DATA_RANGE) -> float:
    """Return PSNR = 10 log₁₀(L² / MSE) in dB; infinite for an error of 0."""
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def masked_ssim(
    output: FloatArray,
    truth: FloatArray,
    mask: BoolArray,
    data_range: float = DATA_RANGE,
    window: Window = "gaussian",
) -> float:
    """Return the mean over the mask of the SSIM map of Wang et al. (2004), equation 13.

    SSIM = (2 μₐ μᵦ + C₁)(2 σₐᵦ + C₂) / ((μₐ² + μᵦ² + C₁)(σₐ² + σᵦ² + C₂)), C₁ = (0.01 L)², C₂ = (0.03 L)²,
    with moments in a 3D window: Gaussian of σ 1.5 voxels, or uniform of 7×7×7 voxels. Both images are set to
    0 outside the mask first, so windows across its border see the same zeros in both. Images need at least 11
    voxels along each axis.
    """
    box = tuple(
        slice(max(extent.start - _MARGIN, 0), extent.stop + _MARGIN)
        for extent in ndimage.find_objects(mask.astype(np.uint8))[0]
    )
    inside = mask[box]
    first, second = (np.where(inside, image[box], 0).astype(np.float64) for image in (output, truth))
    mean_a, mean_b, variances, covariance = _moments(first, second, inside, window)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (variances + c2)))


def room_share(score: float, best_simple: float, ceiling: float) -> float | None:
    """Return (score - best_simple) / (ceiling - best_simple): the share of the room that a method has won.

    Parameters
    ----------
    score, best_simple, ceiling
        Of the method, of the best population statistic, and of the lock fitted to the truth; more is better
        (PSNR, SSIM, or minus MSE).

    Returns
    -------
    float or None
        0 at the best simple method, 1 at the ceiling, negative below the simple method; None where there is
        no room to share: the ceiling is not above the simple method, or infinite.
    """
    room = ceiling - best_simple
    return (score - best_simple) / room if 0 < room < float("inf") else None


def _moments(
    first: NDArray[np.float64], second: NDArray[np.float64], inside: BoolArray, window: Window
) -> tuple[NDArray[np.float64], ...]:
    """Return μₐ, μᵦ, σₐ² + σᵦ², σₐᵦ in the windows around the voxels of the mask, each (n,).

    From sum and difference of the images, because four filters are quicker than five:
    σₐ² + σᵦ² = (σ₊² + σ₋²) / 2 and σₐᵦ = (σ₊² - σ₋²) / 4.
    """
    both, apart = first + second, first - second
    mean_both, mean_apart, square_both, square_apart = (
        _window_mean(image, window)[inside] for image in (both, apart, both * both, apart * apart)
    )
    count = _WIDTH**3
    # scikit-image takes the uniform window's moments as those of a sample.
    unbiased = count / (count - 1) if window == "uniform" else 1.0
    variance_both = unbiased * (square_both - mean_both**2)
    variance_apart = unbiased * (square_apart - mean_apart**2)
    means = (mean_both + mean_apart) / 2, (mean_both - mean_apart) / 2
    return *means, (variance_both + variance_apart) / 2, (variance_both - variance_apart) / 4


def _window_mean(image: NDArray[np.float64], window: Window) -> NDArray[np.float64]:
    if window == "gaussian":
        return np.asarray(ndimage.gaussian_filter(image, _SIGMA, truncate=_CUT))
    return np.asarray(ndimage.uniform_filter(image, _WIDTH))
