"""Is a scan's site still visible? Classifiers trained to find it, tested on subjects they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.site_classifiers import (
    Classifier,
    ProbeName,
    balanced_accuracy,
    fit_classifier,
    probe_inputs,
)
from mrharmony.evaluate.site_folds import (
    Fold,
    Labels,
    shuffled_labels,
    site_labels,
    subject_folds,
    usable_folds,
)
from mrharmony.prepare.canonical import CanonicalBrain

SEEDS = (0, 1, 2)
FOLDS = 5


@dataclass(frozen=True)
class ProbeScores:
    """How well a classifier finds the site of unseen subjects' scans.

    Parameters
    ----------
    probe
        `linear` or `cnn`.
    seeds
        Of the folds and of the training.
    folds
        How many were used: the number asked for, or as many as the smallest site has subjects.
    balanced_accuracy
        Mean over sites of the share of a site's scans that were recognised, one a seed, 0..1.
    chance
        1 / number of sites.
    """

    probe: ProbeName
    seeds: tuple[int, ...]
    folds: int
    balanced_accuracy: tuple[float, ...]
    chance: float

    @property
    def mean(self) -> float:
        """Mean balanced accuracy over the seeds."""
        return float(np.mean(self.balanced_accuracy))


@dataclass(frozen=True)
class SiteProbe:
    """A retrained probe beside its control.

    Parameters
    ----------
    scores
        With the true sites.
    control
        The same with labels permuted between subjects: what the procedure finds where there is nothing.
    """

    scores: ProbeScores
    control: ProbeScores


@dataclass(frozen=True)
class FittedProbe:
    """A probe trained once, to be applied to scans of other subjects.

    Parameters
    ----------
    probe
        `linear` or `cnn`.
    sites
        Names in the order of the classifier's numbers.
    classifier
        The trained classifier.
    """

    probe: ProbeName
    sites: tuple[str, ...]
    classifier: Classifier

    def predict(self, brains: Sequence[CanonicalBrain]) -> list[str]:
        """Return the site that each scan seems to come from."""
        return [self.sites[number] for number in self.classifier.predict(probe_inputs(self.probe, brains))]

    def balanced_accuracy(self, brains: Sequence[CanonicalBrain], sites: Sequence[str]) -> float:
        """Return the mean over the given scans' sites of the share of scans recognised.

        Raises
        ------
        MrharmonyError
            If a site was not among the training scans, or scans and sites differ in number.
        """
        unknown = sorted(set(sites) - set(self.sites))
        if unknown or not len(sites) == len(brains) > 0:
            raise MrharmonyError(
                f"Got {len(sites)} site names for {len(brains)} scans, unknown to the probe: "
                f"{', '.join(unknown) or 'none'}; give each scan one of: {', '.join(self.sites)}."
            )
        truth = np.array([self.sites.index(site) for site in sites])
        return balanced_accuracy(truth, self.classifier.predict(probe_inputs(self.probe, brains)))


@dataclass(frozen=True)
class CrossFittedProbe:
    """Probes trained on the training part of every fold, to be applied to versions of the held-out scans.

    Trained on raw scans, it is trained once and scores every method's harmonized ones.

    Parameters
    ----------
    probe, seeds
        As in `ProbeScores`.
    labels
        Number of each scan's site, one array of shape (n,) a seed.
    folds, classifiers
        One list a seed; one classifier a fold.
    """

    probe: ProbeName
    seeds: tuple[int, ...]
    labels: tuple[Labels, ...]
    folds: tuple[list[Fold], ...]
    classifiers: tuple[list[Classifier], ...]

    def scores(self, brains: Sequence[CanonicalBrain]) -> ProbeScores:
        """Return the scores on versions of the scans that it was fitted to, in the same order.

        Raises
        ------
        MrharmonyError
            If their number is another.
        """
        fitted = len(self.labels[0])
        if len(brains) != fitted:
            raise MrharmonyError(
                f"The probe was fitted to {fitted} scans, {len(brains)} were given; "
                "give one harmonized version of each, in the same order."
            )
        return self.input_scores(probe_inputs(self.probe, brains))

    def input_scores(self, inputs: FloatArray) -> ProbeScores:
        """Return the scores on `probe_inputs` of all scans."""
        accuracies = tuple(self._held_out_accuracy(run, inputs) for run in range(len(self.seeds)))
        chance = 1 / len(np.unique(self.labels[0]))
        return ProbeScores(self.probe, self.seeds, len(self.folds[0]), accuracies, chance)

    def _held_out_accuracy(self, run: int, inputs: FloatArray) -> float:
        """Return the balanced accuracy over all held-out scans of one cross-validation together."""
        found = np.empty_like(self.labels[run])
        for fold, classifier in zip(self.folds[run], self.classifiers[run], strict=True):
            found[fold.test] = classifier.predict(inputs[fold.test])
        return balanced_accuracy(self.labels[run], found)


def probe_sites(
    brains: Sequence[CanonicalBrain],
    sites: Sequence[str],
    subjects: Sequence[str],
    probe: ProbeName = "linear",
    seeds: tuple[int, ...] = SEEDS,
    folds: int = FOLDS,
    inputs: FloatArray | None = None,
) -> SiteProbe:
    """Retrain a site classifier on the given scans and test it on held-out subjects.

    Parameters
    ----------
    brains
        Canonical brains on one grid.
    sites, subjects
        Of each scan; all scans of a subject stay on one side of every fold.
    probe
        `linear`: logistic regression on `site_features`. `cnn`: a small network on `site_slices`.
    seeds, folds
        One cross-validation a seed. Fewer folds are used where a site has fewer subjects.
    inputs
        `probe_inputs(probe, brains)` where they are at hand.

    Raises
    ------
    MrharmonyError
        If there is one site only, a site has one subject only, or the numbers of scans, sites and subjects
        differ.
    """
    _, labels = site_labels(sites, subjects, len(brains))
    usable = usable_folds(sites, subjects, folds)
    inputs = probe_inputs(probe, brains) if inputs is None else inputs
    true = (labels,) * len(seeds)
    control = tuple(shuffled_labels(labels, subjects, seed) for seed in seeds)
    scores, chance = (
        _cross_fit(probe, inputs, run, subjects, seeds, usable).input_scores(inputs)
        for run in (true, control)
    )
    return SiteProbe(scores, chance)


def fit_probe(
    brains: Sequence[CanonicalBrain], sites: Sequence[str], probe: ProbeName = "linear", seed: int = 0
) -> FittedProbe:
    """Train a site classifier on all given scans.

    Raises
    ------
    MrharmonyError
        If there is one site only, or scans and sites differ in number.
    """
    names, labels = site_labels(sites, sites, len(brains))
    classifier = fit_classifier(probe, probe_inputs(probe, brains), labels, len(names), seed)
    return FittedProbe(probe, tuple(names), classifier)


def cross_fit_probe(
    brains: Sequence[CanonicalBrain],
    sites: Sequence[str],
    subjects: Sequence[str],
    probe: ProbeName = "linear",
    seeds: tuple[int, ...] = SEEDS,
    folds: int = FOLDS,
    inputs: FloatArray | None = None,
) -> CrossFittedProbe:
    """Train a site classifier on the training part of every fold; see `probe_sites` for the parameters."""
    _, labels = site_labels(sites, subjects, len(brains))
    usable = usable_folds(sites, subjects, folds)
    inputs = probe_inputs(probe, brains) if inputs is None else inputs
    return _cross_fit(probe, inputs, (labels,) * len(seeds), subjects, seeds, usable)


def frozen_probe(
    raw: Sequence[CanonicalBrain],
    harmonized: Sequence[CanonicalBrain],
    sites: Sequence[str],
    subjects: Sequence[str],
    probe: ProbeName = "linear",
    seeds: tuple[int, ...] = SEEDS,
    folds: int = FOLDS,
) -> ProbeScores:
    """Train on raw scans of the training folds, test on harmonized scans of the held-out subjects.

    It says that scans no longer look like their own site did, not that the site cannot be found: only the
    retrained probe says that. For many methods call `cross_fit_probe` on the raw scans once and its `scores`
    on each method's. Parameters and errors as in `probe_sites`; `harmonized` in the order of `raw`.
    """
    return cross_fit_probe(raw, sites, subjects, probe, seeds, folds).scores(harmonized)


def _cross_fit(
    probe: ProbeName,
    inputs: FloatArray,
    labels: tuple[Labels, ...],
    subjects: Sequence[str],
    seeds: tuple[int, ...],
    folds: int,
) -> CrossFittedProbe:
    runs = list(zip(labels, seeds, strict=True))
    splits = tuple(subject_folds(run, subjects, folds, seed) for run, seed in runs)
    classifiers = tuple(
        [fit_classifier(probe, inputs[f.train], run[f.train], len(np.unique(run)), seed) for f in split]
        for (run, seed), split in zip(runs, splits, strict=True)
    )
    return CrossFittedProbe(probe, seeds, labels, splits, classifiers)
