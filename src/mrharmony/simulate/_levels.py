"""Soft thresholds that select a wanted amount: how known factors become exactly as large as asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.volume import FloatArray

HALVINGS = 40


def select_amount(
    score: NDArray[np.floating], available: NDArray[np.floating], wanted: float, softness: float
) -> FloatArray:
    """Take a wanted amount where a score is highest.

    Parameters
    ----------
    score
        What comes first, any shape.
    available
        How much there is to take at each place, ≥ 0, same shape.
    wanted
        Sum of what is taken, 0 up to the sum of what is available.
    softness
        Width of the threshold, in the score's unit, over which the share taken goes from 0 to 1.

    Returns
    -------
    FloatArray
        Taken at each place, 0 to `available`; grows everywhere with `wanted`.
    """
    low, high = float(score.min()) - softness, float(score.max()) + softness
    for _ in range(HALVINGS):
        level = (low + high) / 2
        taken = available * np.clip((score - level) / softness + 0.5, 0, 1)
        low, high = (level, high) if taken.sum(dtype=np.float64) > wanted else (low, level)
    return np.asarray(taken, dtype=np.float32)
