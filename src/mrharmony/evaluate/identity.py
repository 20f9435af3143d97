"""Identity: a scan harmonized to its own domain must stay what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrharmony.evaluate.paired import PairedScores, paired_scores
from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import MrharmonyError


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
