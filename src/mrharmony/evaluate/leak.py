"""Whether a method has seen the truth that it is scored against."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from mrharmony.evaluate.paired import PairedScores
from mrharmony.volume import BoolArray, FloatArray

_DETAIL_SIGMA = 1.5  # voxels: what a blur by this takes away is detail and noise


def leak_suspected(score: PairedScores, ceiling: PairedScores) -> bool:
    """Tell whether a method is better than the lock fitted to the truth, which nothing honest can be.

    Parameters
    ----------
    score
        Of the method.
    ceiling
        Of the lock fitted to the true target scan of the same head.
    """
    return score.mse < ceiling.mse and score.ssim > ceiling.ssim


def leaked_noise(output: FloatArray, ceiling: FloatArray, truth: FloatArray, mask: BoolArray) -> float:
    """Return the correlation of the fine detail of output - ceiling and truth - ceiling.

    What the lock fitted to the truth cannot explain is the noise of the true scan, which no other scan shows.
    A method that has not seen the truth stands at 0 to 0.3 (poor methods highest), one that returns it at 1.
    It also finds leaks that are too faint for `leak_suspected`.

    Parameters
    ----------
    output
        Harmonized scan, shape (i, j, k).
    ceiling
        The same scan through the lock that was fitted to the truth.
    truth
        The true target scan.
    mask
        Brain mask.
    """
    extra, unexplained = (np.where(mask, image - ceiling, 0).astype(np.float64) for image in (output, truth))
    first, second = ((image - gaussian_filter(image, _DETAIL_SIGMA))[mask] for image in (extra, unexplained))
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size else 0.0
