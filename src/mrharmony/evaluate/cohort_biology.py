"""What a cohort of real scans says about a factor, where there is no truth: with and without the sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrharmony.evaluate.biology import cohens_d, log_volumes, slope, without_site_means
from mrharmony.evaluate.uncertainty import RESAMPLES, Estimate, Statistic, bootstrap_estimate
from mrharmony.volume import MrharmonyError

_LEAST_HEADS = 3  # for a slope, of all or of a site


@dataclass(frozen=True)
class CohortBiology:
    """A factor's effect on a log volume, each with its bootstrap interval over heads.

    Parameters
    ----------
    slopes
        By site; sites with fewer than three heads or a constant factor are left out.
    slope
        Over all sites, with site as a covariate.
    partial_correlation
        Of factor and log volume, given site, -1..1.
    group_difference
        Cohen's d of the two groups within sites, averaged over sites by heads; None where no site has both
        groups.
    """

    slopes: dict[str, Estimate]
    slope: Estimate
    partial_correlation: Estimate
    group_difference: Estimate | None


def cohort_biology(
    measured: ArrayLike,
    factor: ArrayLike,
    sites: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> CohortBiology:
    """Return what a cohort says about a factor.

    Parameters
    ----------
    measured
        Volumes in ml, shape (n,).
    factor
        Age, say, shape (n,).
    sites, groups
        Of each head; groups are two, or None.
    seed, resamples
        Of the bootstrap, which resamples heads within sites.

    Raises
    ------
    MrharmonyError
        If lengths differ, or as `require_cohort`.
    """
    values, cause = log_volumes(measured), np.asarray(factor, dtype=np.float64)
    require_cohort(cause, sites, groups)
    if len(values) != len(cause):
        raise MrharmonyError(f"a cohort needs a volume of each head; got {len(values)} for {len(cause)}")
    labels = np.asarray(sites)

    def estimate(statistic: Statistic) -> Estimate:
        return bootstrap_estimate(statistic, sites, seed, resamples=resamples)

    return CohortBiology(
        _slopes(values, cause, labels, seed, resamples),
        estimate(lambda heads: slope(*_within(cause, values, labels, heads))),
        estimate(lambda heads: _correlation(*_within(cause, values, labels, heads))),
        None if groups is None else _difference(values, labels, np.asarray(groups), estimate),
    )


def require_cohort(factor: ArrayLike, sites: Sequence[str], groups: Sequence[str] | None = None) -> None:
    """Refuse heads that `cohort_biology` can say nothing about, before anything is measured.

    Parameters
    ----------
    factor, sites, groups
        As in `cohort_biology`.

    Raises
    ------
    MrharmonyError
        If there are fewer than three heads, lengths differ, the factor varies in no site, or there are more
        than two groups.
    """
    cause = np.asarray(factor, dtype=np.float64)
    if len({len(cause), len(sites), len(sites if groups is None else groups)}) != 1:
        raise MrharmonyError("a cohort needs factor, site and group of the same heads")
    if len(cause) < _LEAST_HEADS:
        raise MrharmonyError(f"biology needs three heads or more whose factor is known; got {len(cause)}")
    if np.ptp(without_site_means(cause, sites)) < 1e-9:
        raise MrharmonyError("the factor varies in no site, so its effect cannot be told from the sites'")
    names = sorted(set(groups or ()))
    if len(names) > 2:
        raise MrharmonyError(f"two groups can be compared, not {len(names)}: {', '.join(names)}")


def _slopes(
    values: NDArray[np.float64],
    cause: NDArray[np.float64],
    labels: NDArray[np.str_],
    seed: int,
    resamples: int,
) -> dict[str, Estimate]:
    """Return the slope in each site that has enough heads of different factor."""
    slopes = {}
    for site in np.unique(labels):
        y, x = values[labels == site], cause[labels == site]
        if len(x) >= _LEAST_HEADS and np.ptp(x) > 0:
            slopes[str(site)] = bootstrap_estimate(
                partial(_slope_of, x, y), [str(site)] * len(x), seed, resamples=resamples
            )
    return slopes


def _slope_of(cause: NDArray[np.float64], values: NDArray[np.float64], heads: NDArray[np.intp]) -> float:
    return slope(cause[heads], values[heads])


def _within(
    cause: NDArray[np.float64],
    values: NDArray[np.float64],
    labels: NDArray[np.str_],
    heads: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return factor and values of some heads without their sites' means."""
    sites = labels[heads].tolist()
    return without_site_means(cause[heads], sites), without_site_means(values[heads], sites)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of centred values; NaN where either is constant."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size > 1e-12 else float("nan")


def _difference(
    values: NDArray[np.float64],
    labels: NDArray[np.str_],
    groups: NDArray[np.str_],
    estimate: Callable[[Statistic], Estimate],
) -> Estimate | None:
    """Return Cohen's d within sites; None where no site has two heads of each group."""
    statistic = partial(_difference_within, values, labels, groups)
    return estimate(statistic) if np.isfinite(statistic(np.arange(len(values)))) else None


def _difference_within(
    values: NDArray[np.float64],
    labels: NDArray[np.str_],
    groups: NDArray[np.str_],
    heads: NDArray[np.intp],
) -> float:
    """Return the mean over sites of Cohen's d, weighted by heads; NaN where no site defines it."""
    members = [heads[labels[heads] == site] for site in np.unique(labels[heads])]
    found = [(cohens_d(values[some], groups[some].tolist()), len(some)) for some in members]
    defined = [(figure, size) for figure, size in found if np.isfinite(figure)]
    return (
        sum(figure * size for figure, size in defined) / sum(size for _, size in defined)
        if defined
        else float("nan")
    )
