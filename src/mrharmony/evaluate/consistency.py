"""Identity: a scan harmonized to its own domain must stay what it is.

Scan-rescan: what two scans of one head on one scanner differ by, the floor under every other figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.anatomy import AnatomyScores, compare_anatomy
from mrharmony.evaluate.paired import PairedScores, paired_scores
from mrharmony.prepare.canonical import CanonicalBrain


@dataclass(frozen=True)
class IdentitySummary:
    """Identity translation over several scans.

    Parameters
    ----------
    scans
        How many were scored.
    exact
        How many came back without any difference.
    worst
        Greatest MSE, least PSNR (infinite if all are exact) and least SSIM.
    mean_ssim, mean_mse
        Over all scans. There is no mean PSNR: one exact scan would make it infinite.
    """

    scans: int
    exact: int
    worst: PairedScores
    mean_ssim: float
    mean_mse: float


def identity_scores(scan: CanonicalBrain, harmonized: CanonicalBrain) -> PairedScores:
    """Return the paired scores of a scan harmonized to its own domain against the scan itself."""
    return paired_scores(harmonized.volume.voxels, scan.volume.voxels, scan.mask)


def summarize_identity(scores: Sequence[PairedScores]) -> IdentitySummary:
    """Return the summary of identity translation over scans.

    Raises
    ------
    MrharmonyError
        If there is no scan.
    """
    if not scores:
        raise MrharmonyError("identity has no scan to summarise; harmonize at least one to its own domain")
    errors = [score.mse for score in scores]
    similarities = [score.ssim for score in scores]
    worst = PairedScores(max(errors), min(score.psnr for score in scores), min(similarities))
    return IdentitySummary(
        len(scores), errors.count(0.0), worst, float(np.mean(similarities)), float(np.mean(errors))
    )


@dataclass(frozen=True)
class RepeatFloor:
    """The noise floor of a scanner and of the figures that are taken of it; means over heads.

    Parameters
    ----------
    heads
        How many were scanned twice.
    scores
        Paired scores of the second scan against the first.
    volume_difference_percent
        Size of the volume drift by tissue, and of the ventricles.
    dice
        By tissue.
    edge_correspondence, displacement_mm
        As in `AnatomyScores`.
    """

    heads: int
    scores: PairedScores
    volume_difference_percent: dict[str, float]
    dice: dict[str, float]
    edge_correspondence: float
    displacement_mm: float


def repeat_floor(pairs: Iterable[tuple[CanonicalBrain, CanonicalBrain]]) -> RepeatFloor:
    """Return the noise floor of scan and rescan pairs.

    Parameters
    ----------
    pairs
        Two scans of one head on one scanner, on the same grid; taken one pair at a time.

    Raises
    ------
    MrharmonyError
        If there is no pair.
    """
    scores, anatomies = [], []
    for first, second in pairs:
        scores.append(paired_scores(second.volume.voxels, first.volume.voxels, first.mask))
        anatomies.append(compare_anatomy(first, second))
    if not scores:
        raise MrharmonyError("the noise floor needs at least one head that was scanned twice")
    return _average(scores, anatomies)


def _average(scores: list[PairedScores], anatomies: list[AnatomyScores]) -> RepeatFloor:
    drifts = [anatomy.volume_drift_percent for anatomy in anatomies]
    dices = [anatomy.dice for anatomy in anatomies]
    return RepeatFloor(
        heads=len(scores),
        scores=PairedScores(
            float(np.mean([score.mse for score in scores])),
            float(np.mean([score.psnr for score in scores])),
            float(np.mean([score.ssim for score in scores])),
        ),
        volume_difference_percent={
            name: float(np.mean([abs(d[name]) for d in drifts])) for name in drifts[0]
        },
        dice={name: float(np.mean([d[name] for d in dices])) for name in dices[0]},
        edge_correspondence=float(np.mean([anatomy.edge_correspondence for anatomy in anatomies])),
        displacement_mm=float(np.mean([anatomy.displacement_mm for anatomy in anatomies])),
    )
