"""Whether a known difference between people survives harmonization, above all where sites differ in it.

What a cohort of real scans says about a factor, where there is no truth: with and without the sites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.bootstrap import RESAMPLES, Estimate, Statistic, bootstrap_estimate

_LEAST_ML = 0.1  # a few voxels: less is nothing, and has no logarithm
_LEAST_HEADS = 3
_TINY = 1e-12


@dataclass(frozen=True)
class BiologyScores:
    """What became of a known factor; "kept" is harmonized over true target scans, and 1 is right.

    Parameters
    ----------
    slope_kept
        Slope of log volume on the factor over all heads, taken as if they came from one scanner.
    slope_interval
        The same with its bootstrap interval over heads within sites.
    slope_within_sites_kept
        The same with each site's mean taken out; None where no site varies in the factor.
    rank
        Spearman's correlation of measured and true volume, -1..1; 0 where the measured ones are all equal.
    difference_kept
        Standardised difference between the two groups (Cohen's d of log volume); None without two groups.
    log_error
        Mean |log volume - log true volume|: 0.1 is about 10 %.
    site_shift
        Greatest minus least site mean of log volume - log true volume: the site effect that is left or newly
        made; None for a single site.
    site_shift_interval
        The same with its bootstrap interval over heads within sites. Chance alone lifts a
        greatest difference above 0, so an interval above 0 does not show a shift.
    """

    slope_kept: float
    slope_interval: Estimate
    slope_within_sites_kept: float | None
    rank: float
    difference_kept: float | None
    log_error: float
    site_shift: float | None
    site_shift_interval: Estimate | None


def biology_scores(
    measured: ArrayLike,
    truth: ArrayLike,
    factor: ArrayLike,
    sites: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> BiologyScores:
    """Compare what a study would find in harmonized scans with what it would find in true target scans.

    Parameters
    ----------
    measured, truth
        Volumes in ml in the harmonized scans and in the true target scans of the same heads, by the same
        `TargetVolumetry`, shape (n,).
    factor
        The known cause: log ventricle factor, age, …, shape (n,). May be confounded with site.
    sites
        Where each head was scanned before harmonization.
    groups
        Two groups to compare, such as patients and controls; None if there are none.
    seed, resamples
        Of the bootstrap.

    Raises
    ------
    MrharmonyError
        If there are fewer than three heads, factor or true volumes do not vary, or the true volumes have no
        slope on the factor.
    """
    found, true = log_volumes(measured), log_volumes(truth)
    cause = np.asarray(factor, dtype=np.float64)
    _require_heads(found, true, cause, sites)
    error = found - true
    numbers = np.unique(sites, return_inverse=True)[1]
    kept = bootstrap_estimate(partial(_slope_kept, cause, found, true), sites, seed, resamples=resamples)
    shift = (
        bootstrap_estimate(partial(_site_shift, error, numbers), sites, seed, resamples=resamples)
        if numbers.max() > 0
        else None
    )
    return BiologyScores(
        slope_kept=kept.value,
        slope_interval=kept,
        slope_within_sites_kept=_within_sites(cause, found, true, sites),
        rank=float(spearmanr(found, true).statistic) if np.ptp(found) > 0 else 0.0,
        difference_kept=_difference(found, true, groups),
        log_error=float(np.abs(error).mean()),
        site_shift=shift.value if shift else None,
        site_shift_interval=shift,
    )


def log_volumes(volumes_ml: ArrayLike) -> NDArray[np.float64]:
    """Return natural logarithms of volumes in ml; below 0.1 ml counts as 0.1 ml."""
    return np.asarray(np.log(np.maximum(np.asarray(volumes_ml, dtype=np.float64), _LEAST_ML)))


def slope(factor: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the least-squares slope of values on a factor; NaN where the factor is constant."""
    centred = factor - factor.mean()
    strength = float(centred @ centred)
    return float(centred @ values) / strength if strength > _TINY else float("nan")


def without_site_means(values: NDArray[np.float64], sites: Sequence[str]) -> NDArray[np.float64]:
    """Return values minus the mean of their site: what a regression with site as a covariate sees."""
    names, index = np.unique(sites, return_inverse=True)
    means = np.array([values[index == site].mean() for site in range(len(names))])
    return np.asarray(values - means[index])


def cohens_d(values: NDArray[np.float64], groups: Sequence[str]) -> float:
    """Return (mean of the second group - mean of the first) / pooled SD, groups in alphabetical order.

    Cohen (1988), "Statistical Power Analysis for the Behavioral Sciences", equation 2.5.1; NaN where there
    are not two groups of at least two heads that vary.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) != 2 or np.bincount(index).min() < 2:
        return float("nan")
    first, second = values[index == 0], values[index == 1]
    scatter = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    pooled = float(np.sqrt(scatter / (len(values) - 2)))
    return float(second.mean() - first.mean()) / pooled if pooled > _TINY else float("nan")


def _require_heads(
    found: NDArray[np.float64], true: NDArray[np.float64], cause: NDArray[np.float64], sites: Sequence[str]
) -> None:
    if len({len(found), len(true), len(cause), len(sites)}) != 1 or len(found) < _LEAST_HEADS:
        raise MrharmonyError("biology needs volume, truth, factor and site of the same three heads or more")
    if np.ptp(cause) == 0 or np.ptp(true) == 0:
        raise MrharmonyError("factor and true volumes must vary between heads; choose heads that differ")
    if abs(slope(cause, true)) < _TINY:
        raise MrharmonyError("the true volumes have no slope on the factor; choose another factor")


def _share(part: float, whole: float) -> float:
    """Return part / whole; NaN where the whole is nothing."""
    return part / whole if abs(whole) > _TINY else float("nan")


def _slope_kept(
    cause: NDArray[np.float64],
    found: NDArray[np.float64],
    true: NDArray[np.float64],
    heads: NDArray[np.intp],
) -> float:
    return _share(slope(cause[heads], found[heads]), slope(cause[heads], true[heads]))


def _within_sites(
    cause: NDArray[np.float64], found: NDArray[np.float64], true: NDArray[np.float64], sites: Sequence[str]
) -> float | None:
    inner = without_site_means(cause, sites)
    kept = _share(slope(inner, found), slope(inner, true))
    return kept if np.isfinite(kept) else None


def _difference(
    found: NDArray[np.float64], true: NDArray[np.float64], groups: Sequence[str] | None
) -> float | None:
    if groups is None:
        return None
    kept = _share(cohens_d(found, groups), cohens_d(true, groups))
    return kept if np.isfinite(kept) else None


def _site_shift(error: NDArray[np.float64], sites: NDArray[np.intp], heads: NDArray[np.intp]) -> float:
    """Return the greatest difference between the sites' mean errors over some heads."""
    means = np.bincount(sites[heads], error[heads]) / np.bincount(sites[heads])
    return float(np.ptp(means))


_LEAST_COHORT = 3  # for a slope, of all or of a site


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
        None if groups is None else _cohort_difference(values, labels, np.asarray(groups), estimate),
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
    if len(cause) < _LEAST_COHORT:
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
        if len(x) >= _LEAST_COHORT and np.ptp(x) > 0:
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


def _cohort_difference(
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
