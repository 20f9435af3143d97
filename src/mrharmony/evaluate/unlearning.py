"""Main task and site before and after unlearning, on subjects that no part of the training has seen.

Adversarial unlearning of the site from features, not images (Dinsdale et al. 2021, NeuroImage 228:117689). It
starts from a scan's coronal slices, through the latent model's encoder and pooled.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.core.wording import count_of
from mrharmony.evaluate.site_classifiers import Labels, balanced_accuracy
from mrharmony.evaluate.site_probe import (
    FOLDS,
    SEEDS,
    Fold,
    shuffled_labels,
    site_labels,
    subject_folds,
    usable_folds,
)
from mrharmony.evaluate.unlearning_network import UnlearningSettings, train_unlearning
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.networks import encode
from mrharmony.preparation.canonical import CanonicalBrain

SLABS = 5  # groups of neighbouring slices, from the back of the head to its front
_FIRST_MM, _END_MM, _STEP_MM = -104.0, 72.0, 6.0  # anterior, template mm: slices with brain in all heads
LEAST_TRAINED = 6  # training subjects whose factor is known
LEAST_TESTED = 3  # held-out ones
FeatureProbe = Literal["linear", "network"]
FEATURE_PROBES: tuple[FeatureProbe, ...] = ("linear", "network")
_ITERATIONS = 500
_NEURONS = 32
_SHRINKAGE = 1.0  # of the network's weights
Answers = dict[str, NDArray[Any]]  # predictions for the held-out scans, by predictor


@dataclass(frozen=True)
class UnlearningData:
    """Scans with all that is known of them; every sequence has length n."""

    pooled: FloatArray  # `latent_features` of each scan, shape (n, m)
    task: FloatArray  # the factor, NaN where it is not known; or 0 and 1, the number of the scan's group
    groups: tuple[str, str] | None  # names of the two groups; None where the factor is a number
    sites: Sequence[str]
    subjects: Sequence[str]
    training: BoolArray | None  # whether a scan is for training; None asks for cross-validation by subject


@dataclass(frozen=True)
class UnlearningScores:
    """What one kind of training gives on held-out scans: a number per seed.

    Site classifiers are scored by balanced accuracy; `linear` and `network` are retrained on the features.
    """

    # `r2`, `mean_absolute_error` (units of the factor) and `correlation`, or `balanced_accuracy` of groups.
    task: dict[str, tuple[float, ...]]
    linear: tuple[float, ...]
    network: tuple[float, ...]
    linear_control: tuple[float, ...]  # the same trained on sites that were permuted between subjects
    network_control: tuple[float, ...]
    # Of a fresh linear classifier, cross-validated by subject among held-out scans; None without a given
    # split, or where a site has one held-out subject.
    unseen: tuple[float, ...] | None
    frozen: tuple[float, ...]  # of the network's own site head


@dataclass(frozen=True)
class UnlearningStudy:
    """Scores without unlearning and with it, after training of the same length."""

    before: UnlearningScores
    after: UnlearningScores
    chance: float  # 1 / number of sites
    folds: int  # of the cross-validation; 1 where the split was given
    tested: tuple[int, int]  # how many scans were held out, and of how many of them the factor is known
    seeds: tuple[int, ...]  # in the order of the scores


def latent_features(model: LatentModel, brain: CanonicalBrain) -> FloatArray:
    """Return a scan's pooled latents, shape (slabs * channels * 2,).

    Every slice is encoded by itself, on the model's device; over each slab of six slices, every latent
    channel gives its mean and its standard deviation. The decoder, the denoiser and the prompts take no part.
    The brain must lie on the model's grid, in canonical units, 0 outside the brain.
    """
    grid = model.grid
    if brain.volume.shape != grid.shape or not np.allclose(brain.volume.affine, grid.affine):
        raise MrharmonyError(f"The model's grid is {model.card.working_zoom:g} mm; prepare the scans on it.")
    places = np.arange(_FIRST_MM, _END_MM, _STEP_MM)
    rows = np.round((places - grid.affine[1, 3]) / grid.zooms[1]).astype(int)
    slices = np.ascontiguousarray(brain.volume.voxels[:, rows].transpose(1, 0, 2), dtype=np.float32)
    with torch.inference_mode():
        latents = encode(model.autoencoder, torch.from_numpy(slices)[:, None].to(model.autoencoder.device))
    slabs = latents.reshape(SLABS, -1, *latents.shape[1:]).transpose(1, 2).flatten(2)
    pooled = torch.stack([slabs.mean(2), slabs.std(2, correction=0)], 2)
    return np.asarray(pooled.flatten().cpu().numpy())


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
        If there is one site only, a site has no training scan, no held-out scan or a single subject, a
        subject is on both sides of a given split, no folds divide its held-out subjects, or the factor is
        known for too few subjects or does not vary within a site.
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
    """Return the predictions of task head, site head and fresh site classifiers for all held-out scans."""
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
    if inner := _unseen_folds(data, sites, fold, seed):
        answers["unseen"] = unseen_answers(held_out, sites[fold.test], inner, seed)
    return answers


def _unseen_folds(data: UnlearningData, sites: Labels, fold: Fold, seed: int) -> list[Fold]:
    """Return folds by subject within a given split's held-out scans; none where a site has one subject."""
    tested, at = [data.subjects[n] for n in fold.test], sites[fold.test]
    if data.training is None or _least_subjects(at, tested) < 2:
        return []
    return subject_folds(at, tested, usable_folds([str(site) for site in at], tested, FOLDS), seed)


def _least_subjects(sites: Labels, subjects: Sequence[str]) -> int:
    """Return how many subjects the site with the fewest has."""
    pairs = set(zip(sites.tolist(), subjects, strict=True))
    return int(np.unique([site for site, _ in pairs], return_counts=True)[1].min())


def _scores(data: UnlearningData, sites: Labels, answers: Sequence[Answers]) -> UnlearningScores:
    """Return the scores of predictions, one set per seed."""
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
        warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations change no prediction
        return make_pipeline(StandardScaler(), classifier).fit(features, sites)


def _evened(features: FloatArray, sites: Labels) -> tuple[FloatArray, Labels]:
    """Return the scans with those of smaller sites repeated, so that sites count alike."""
    members = [np.flatnonzero(sites == site) for site in np.unique(sites)]
    most = max(len(some) for some in members)
    chosen = np.concatenate([np.resize(some, most) for some in members])
    return features[chosen], sites[chosen]


def unseen_answers(features: FloatArray, sites: Labels, folds: Sequence[Fold], seed: int) -> Labels:
    """Return a linear probe's predictions, cross-validated in these folds of the scans.

    For scans that the representation was not trained on: it may hide the site of its training scans alone.
    """
    found = np.empty_like(sites)
    for fold in folds:
        probe = fit_feature_probe("linear", features[fold.train], sites[fold.train], seed)
        found[fold.test] = probe.predict(features[fold.test])
    return found


def regression_scores(found: FloatArray, truth: FloatArray) -> dict[str, float]:
    """Return R², mean absolute error and Pearson's correlation; 0 if predictions are constant."""
    scatter = float(((truth - truth.mean()) ** 2).sum())
    varied = np.ptp(found) > 0
    return {
        "r2": 1 - float(((found - truth) ** 2).sum()) / scatter,
        "mean_absolute_error": float(np.abs(found - truth).mean()),
        "correlation": float(np.corrcoef(found, truth)[0, 1]) if varied else 0.0,
    }


def require_splits(data: UnlearningData, seeds: tuple[int, ...] = SEEDS) -> None:
    """Refuse data that `unlearning_study` would refuse; `pooled` may hold anything."""
    unlearning_splits(data, seeds)


def unlearning_splits(
    data: UnlearningData, seeds: tuple[int, ...]
) -> tuple[list[str], Labels, list[list[Fold]]]:
    """Return the sites' names, the number of each scan's site, and the folds of each seed, all checked."""
    names, sites = site_labels(data.sites, data.subjects, len(data.pooled))
    splits = [_folds(data, sites, seed) for seed in seeds]
    for folds, seed in zip(splits, seeds, strict=True):
        _require(data, names, sites, folds)
        for fold in folds:
            _unseen_folds(data, sites, fold, seed)
    return names, sites, splits


def _folds(data: UnlearningData, sites: Labels, seed: int) -> list[Fold]:
    if data.training is not None:
        return [Fold(np.flatnonzero(data.training), np.flatnonzero(~data.training))]
    return subject_folds(sites, data.subjects, usable_folds(data.sites, data.subjects, FOLDS), seed)


def _require(data: UnlearningData, names: Sequence[str], sites: Labels, folds: Sequence[Fold]) -> None:
    """Refuse splits with nothing to learn from or to test on."""
    for fold in folds:
        _require_all_sites(names, sites[fold.train], "training", "train")
        both = {data.subjects[n] for n in fold.train} & {data.subjects[n] for n in fold.test}
        if both:
            raise MrharmonyError(f"sub-{min(both)} is in train and in test; give each subject one split.")
        _require_known(data, fold.train, "training", LEAST_TRAINED)
    held_out = np.concatenate([fold.test for fold in folds])
    _require_all_sites(names, sites[held_out], "held-out", "test")
    _require_known(data, held_out, "held-out", LEAST_TESTED)
    _require_varied(data.task, sites)


def _require_all_sites(names: Sequence[str], sites: Labels, part: str, split: str) -> None:
    """Refuse a part without scans of a site: nothing would be learned of it, or chance not be 1 / K."""
    lost = sorted(set(range(len(names))) - set(sites.tolist()))
    if lost:
        raise MrharmonyError(
            f"Site {names[lost[0]]} has no {part} scans; leave the site out, "
            f"or give some of its subjects the split `{split}`."
        )


def _require_known(data: UnlearningData, scans: Labels, part: str, least: int) -> None:
    known = scans[np.isfinite(data.task[scans])]
    subjects = len({data.subjects[n] for n in known})
    if subjects < least:
        raise MrharmonyError(
            f"The factor is known for {count_of(subjects, f'{part} subject')}, {least} are needed; "
            "choose another factor, or add subjects."
        )
    if np.ptp(data.task[known]) == 0:
        raise MrharmonyError(f"The factor is the same in all {part} subjects; choose one that varies.")


def _require_varied(task: FloatArray, sites: Labels) -> None:
    """Refuse a factor that only tells the site, as the site's own column does."""
    known = np.isfinite(task)
    if all(np.ptp(task[known & (sites == site)]) == 0 for site in np.unique(sites[known])):
        raise MrharmonyError(
            "The factor is the same in all scans of each site, so that unlearning the site unlearns it; "
            "choose one that varies within a site."
        )
