"""Who is trained on and who is held out in a study of unlearning, and what data it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrharmony.evaluate.site_folds import Fold, Labels, site_labels, subject_folds, usable_folds
from mrharmony.evaluate.site_probe import FOLDS, SEEDS
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError

LEAST_TRAINED = 6  # training subjects whose factor is known
LEAST_TESTED = 3  # held-out ones


@dataclass(frozen=True)
class UnlearningData:
    """Scans with all that is known of them; every sequence has length n.

    Parameters
    ----------
    pooled
        `latent_features` of each scan, shape (n, m).
    task
        The factor, NaN where it is not known; or 0 and 1, the number of the scan's group.
    groups
        Names of the two groups; None where the factor is a number.
    sites, subjects
        Of each scan.
    training
        Whether a scan is for training; None asks for cross-validation by subject.
    """

    pooled: FloatArray
    task: FloatArray
    groups: tuple[str, str] | None
    sites: Sequence[str]
    subjects: Sequence[str]
    training: BoolArray | None


def require_splits(data: UnlearningData, seeds: tuple[int, ...] = SEEDS) -> None:
    """Refuse data that `unlearning_study` would refuse; `pooled` may hold anything."""
    unlearning_splits(data, seeds)


def unlearning_splits(
    data: UnlearningData, seeds: tuple[int, ...]
) -> tuple[list[str], Labels, list[list[Fold]]]:
    """Return the sites' names, the number of each scan's site, and the folds of each seed.

    Raises
    ------
    MrharmonyError
        As `unlearning_study`.
    """
    names, sites = site_labels(data.sites, data.subjects, len(data.pooled))
    splits = [_folds(data, sites, seed) for seed in seeds]
    for folds in splits:
        _require(data, names, sites, folds)
    return names, sites, splits


def _folds(data: UnlearningData, sites: Labels, seed: int) -> list[Fold]:
    if data.training is not None:
        return [Fold(np.flatnonzero(data.training), np.flatnonzero(~data.training))]
    return subject_folds(sites, data.subjects, usable_folds(data.sites, data.subjects, FOLDS), seed)


def _require(data: UnlearningData, names: Sequence[str], sites: Labels, folds: Sequence[Fold]) -> None:
    """Refuse splits that nothing can be learned or told from."""
    for fold in folds:
        untrained = sorted(set(sites.tolist()) - set(sites[fold.train].tolist()))
        if untrained:
            raise MrharmonyError(
                f"Site {names[untrained[0]]} has no training scans; leave it out with --domain, "
                "or give some of its subjects the split `train`."
            )
        both = {data.subjects[n] for n in fold.train} & {data.subjects[n] for n in fold.test}
        if both:
            raise MrharmonyError(f"sub-{min(both)} is in train and in test; give each subject one split.")
        _require_known(data, fold.train, "training", LEAST_TRAINED)
    _require_known(data, np.concatenate([fold.test for fold in folds]), "held-out", LEAST_TESTED)


def _require_known(data: UnlearningData, scans: Labels, part: str, least: int) -> None:
    known = scans[np.isfinite(data.task[scans])]
    subjects = len({data.subjects[n] for n in known})
    if subjects < least:
        raise MrharmonyError(
            f"The factor is known for {subjects} {part} subjects, {least} are needed; "
            "choose another factor, or add subjects."
        )
    if np.ptp(data.task[known]) == 0:
        raise MrharmonyError(f"The factor is the same in all {part} subjects; choose one that varies.")
