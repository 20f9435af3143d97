"""What unlearning starts from: a scan's coronal slices through the latent model's encoder, pooled.

Who is trained on and who is held out in a study of unlearning, and what data it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.site_folds import Fold, Labels, site_labels, subject_folds, usable_folds
from mrharmony.evaluate.site_probe import FOLDS, SEEDS
from mrharmony.networks.diffusion.model import LatentModel
from mrharmony.networks.diffusion.networks import encode
from mrharmony.prepare.canonical import CanonicalBrain

SLABS = 5  # groups of neighbouring slices, from the back of the head to its front
_FROM_MM, _TO_MM, _STEP_MM = (
    -104.0,
    72.0,
    6.0,
)  # anterior, template mm: the slices that show brain in all heads


def latent_features(model: LatentModel, brain: CanonicalBrain) -> FloatArray:
    """Return a scan's pooled latents.

    Every slice is encoded by itself; over each slab of six slices, every latent channel gives its mean and
    its standard deviation. The decoder, the denoiser and the prompts take no part.

    Parameters
    ----------
    model
        Whose encoder is used; its device too.
    brain
        Canonical units, 0 outside the brain, on the model's grid.

    Returns
    -------
    FloatArray
        Shape (slabs * channels * 2,).

    Raises
    ------
    MrharmonyError
        If the brain is on another grid.
    """
    grid = model.grid
    if brain.volume.shape != grid.shape or not np.allclose(brain.volume.affine, grid.affine):
        raise MrharmonyError(
            f"The model works on a grid of {model.card.working_zoom:g} mm; prepare the scans on it."
        )
    places = np.arange(_FROM_MM, _TO_MM, _STEP_MM)
    rows = np.round((places - grid.affine[1, 3]) / grid.zooms[1]).astype(int)
    slices = np.ascontiguousarray(brain.volume.voxels[:, rows].transpose(1, 0, 2), dtype=np.float32)
    with torch.inference_mode():
        latents = encode(model.autoencoder, torch.from_numpy(slices)[:, None].to(model.autoencoder.device))
    slabs = latents.reshape(SLABS, -1, *latents.shape[1:]).transpose(1, 2).flatten(2)
    pooled = torch.stack([slabs.mean(2), slabs.std(2, correction=0)], 2)
    return np.asarray(pooled.flatten().cpu().numpy())


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
