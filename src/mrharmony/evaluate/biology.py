"""Whether a known difference between people survives harmonization, above all where sites differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from mrharmony.volume import MrharmonyError

_LEAST_ML = 0.1  # a few voxels: less is nothing, and has no logarithm
_LEAST_HEADS = 3


@dataclass(frozen=True)
class BiologyScores:
    """What became of a known factor; "kept" is harmonized over true target scans, and 1 is right.

    Parameters
    ----------
    slope_kept
        Slope of log volume on the factor over all heads, taken as if they came from one scanner.
    slope_within_sites_kept
        The same with each site's mean taken out; None where no site varies in the factor.
    rank_kept
        Spearman's correlation of volume and factor.
    difference_kept
        Standardised difference between the two groups (Cohen's d of log volume); None without two groups.
    log_error
        Mean |log volume - log true volume|: 0.1 is about 10 %.
    site_shift
        Greatest minus least site mean of log volume - log true volume: the site effect that is left or newly
        made; None for a single site.
    """

    slope_kept: float
    slope_within_sites_kept: float | None
    rank_kept: float
    difference_kept: float | None
    log_error: float
    site_shift: float | None


def biology_scores(
    measured: ArrayLike,
    truth: ArrayLike,
    factor: ArrayLike,
    sites: Sequence[str],
    groups: Sequence[str] | None = None,
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

    Raises
    ------
    MrharmonyError
        If there are fewer than three heads, or factor or true volumes do not vary.
    """
    found, true = log_volumes(measured), log_volumes(truth)
    cause = np.asarray(factor, dtype=np.float64)
    _require_heads(found, true, cause, sites)
    error = found - true
    return BiologyScores(
        slope_kept=slope(cause, found) / slope(cause, true),
        slope_within_sites_kept=_within_sites(cause, found, true, sites),
        rank_kept=_rank(cause, found) / _rank(cause, true),
        difference_kept=_difference(found, true, groups),
        log_error=float(np.abs(error).mean()),
        site_shift=_site_shift(error, sites),
    )


def log_volumes(volumes_ml: ArrayLike) -> NDArray[np.float64]:
    """Return natural logarithms of volumes in ml; below 0.1 ml counts as 0.1 ml."""
    return np.asarray(np.log(np.maximum(np.asarray(volumes_ml, dtype=np.float64), _LEAST_ML)))


def slope(factor: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the least-squares slope of values on a factor; NaN where the factor is constant."""
    centred = factor - factor.mean()
    strength = float(centred @ centred)
    return float(centred @ values) / strength if strength > 1e-12 else float("nan")


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
    return float(second.mean() - first.mean()) / pooled if pooled > 1e-12 else float("nan")


def _require_heads(
    found: NDArray[np.float64], true: NDArray[np.float64], cause: NDArray[np.float64], sites: Sequence[str]
) -> None:
    if len({len(found), len(true), len(cause), len(sites)}) != 1 or len(found) < _LEAST_HEADS:
        raise MrharmonyError("biology needs volume, truth, factor and site of the same three heads or more")
    if np.ptp(cause) == 0 or np.ptp(true) == 0:
        raise MrharmonyError("factor and true volumes must vary between heads; choose heads that differ")


def _within_sites(
    cause: NDArray[np.float64], found: NDArray[np.float64], true: NDArray[np.float64], sites: Sequence[str]
) -> float | None:
    inner = without_site_means(cause, sites)
    kept = slope(inner, found) / slope(inner, true)
    return kept if np.isfinite(kept) else None


def _rank(cause: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    return float(spearmanr(cause, values).statistic) if np.ptp(values) > 0 else 0.0


def _difference(
    found: NDArray[np.float64], true: NDArray[np.float64], groups: Sequence[str] | None
) -> float | None:
    if groups is None:
        return None
    kept = cohens_d(found, groups) / cohens_d(true, groups)
    return kept if np.isfinite(kept) else None


def _site_shift(error: NDArray[np.float64], sites: Sequence[str]) -> float | None:
    names, index = np.unique(sites, return_inverse=True)
    means = [float(error[index == site].mean()) for site in range(len(names))]
    return max(means) - min(means) if len(means) > 1 else None
