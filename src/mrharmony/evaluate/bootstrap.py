"""Percentile bootstrap intervals of figures over heads.

Efron and Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap

from mrharmony.core.findings import MrharmonyError

RESAMPLES = 2000
Statistic = Callable[[NDArray[np.intp]], float]


@dataclass(frozen=True)
class Estimate:
    """A figure of all heads, and the ends of its percentile bootstrap interval."""

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
        One figure per head, finite, shape (n,).
    seed
        Of the resampling; the same seed gives the same interval.
    level, resamples
        Confidence, 0..1, and number of bootstrap samples.

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
    mean = float(figures.mean())
    if figures.size == 1:  # which SciPy refuses
        return Estimate(mean, mean, mean)
    ends = bootstrap(
        (figures,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(ends.low), float(ends.high))


def bootstrap_estimate(
    statistic: Statistic,
    strata: Sequence[object],
    seed: int,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    *,
    people: Iterable[object] | None = None,
) -> Estimate:
    """Return any statistic of heads with its percentile bootstrap interval, resampled within strata.

    SciPy's bootstrap knows neither strata, nor clusters, nor samples that leave a statistic undefined.

    Parameters
    ----------
    statistic
        From indices of heads, shape (n,), to the figure; NaN for a sample that does not define it, such as a
        slope over equal ages. Such samples are left out; all heads together must define it.
    strata
        One label per head, such as its site: every sample keeps the size of each stratum.
    seed, level, resamples
        As in `bootstrap_interval`.
    people
        One label per head, of whom it shows; None if each shows another. Heads of one person are drawn
        together, since they tell less than those of several. People who are in the same several strata form
        a stratum of their own, and so do together all whom no other person is like, who else would be in
        every sample once.
    """
    value = statistic(np.arange(len(strata)))
    if not np.isfinite(value):
        raise MrharmonyError("the heads do not define this figure; check for a constant factor or group")
    rng = np.random.default_rng(seed)
    members = _people_of_strata(strata, range(len(strata)) if people is None else people)
    samples = (
        statistic(np.concatenate([_drawn(stratum, rng) for stratum in members])) for _ in range(resamples)
    )
    figures = np.array([figure for figure in samples if np.isfinite(figure)])
    if not figures.size:
        return Estimate(value, value, value)
    tail = 50 * (1 - level)
    low, high = np.percentile(figures, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def _people_of_strata(strata: Sequence[object], people: Iterable[object]) -> list[NDArray[np.intp]]:
    """Return the heads of each stratum's people, a row a person, filled up with -1."""
    heads: dict[object, list[int]] = {}
    for head, person in enumerate(people):
        heads.setdefault(person, []).append(head)
    rows: dict[tuple[str, ...], list[list[int]]] = {}
    for own in heads.values():
        rows.setdefault(tuple(sorted({str(strata[head]) for head in own})), []).append(own)
    groups = [rows[stratum] for stratum in sorted(rows)]
    alone = [own for group in groups if len(group) == 1 for own in group]
    together = [group for group in groups if len(group) > 1] + ([alone] if alone else [])
    return [np.array(list(zip_longest(*group, fillvalue=-1))).T for group in together]


def _drawn(people: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the heads of as many people as there are, drawn with replacement."""
    heads = people[rng.choice(len(people), len(people))]
    return heads[heads >= 0]
