"""Whether the site can still be seen in a group of scans: before and after harmonization, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Matrix
from mrharmony.evaluate.bootstrap import Estimate
from mrharmony.evaluate.group_measures import BINS, BRIGHTEST, Measured
from mrharmony.evaluate.site_classifiers import Labels
from mrharmony.evaluate.site_distances import standardised
from mrharmony.evaluate.site_features import QUANTILES, REGION_CENTRES
from mrharmony.evaluate.site_probe import SEEDS, cross_fit_probe, site_labels

_LEAST_OF_A_SITE = 4  # of a site, to train a classifier on some and test it on others
_REGIONS = int(np.prod([len(centres) for centres in REGION_CENTRES]))
_GREY_FEATURES = len(QUANTILES) + _REGIONS  # the first of `site_features`: quantiles, regional means
_DRAWS = 4000  # from the posterior of an accuracy
_MANY = 200  # scans from which one division into folds is as good as several


@dataclass(frozen=True)
class Change:
    """A figure before and after harmonization."""

    before: Estimate
    after: Estimate


@dataclass(frozen=True)
class SiteEffect:
    """How well sites can be told apart.

    Parameters
    ----------
    people
        Persons of each site that was compared.
    left_out
        Sites with too few persons.
    scans
        Number of scans compared.
    grey, everything
        Balanced accuracy of classifiers retrained on grey values, and on all features, 0..1.
    histograms
        Mean distance (Wasserstein) of the mean histograms of two sites, canonical units: before, after.
    places
        Two principal components of the grey values of each scan, before and after, shape (n, 2) each.
    compared
        Which of the given scans these are, shape (n,).
    """

    people: dict[str, int]
    left_out: tuple[str, ...]
    scans: int
    grey: Change
    everything: Change
    histograms: tuple[float, float]
    places: tuple[Matrix, Matrix]
    compared: NDArray[np.intp]

    @property
    def chance(self) -> float:
        """Accuracy of a guess."""
        return 1 / len(self.people)


def site_effect(
    before: Sequence[Measured],
    after: Sequence[Measured],
    sites: Sequence[str],
    subjects: Sequence[str],
    every_site: Iterable[str] = (),
) -> SiteEffect:
    """Compare the sites of scans before and after harmonization.

    Classifiers are retrained on each version, to convergence, and tested on persons that they have not seen.
    Sites with fewer than four persons are left out.

    Parameters
    ----------
    before, after
        Measured scans, in one order.
    sites, subjects
        Of each scan.
    every_site
        Those that were scanned at, also where no scan was measured.

    Raises
    ------
    MrharmonyError
        If fewer than two sites have persons enough, in a sentence for a reader of the page.
    """
    who: dict[str, set[str]] = {site: set() for site in every_site}
    for site, subject in zip(sites, subjects, strict=True):
        who.setdefault(site, set()).add(subject)
    kept = {site: len(people) for site, people in sorted(who.items()) if len(people) >= _LEAST_OF_A_SITE}
    _require_two(kept, who)
    compared = np.array([number for number, site in enumerate(sites) if site in kept])
    own_sites, own_subjects = [sites[n] for n in compared], [subjects[n] for n in compared]
    versions = [np.stack([version[n].features for n in compared]) for version in (before, after)]
    _, labels = site_labels(own_sites, own_subjects, len(compared))
    histograms = [np.stack([version[n].histogram for n in compared]) for version in (before, after)]
    first, second = (_histogram_distance(version, labels) for version in histograms)
    return SiteEffect(
        people=kept,
        left_out=tuple(sorted(set(who) - set(kept))),
        scans=len(compared),
        grey=Change(
            *(_accuracy(version[:, :_GREY_FEATURES], own_sites, own_subjects) for version in versions)
        ),
        everything=Change(*(_accuracy(version, own_sites, own_subjects) for version in versions)),
        histograms=(first, second),
        places=_principal(*(version[:, :_GREY_FEATURES] for version in versions)),
        compared=compared,
    )


def _require_two(kept: dict[str, int], who: dict[str, set[str]]) -> None:
    if len(who) < 2:
        raise MrharmonyError(f"All scans come from one site ({next(iter(who), 'none')}): nothing to compare.")
    if len(kept) < 2:
        counts = ", ".join(f"{site} {len(people)}" for site, people in sorted(who.items()))
        raise MrharmonyError(
            f"Too few scans can be compared: two sites with {_LEAST_OF_A_SITE} persons each are needed, "
            f"and there are {counts}."
        )


def _accuracy(features: Matrix, sites: list[str], subjects: list[str]) -> Estimate:
    """Return the balanced accuracy of a classifier with its interval.

    The interval holds 95 % of the posterior of Brodersen et al. (2010), "The balanced accuracy and its
    posterior distribution", with the number of persons as the number of trials at each site: several scans of
    a person are no independent trials.
    """
    inputs = features.astype(np.float32)
    seeds = SEEDS if len(sites) < _MANY else SEEDS[:1]
    runs = cross_fit_probe(inputs, sites, subjects, seeds=seeds).runs
    recalls, trials = [], []
    for site in np.unique(runs[0].labels):
        here = runs[0].labels == site
        recalls.append(np.mean([run.found(inputs)[here] == site for run in runs]))
        trials.append(len({subject for subject, own in zip(subjects, here, strict=True) if own}))
    hits = np.array(recalls) * trials
    rng = np.random.default_rng(0)
    draws = rng.beta(hits + 1, np.array(trials) - hits + 1, (_DRAWS, len(trials))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    value = float(np.mean(recalls))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _histogram_distance(histograms: Matrix, labels: Labels) -> float:
    middles = (np.arange(BINS) + 0.5) * BRIGHTEST / BINS
    means = [histograms[labels == site].mean(axis=0) for site in range(labels.max() + 1)]
    pairs = combinations(means, 2)
    return float(np.mean([wasserstein_distance(middles, middles, one, other) for one, other in pairs]))


def _principal(before: Matrix, after: Matrix) -> tuple[Matrix, Matrix]:
    """Return the first two principal components of both versions, on common axes."""
    both = standardised(np.concatenate([before, after]).astype(np.float64))
    scores, sizes, _ = np.linalg.svd(both, full_matrices=False)
    places = scores[:, :2] * sizes[:2]
    return places[: len(before)], places[len(before) :]
