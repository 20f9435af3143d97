"""Robust least squares: how much each residual is trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HUBER = 1.345  # of the residual's standard deviation: 95 % efficient for Gaussian noise (Huber 1964)
_DEVIATION = 1.4826  # of Gaussian noise, over the median of its absolute value


def huber_trust(misfit: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return weights that make the next least squares fit robust, shape (n,); None if half fit exactly."""
    size = np.abs(misfit)
    limit = _HUBER * _DEVIATION * np.median(size)
    return None if limit == 0 else np.asarray(limit / np.maximum(size, limit))
