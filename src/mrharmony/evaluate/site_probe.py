"""Is a scan's site still visible? Classifiers trained to find it, tested on subjects they have not seen.

In cross-validation no subject is ever in both the training part and the test part of a fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.site_classifiers import (
    Classifier,
    Labels,
    ProbeName,
    balanced_accuracy,
    fit_classifier,
    probe_inputs,
)
from mrharmony.preparation.canonical import CanonicalBrain

SEEDS = (0, 1, 2)
# The seeds of each probe; a network trains for several seconds.
PROBES: dict[ProbeName, tuple[int, ...]] = {"linear": SEEDS, "cnn": SEEDS[:1]}
FOLDS = 5
_SHUFFLES = 50  # attempts; the first is nearly always enough, a handful of travelling subjects may need more


@dataclass(frozen=True)
class ProbeScores:
    """How well a classifier finds the site of unseen subjects' scans."""

    probe: ProbeName
    seeds: tuple[int, ...]  # of the folds and of the training
    folds: int  # that were used: the number asked for, or as many as the smallest site has subjects
    balanced_accuracy: tuple[float, ...]  # mean over sites of the scans recognised, 0..1, one per seed
    chance: float  # 1 / number of sites
    trained: float  # mean balanced accuracy on the scans it was trained on: near 1 once it knows them

    @property
    def mean(self) -> float:
        """Mean balanced accuracy over the seeds."""
        return float(np.mean(self.balanced_accuracy))


@dataclass(frozen=True)
class SiteProbe:
    """A retrained probe beside its control: what the procedure finds where there is nothing."""

    scores: ProbeScores  # with the true sites
    control: ProbeScores  # with labels permuted between subjects


class Fold(NamedTuple):
    """Indices of the scans to train on and of the held-out ones."""

    train: Labels
    test: Labels


class CrossValidation(NamedTuple):
    """The number of each scan's site, shape (n,), and the folds, each with its trained classifier."""

    labels: Labels
    folds: list[tuple[Fold, Classifier]]
    trained: float  # mean over the folds of the balanced accuracy on the training part

    def found(self, inputs: FloatArray) -> Labels:
        """Return the site that each scan is taken for by the classifier that has not seen its subject."""
        found = np.empty_like(self.labels)
        for fold, classifier in self.folds:
            found[fold.test] = classifier.predict(inputs[fold.test])
        return found

    def accuracy(self, inputs: FloatArray) -> float:
        """Return the balanced accuracy over all held-out scans together."""
        return balanced_accuracy(self.labels, self.found(inputs))


@dataclass(frozen=True)
class CrossFittedProbe:
    """Classifiers trained on the training part of every fold, for versions of the held-out scans.

    Trained once on raw scans, it scores every method's harmonized ones.
    """

    probe: ProbeName
    seeds: tuple[int, ...]
    runs: tuple[CrossValidation, ...]  # one per seed

    def scores(self, brains: Sequence[CanonicalBrain]) -> ProbeScores:
        """Return the scores on one version of each of the scans that it was fitted to, in the same order."""
        fitted = len(self.runs[0].labels)
        if len(brains) != fitted:
            raise MrharmonyError(
                f"The probe was fitted to {fitted} scans, {len(brains)} were given; "
                "give one harmonized version of each, in the same order."
            )
        return self.input_scores(probe_inputs(self.probe, brains))

    def input_scores(self, inputs: FloatArray) -> ProbeScores:
        """Return the scores on `probe_inputs` of all scans."""
        accuracies = tuple(run.accuracy(inputs) for run in self.runs)
        labels, folds, _ = self.runs[0]
        trained = float(np.mean([run.trained for run in self.runs]))
        return ProbeScores(
            self.probe, self.seeds, len(folds), accuracies, 1 / len(np.unique(labels)), trained
        )


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
        One cross-validation per seed. Fewer folds are used where a site has fewer subjects.
    inputs
        `probe_inputs(probe, brains)`; computed if None.

    Raises
    ------
    MrharmonyError
        If there is one site only, a site has one subject only, or numbers of scans, sites, subjects differ.
    """
    require_sites(sites, subjects, len(brains), folds)  # before the inputs are computed
    inputs = probe_inputs(probe, brains) if inputs is None else inputs
    scores, control = (
        cross_fit_probe(inputs, sites, subjects, probe, seeds, folds, shuffled=shuffled).input_scores(inputs)
        for shuffled in (False, True)
    )
    return SiteProbe(scores, control)


def cross_fit_probe(
    inputs: FloatArray,
    sites: Sequence[str],
    subjects: Sequence[str],
    probe: ProbeName = "linear",
    seeds: tuple[int, ...] = SEEDS,
    folds: int = FOLDS,
    *,
    shuffled: bool = False,
) -> CrossFittedProbe:
    """Train a site classifier on the training part of every fold.

    Parameters
    ----------
    inputs
        `probe_inputs` of the scans, or any features of them, shape (n, …).
    sites, subjects, probe, seeds, folds
        As in `probe_sites`; errors too.
    shuffled
        Whether the labels are permuted between subjects.
    """
    names, labels = site_labels(sites, subjects, len(inputs))
    usable = usable_folds(sites, subjects, folds)

    def run(seed: int) -> CrossValidation:
        own = shuffled_labels(labels, subjects, seed) if shuffled else labels
        split = subject_folds(own, subjects, usable, seed)
        fits = [fit_classifier(probe, inputs[f.train], own[f.train], len(names), seed) for f in split]
        fitted = list(zip(split, fits, strict=True))
        known = [balanced_accuracy(own[f.train], fit.predict(inputs[f.train])) for f, fit in fitted]
        return CrossValidation(own, fitted, float(np.mean(known)))

    return CrossFittedProbe(probe, seeds, tuple(map(run, seeds)))


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

    A low score shows that scans no longer resemble the raw ones of their site, not that the site cannot be
    found: only the retrained probe shows that. For many methods call `cross_fit_probe` once, and the `scores`
    of what it returns for each of them. `harmonized` is in the order of `raw`; all else as in `probe_sites`.
    """
    require_sites(sites, subjects, len(raw), folds)  # before the inputs are computed
    fitted = cross_fit_probe(probe_inputs(probe, raw), sites, subjects, probe, seeds, folds)
    return fitted.scores(harmonized)


def require_sites(sites: Sequence[str], subjects: Sequence[str], scans: int, folds: int = FOLDS) -> None:
    """Refuse sites and subjects of scans that no probe can be trained and tested on.

    Errors as in `probe_sites`: what the data set's table alone shows.
    """
    site_labels(sites, subjects, scans)
    usable_folds(sites, subjects, folds)


def site_labels(sites: Sequence[str], subjects: Sequence[str], scans: int) -> tuple[list[str], Labels]:
    """Return the names of the sites, two or more, sorted, and the number of each scan's site."""
    if not len(sites) == len(subjects) == scans:
        raise MrharmonyError(
            f"{scans} scans, {len(sites)} sites, {len(subjects)} subjects; give one of each."
        )
    names, labels = np.unique(sites, return_inverse=True)
    if len(names) < 2:
        raise MrharmonyError(
            "All scans come from one site; a site effect needs at least two sites. Take scans of another too."
        )
    return [str(name) for name in names], labels


def usable_folds(sites: Sequence[str], subjects: Sequence[str], folds: int) -> int:
    """Return how many folds the smallest site can serve, at most `folds`: one subject a fold or more."""
    by_site = {name: {who for who, at in zip(subjects, sites, strict=True) if at == name} for name in sites}
    smallest = min(by_site, key=lambda name: len(by_site[name]))
    if len(by_site[smallest]) < 2:
        raise MrharmonyError(
            f"Site {smallest} has scans of one subject only; leave it out or add a subject, "
            "so that the probe can be trained on one and tested on another."
        )
    if folds < 2:
        raise MrharmonyError(f"Cross-validation in {folds} folds is not possible; ask for two or more.")
    return min(folds, len(by_site[smallest]))


def subject_folds(labels: Labels, subjects: Sequence[str], folds: int, seed: int) -> list[Fold]:
    """Return folds with all scans of a subject on one side, and each site shared out as evenly as can be.

    Refuses if no division was found in which every site is in every training part.
    """
    for shuffle in np.random.default_rng(seed).integers(2**31, size=_SHUFFLES):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=int(shuffle))
        splits = [Fold(*split) for split in splitter.split(np.zeros(len(labels)), labels, list(subjects))]
        if all(np.isin(labels[fold.test], labels[fold.train]).all() for fold in splits):
            return splits
    raise MrharmonyError(
        f"The subjects cannot be divided into {folds} folds so that each site is trained on in all of them; "
        "ask for fewer folds, or leave out sites with few subjects."
    )


def shuffled_labels(labels: Labels, subjects: Sequence[str], seed: int) -> Labels:
    """Return permuted labels: subjects in another order, each subject's scans in another order.

    Subjects with one scan, or with several at one site, exchange their site; where all travelled to all
    sites, each subject's scans exchange theirs. How many scans each site has stays the same.
    """
    rng = np.random.default_rng(seed)
    _, number = np.unique(subjects, return_inverse=True)
    original = np.argsort(number, kind="stable")
    drawn = np.lexsort((rng.random(len(labels)), rng.permutation(number.max() + 1)[number]))
    dealt = np.empty_like(labels)
    dealt[original] = labels[drawn]
    return dealt
