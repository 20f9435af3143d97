"""How sure a figure is: percentile bootstrap over heads.

Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrharmony.core.findings import MrharmonyError

RESAMPLES = 2000
Statistic = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that holds it with the wanted confidence.

    Parameters
    ----------
    value
        Of the heads as they are.
    low, high
        Ends of the percentile bootstrap interval.
    """

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """Return the mean over heads with its percentile bootstrap interval.

    Parameters
    ----------
    values
        One figure a head, finite, shape (n,).
    seed
        Of the resampling; the same seed gives the same interval.
    level
        Confidence, 0..1.
    resamples
        Number of bootstrap samples.

    Raises
    ------
    MrharmonyError
        If there is no value, or one is not finite.
    """
    figures = np.asarray(values, dtype=np.float64)
    if figures.size == 0 or not np.isfinite(figures).all():
        raise MrharmonyError(
            "an interval needs at least one head and finite figures; leave exact matches (infinite PSNR) out"
        )
    rng = np.random.default_rng(seed)
    means = rng.choice(figures, (resamples, figures.size)).mean(axis=1)
    return Estimate(float(figures.mean()), *_ends(means, level))


def bootstrap_estimate(
    statistic: Statistic, strata: Sequence[object], seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """Return any statistic of heads with its percentile bootstrap interval, resampled within strata.

    Parameters
    ----------
    statistic
        From indices of heads, shape (n,), to the figure. NaN where a sample does not define it, for instance
        a slope over equal ages; such samples are left out.
    strata
        One label a head, such as its site: every sample keeps each stratum's size.
    seed, level, resamples
        As in `bootstrap_interval`.

    Raises
    ------
    MrharmonyError
        If the heads as they are do not define the statistic.
    """
    value = statistic(np.arange(len(strata)))
    if not np.isfinite(value):
        raise MrharmonyError(
            "the heads do not define this figure; look for a factor or group that is constant"
        )
    rng = np.random.default_rng(seed)
    names = np.unique([str(label) for label in strata], return_inverse=True)[1]
    members = [np.flatnonzero(names == label) for label in range(names.max() + 1)]
    samples = (
        statistic(np.concatenate([rng.choice(heads, len(heads)) for heads in members]))
        for _ in range(resamples)
    )
    figures = np.array([figure for figure in samples if np.isfinite(figure)])
    return Estimate(value, *(_ends(figures, level) if figures.size else (value, value)))


def _ends(figures: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = 50 * (1 - level)
    low, high = np.percentile(figures, [tail, 100 - tail])
    return float(low), float(high)
