"""Paired scores: a harmonized scan against the true target scan of the same head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

from mrharmony.volume import BoolArray, FloatArray

DATA_RANGE = 1.0  # canonical units, fixed, so that scores of different scans and methods compare
_MARGIN = 10  # voxels around the mask: twice the radius of the Gaussian window (σ 1.5, cut at 3.5 σ)
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
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, similarity = structural_similarity(
        first, second, data_range=data_range, full=True, **(options if window == "gaussian" else {})
    )
    return float(similarity[inside].mean())
