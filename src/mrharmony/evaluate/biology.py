"""Whether a known difference between people, such as age in ventricle volume, survives harmonization.

`biology_scores` compares with true target scans. `cohort_biology` needs no truth: it estimates the effect in
a cohort of real scans, with the site as a covariate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.wording import count_of, some_of
from mrharmony.evaluate.bootstrap import RESAMPLES, Estimate, bootstrap_estimate

_LEAST_ML = 0.1  # a few voxels: an empty volume has no logarithm
_LEAST_HEADS = 3  # for a slope, of a cohort or of a site
LEAST_PEOPLE = 12  # fewer show no correlation that deserves a sentence
_TINY = 1e-12
Numbers = NDArray[np.float64]
Names = NDArray[np.str_]
Heads = NDArray[np.intp]  # indices of a bootstrap sample


@dataclass(frozen=True)
class BiologyScores:
    """What remains of a known factor; "kept" is harmonized over true target scans, and 1 is right.

    Chance alone lifts `site_shift` above 0, so an interval above 0 does not show a shift.
    """

    slope_kept: float  # of log volume on the factor over all heads, as if they came from one scanner
    slope_interval: Estimate  # the same with its bootstrap interval over heads
    slope_within_sites_kept: float | None  # without each site's mean; None where no site varies in the factor
    rank: float  # Spearman's correlation of measured and true volume, -1..1; 0 if all measured ones are equal
    difference_kept: float | None  # Cohen's d of log volume between the two groups; None without two groups
    # Mean |log volume - log true volume| of heads that were brought from another scanner: 0.1 is about 10 %.
    log_error: float
    # Greatest minus least site mean of log volume - log true volume: the site effect that remains or is new;
    # None for a single site.
    site_shift: float | None
    site_shift_interval: Estimate | None  # over heads within sites


@dataclass(frozen=True)
class CohortBiology:
    """A factor's effect on a log volume, each with its bootstrap interval over people."""

    slopes: dict[str, Estimate]  # by site, without those of fewer than three heads or a constant factor
    slope: Estimate  # over all sites, with site as a covariate
    partial_correlation: Estimate  # of factor and log volume, given site, -1..1
    # Cohen's d of the two groups within sites, averaged over sites by heads; None where no site has both
    # groups.
    group_difference: Estimate | None


def biology_scores(  # noqa: PLR0913 - volumes, what is known of the heads, and the bootstrap
    measured: ArrayLike,
    truth: ArrayLike,
    factor: ArrayLike,
    sites: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    target: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> BiologyScores:
    """Compare what a study would find in harmonized scans with what it would find in true target scans.

    Parameters
    ----------
    measured, truth
        Volumes in ml of the same heads, by one `TargetVolumetry`, in harmonized and true scans, shape (n,).
    factor
        The known cause: log ventricle factor, age, …, shape (n,). May be confounded with site.
    sites
        Where each head was scanned before harmonization.
    groups
        Two groups to compare, such as patients and controls; None if there are none.
    target
        The site that all were brought to. Many methods leave its own scans as they are, so their errors, 0,
        would flatter those methods, and are left out of `log_error`. A study has these scans too, so they
        count in all other figures.
    seed, resamples
        Of the intervals. That of the slope draws any heads; that of the site shift draws them within sites,
        and is too narrow where sites have few.

    Raises
    ------
    MrharmonyError
        If heads are fewer than three or all of the target, factor or true volumes do not vary, or the true
        slope is 0.
    """
    found, true = log_volumes(measured), log_volumes(truth)
    cause = np.asarray(factor, dtype=np.float64)
    _require_truth(found, true, cause, sites, target)
    error, (names, numbers) = found - true, np.unique(sites, return_inverse=True)
    estimate = partial(bootstrap_estimate, seed=seed, resamples=resamples)
    kept = estimate(
        lambda heads: _share(*(slope(cause[heads], values[heads]) for values in (found, true))),
        strata=[""] * len(sites),
    )
    shift = estimate(partial(_site_shift, error, numbers), strata=sites) if len(names) > 1 else None
    brought = np.array([site != target for site in sites])
    inner = without_site_means(cause, sites)
    difference = None if groups is None else _share(cohens_d(found, groups), cohens_d(true, groups))
    return BiologyScores(
        slope_kept=kept.value,
        slope_interval=kept,
        slope_within_sites_kept=_if_finite(_share(slope(inner, found), slope(inner, true))),
        rank=float(spearmanr(found, true).statistic) if np.ptp(found) > 0 else 0.0,
        difference_kept=_if_finite(difference),
        log_error=float(np.abs(error[brought]).mean()),
        site_shift=shift.value if shift else None,
        site_shift_interval=shift,
    )


def cohort_biology(
    measured: ArrayLike,
    factor: ArrayLike,
    sites: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    people: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> CohortBiology:
    """Return the effect of a factor in a cohort, where there is no truth.

    `measured` are volumes in ml, `factor` is for example age, both of shape (n,). The bootstrap resamples
    `people` within sites, with all heads that show one of them; each head another one if None. Raises
    `MrharmonyError` if the lengths differ, and as `require_cohort`.
    """
    values, cause = log_volumes(measured), np.asarray(factor, dtype=np.float64)
    require_cohort(cause, sites, groups)
    if len(values) != len(cause):
        raise MrharmonyError(f"a cohort needs a volume of each head; got {len(values)} for {len(cause)}")
    labels, names = np.asarray(sites), np.asarray(range(len(values)) if people is None else people)
    estimate = partial(bootstrap_estimate, strata=sites, people=names, seed=seed, resamples=resamples)
    slopes = {}
    for site in np.unique(labels):
        own = labels == site
        y, x = values[own], cause[own]
        if len(x) >= _LEAST_HEADS and np.ptp(x) > 0:
            here = estimate(partial(_slope_of, x, y), strata=[site] * len(x), people=names[own])
            slopes[str(site)] = here
    difference = None
    if groups is not None:
        statistic = partial(_difference_within, values, labels, np.asarray(groups))
        difference = estimate(statistic) if np.isfinite(statistic(np.arange(len(values)))) else None
    return CohortBiology(
        slopes,
        estimate(lambda heads: slope(*_within(cause, values, labels, heads))),
        estimate(lambda heads: _correlation(*_within(cause, values, labels, heads))),
        difference,
    )


def require_cohort(factor: ArrayLike, sites: Sequence[str], groups: Sequence[str] | None = None) -> None:
    """Refuse heads that `cohort_biology` cannot analyse, before anything is measured; arguments as there.

    That is: fewer than three heads, unequal lengths, a factor constant in each site, more than two groups.
    """
    cause = np.asarray(factor, dtype=np.float64)
    if len({len(cause), len(sites), len(sites if groups is None else groups)}) != 1:
        raise MrharmonyError("a cohort needs factor, site and group of the same heads")
    if len(cause) < _LEAST_HEADS:
        raise MrharmonyError(
            f"biology needs three heads or more whose factor is known; got {len(cause)}. "
            "Choose another factor, or add heads."
        )
    if np.ptp(without_site_means(cause, sites)) < 1e-9:
        raise MrharmonyError(
            "the factor varies in no site, so it cannot be separated from the site effect. Choose another."
        )
    names = sorted(set(groups or ()))
    if len(names) > 2:
        raise MrharmonyError(f"two groups can be compared, not {len(names)}: {', '.join(names)}")


def few_people(people: int, of_sites: Mapping[str, int]) -> str:
    """Return what is to be said of figures of too few people; empty where all figures mean something.

    `of_sites` has the people of each site, of whom some may have been to several.
    """
    if people < LEAST_PEOPLE:
        return (
            f"{count_of(people, 'person')}: too few. What fewer than {LEAST_PEOPLE} show is mostly chance"
            ", whatever the figures and their intervals say."
        )
    few = [site for site, own in sorted(of_sites.items()) if _LEAST_HEADS <= own < LEAST_PEOPLE]
    return (
        f"Too few for a slope of their own: {some_of(few)}, each below {LEAST_PEOPLE} people." if few else ""
    )


def log_volumes(volumes_ml: ArrayLike) -> Numbers:
    """Return natural logarithms of volumes in ml; below 0.1 ml counts as 0.1 ml."""
    return np.asarray(np.log(np.maximum(np.asarray(volumes_ml, dtype=np.float64), _LEAST_ML)))


def slope(factor: Numbers, values: Numbers) -> float:
    """Return the least-squares slope of values on a factor; NaN where the factor is constant."""
    centred = factor - factor.mean()
    strength = float(centred @ centred)
    return float(centred @ values) / strength if strength > _TINY else float("nan")


def without_site_means(values: Numbers, sites: Sequence[str]) -> Numbers:
    """Return values minus the mean of their site: what a regression with site as a covariate sees."""
    names, index = np.unique(sites, return_inverse=True)
    means = np.array([values[index == site].mean() for site in range(len(names))])
    return np.asarray(values - means[index])


def cohens_d(values: Numbers, groups: Sequence[str]) -> float:
    """Return (mean of the second group - mean of the first) / pooled SD, groups in alphabetical order.

    Cohen (1988), "Statistical Power Analysis for the Behavioral Sciences", equation 2.5.1; NaN unless there
    are two groups of at least two heads that vary.
    """
    names, index = np.unique(groups, return_inverse=True)
    if len(names) != 2 or np.bincount(index).min() < 2:
        return float("nan")
    first, second = values[index == 0], values[index == 1]
    scatter = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    pooled = float(np.sqrt(scatter / (len(values) - 2)))
    return float(second.mean() - first.mean()) / pooled if pooled > _TINY else float("nan")


def _require_truth(
    found: Numbers, true: Numbers, cause: Numbers, sites: Sequence[str], target: str | None
) -> None:
    if len({len(found), len(true), len(cause), len(sites)}) != 1 or len(found) < _LEAST_HEADS:
        raise MrharmonyError("biology needs volume, truth, factor and site of the same three heads or more")
    if {*sites} == {target}:
        raise MrharmonyError(f"all heads come from {target} itself; choose heads of other sites too")
    if np.ptp(cause) == 0 or np.ptp(true) == 0:
        raise MrharmonyError("factor and true volumes must vary between heads; choose heads that differ")
    if abs(slope(cause, true)) < _TINY:
        raise MrharmonyError("the true volumes have no slope on the factor; choose another factor")


def _share(part: float, whole: float) -> float:
    """Return part / whole; NaN where the whole is 0."""
    return part / whole if abs(whole) > _TINY else float("nan")


def _if_finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _site_shift(error: Numbers, sites: Heads, heads: Heads) -> float:
    """Return the greatest difference between the mean errors of the sites that these heads come from."""
    _, drawn = np.unique(sites[heads], return_inverse=True)
    return float(np.ptp(np.bincount(drawn, error[heads]) / np.bincount(drawn)))


def _slope_of(cause: Numbers, values: Numbers, heads: Heads) -> float:
    return slope(cause[heads], values[heads])


def _within(cause: Numbers, values: Numbers, labels: Names, heads: Heads) -> tuple[Numbers, Numbers]:
    """Return factor and values of a sample of heads without the means of their sites."""
    sites = labels[heads].tolist()
    return without_site_means(cause[heads], sites), without_site_means(values[heads], sites)


def _correlation(first: Numbers, second: Numbers) -> float:
    """Return Pearson's correlation of centred values; NaN where either is constant."""
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    # Rounding takes it a little beyond the ends.
    return min(max(float(first @ second) / size, -1.0), 1.0) if size > _TINY else float("nan")


def _difference_within(values: Numbers, labels: Names, groups: Names, heads: Heads) -> float:
    """Return the mean over sites of Cohen's d, weighted by heads; NaN where no site defines it."""
    members = [heads[labels[heads] == site] for site in np.unique(labels[heads])]
    found = [(cohens_d(values[some], groups[some].tolist()), len(some)) for some in members]
    defined = [(figure, size) for figure, size in found if np.isfinite(figure)]
    if not defined:
        return float("nan")
    return sum(figure * size for figure, size in defined) / sum(size for _, size in defined)
