"""Whether a known difference between people survives harmonization, above all where sites differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from mrharmony.evaluate.uncertainty import RESAMPLES, Estimate, bootstrap_estimate
from mrharmony.volume import MrharmonyError

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
