"""What a representation still knows: the main task, and the site by classifiers that are trained anew.

Main task and site before and after unlearning, on subjects that no part of the training has seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.site_classifiers import balanced_accuracy
from mrharmony.evaluate.site_folds import Fold, Labels, shuffled_labels, subject_folds, usable_folds
from mrharmony.evaluate.site_probe import FOLDS, SEEDS
from mrharmony.evaluate.unlearning.splits import UnlearningData, unlearning_splits
from mrharmony.evaluate.unlearning.training import UnlearningSettings, train_unlearning

FeatureProbe = Literal["linear", "network"]
FEATURE_PROBES: tuple[FeatureProbe, ...] = ("linear", "network")
_ITERATIONS = 500
_NEURONS = 32
_SHRINKAGE = 1.0  # of the network's weights


def fit_feature_probe(probe: FeatureProbe, features: FloatArray, sites: Labels, seed: int) -> Pipeline:
    """Return a fresh site classifier, trained on frozen features of shape (n, features).

    `linear`: logistic regression, each site counting alike. `network`: one hidden layer of 32 neurons. Both
    on features standardised by these scans, so that a site cannot hide in a small number.
    """
    if probe == "linear":
        classifier = LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS)
    else:
        features, sites = _evened(features, sites)
        classifier = MLPClassifier(
            (_NEURONS,), solver="lbfgs", alpha=_SHRINKAGE, max_iter=_ITERATIONS, random_state=seed
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations change no answer
        return make_pipeline(StandardScaler(), classifier).fit(features, sites)


def _evened(features: FloatArray, sites: Labels) -> tuple[FloatArray, Labels]:
    """Return the scans with those of smaller sites repeated, so that sites count alike."""
    members = [np.flatnonzero(sites == site) for site in np.unique(sites)]
    most = max(len(some) for some in members)
    chosen = np.concatenate([np.resize(some, most) for some in members])
    return features[chosen], sites[chosen]


def unseen_answers(
    features: FloatArray, sites: Labels, subjects: Sequence[str], folds: int, seed: int
) -> Labels:
    """Return the linear probe's answers on scans that it is trained and tested on by subject.

    For scans that the representation was not trained on: what it leaks there, though it may have learned to
    hide the sites of its own training scans.
    """
    found = np.empty_like(sites)
    usable = usable_folds([str(site) for site in sites], subjects, folds)
    for fold in subject_folds(sites, subjects, usable, seed):
        probe = fit_feature_probe("linear", features[fold.train], sites[fold.train], seed)
        found[fold.test] = probe.predict(features[fold.test])
    return found


def regression_scores(found: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Return R², mean absolute error and Pearson's correlation; 0 for the correlation of constant answers."""
    scatter = float(((truth - truth.mean()) ** 2).sum())
    varied = np.ptp(found) > 0
    return {
        "r2": 1 - float(((found - truth) ** 2).sum()) / scatter,
        "mean_absolute_error": float(np.abs(found - truth).mean()),
        "correlation": float(np.corrcoef(found, truth)[0, 1]) if varied else 0.0,
    }


Answers = dict[str, NDArray[Any]]  # of the held-out scans, by who answers


@dataclass(frozen=True)
class UnlearningScores:
    """What one kind of training gives on held-out scans: a number a seed.

    Parameters
    ----------
    task
        `r2`, `mean_absolute_error` (units of the factor) and `correlation`, or `balanced_accuracy` of groups.
    linear, network
        Balanced accuracy of fresh site classifiers trained on the features of the training scans.
    linear_control, network_control
        The same trained on sites dealt out anew between subjects.
    unseen
        Balanced accuracy of a fresh linear site classifier, cross-validated by subject among held-out scans;
        None without a given split, or where a site has one held-out subject.
    frozen
        Balanced accuracy of the network's own site head.
    """

    task: dict[str, tuple[float, ...]]
    linear: tuple[float, ...]
    network: tuple[float, ...]
    linear_control: tuple[float, ...]
    network_control: tuple[float, ...]
    unseen: tuple[float, ...] | None
    frozen: tuple[float, ...]


@dataclass(frozen=True)
class UnlearningStudy:
    """Scores without unlearning and with it, after training of the same length.

    Parameters
    ----------
    before, after
        The scores.
    chance
        1 / number of sites.
    folds
        Of the cross-validation; 1 where the split was given.
    tested
        How many scans were held out, and of how many of them the factor is known.
    seeds
        Whose order all scores are in.
    """

    before: UnlearningScores
    after: UnlearningScores
    chance: float
    folds: int
    tested: tuple[int, int]
    seeds: tuple[int, ...]


def unlearning_study(
    data: UnlearningData, settings: UnlearningSettings | None = None, seeds: tuple[int, ...] = SEEDS
) -> UnlearningStudy:
    """Train with and without unlearning, and score both on held-out subjects.

    Parameters
    ----------
    data
        The scans. All scans of a subject stay on one side of every split.
    settings
        How to train; the defaults if not given.
    seeds
        Of the first weights, of the probes, of the shuffled labels and of the folds.

    Raises
    ------
    MrharmonyError
        If there is one site only, a site has no training scan or a single subject, a subject is on both sides
        of a given split, or the factor is known for too few subjects or does not vary.
    """
    names, sites, splits = unlearning_splits(data, seeds)
    runs = [
        (after, seed, folds) for after in (False, True) for seed, folds in zip(seeds, splits, strict=True)
    ]
    chosen = settings or UnlearningSettings()
    answers = [
        _answers(data, sites, folds, chosen, seed, after) for after, seed, folds in track(runs, "unlearning")
    ]
    tested = np.concatenate([fold.test for fold in splits[0]])
    before, after = (_scores(data, sites, some) for some in (answers[: len(seeds)], answers[len(seeds) :]))
    known = int(np.isfinite(data.task[tested]).sum())
    return UnlearningStudy(before, after, 1 / len(names), len(splits[0]), (len(tested), known), seeds)


def _answers(
    data: UnlearningData,
    sites: Labels,
    folds: Sequence[Fold],
    settings: UnlearningSettings,
    seed: int,
    unlearn: bool,
) -> Answers:
    """Return what task head, site head and fresh site classifiers say of the held-out scans, fold by fold."""
    parts = [_fold_answers(data, sites, fold, settings, seed, unlearn) for fold in folds]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fold_answers(
    data: UnlearningData, sites: Labels, fold: Fold, settings: UnlearningSettings, seed: int, unlearn: bool
) -> Answers:
    groups = len(data.groups) if data.groups else None
    train, test = data.pooled[fold.train], data.pooled[fold.test]
    trained = train_unlearning(
        train, data.task[fold.train], sites[fold.train], groups, settings, seed, unlearn
    )
    seen, held_out = trained.features(train), trained.features(test)
    subjects = [data.subjects[n] for n in fold.train]
    dealt = {"": sites[fold.train], "_control": shuffled_labels(sites[fold.train], subjects, seed)}
    answers: Answers = {"scan": fold.test, "task": trained.task(test), "frozen": trained.sites(test)}
    for kind, labels in dealt.items():
        for probe in FEATURE_PROBES:
            answers[probe + kind] = fit_feature_probe(probe, seen, labels, seed).predict(held_out)
    tested = [data.subjects[n] for n in fold.test]
    if data.training is not None and _least_subjects(sites[fold.test], tested) > 1:
        answers["unseen"] = unseen_answers(held_out, sites[fold.test], tested, FOLDS, seed)
    return answers


def _least_subjects(sites: Labels, subjects: Sequence[str]) -> int:
    """Return how many subjects the site with the fewest has."""
    pairs = set(zip(sites.tolist(), subjects, strict=True))
    return int(np.unique([site for site, _ in pairs], return_counts=True)[1].min())


def _scores(data: UnlearningData, sites: Labels, answers: Sequence[Answers]) -> UnlearningScores:
    """Return the scores of answers, one set of them a seed."""
    tasks = [_task_scores(data, run) for run in answers]
    accuracies = {
        name: tuple(balanced_accuracy(sites[run["scan"]], run[name]) for run in answers)
        for name in answers[0]
        if name not in {"scan", "task"}
    }
    task = {name: tuple(scores[name] for scores in tasks) for name in tasks[0]}
    unseen = accuracies.pop("unseen", None)
    return UnlearningScores(task, unseen=unseen, **accuracies)


def _task_scores(data: UnlearningData, answers: Answers) -> dict[str, float]:
    truth, found = data.task[answers["scan"]], answers["task"]
    known = np.isfinite(truth)
    if data.groups:
        return {"balanced_accuracy": balanced_accuracy(truth[known].astype(int), found[known])}
    return regression_scores(found[known], truth[known])
