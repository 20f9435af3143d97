"""Cross-validation by subject: no subject is ever in the training and in the test part of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from mrharmony.core.findings import MrharmonyError

Labels = NDArray[np.intp]
_SHUFFLES = 50  # the first nearly always serves; a handful of subjects who travelled may need more


class Fold(NamedTuple):
    """Indices of the scans to train on and of the held-out ones."""

    train: Labels
    test: Labels


def site_labels(sites: Sequence[str], subjects: Sequence[str], scans: int) -> tuple[list[str], Labels]:
    """Return the names of the sites, sorted, and the number of each scan's site.

    Raises
    ------
    MrharmonyError
        If lengths disagree or there is only one site.
    """
    if not len(sites) == len(subjects) == scans:
        raise MrharmonyError(
            f"{scans} scans, {len(sites)} sites and {len(subjects)} subjects given; give one of each a scan."
        )
    names, labels = np.unique(sites, return_inverse=True)
    if len(names) < 2:
        raise MrharmonyError("All scans come from one site; a site effect needs at least two sites.")
    return [str(name) for name in names], labels


def usable_folds(sites: Sequence[str], subjects: Sequence[str], folds: int) -> int:
    """Return how many folds the smallest site can serve, at most `folds`: one subject a fold or more.

    Raises
    ------
    MrharmonyError
        If a site has a single subject, or fewer than two folds are asked for.
    """
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

    Raises
    ------
    MrharmonyError
        If no division was found in which every site is in every training part.
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
    """Return the labels dealt out anew: subjects in another order, each subject's scans in another order.

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
