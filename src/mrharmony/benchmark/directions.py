"""Paired scores summed up: by direction, over all directions, and beside the best rival and the ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrharmony.benchmark.contenders import CEILING
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.evaluate import Estimate, bootstrap_interval, peak_ratio, room_share
from mrharmony.harmonize import SIMPLE_METHODS

NOTHING = "none"
Records = Iterable[tuple[BenchmarkScan, dict[str, Any]]]


@dataclass(frozen=True)
class PairedCell:
    """Scores of one head in one direction."""

    subject: str
    source: str
    target: str
    psnr: float
    ssim: float
    mse: float


@dataclass(frozen=True)
class DirectionScores:
    """Mean scores of a method over the heads in one direction."""

    method: str
    source: str
    target: str
    heads: int
    psnr: float
    ssim: float
    mse: float


@dataclass(frozen=True)
class PairedSummary:
    """A method's mean scores over all directions.

    Parameters
    ----------
    psnr, ssim, mse
        Means over directions of the means over heads.
    psnr_interval
        95 % bootstrap interval of the PSNR over heads.
    gain
        PSNR above the unharmonized scans, dB.
    room
        Share of the room between the best simple method and the truth-fitted lock; None where unknown.
    below_best
        Directions in which the PSNR is below the best simple method of that direction (0.005 dB forgiven).
    worst_gap
        Least distance to the best simple method over the directions, dB.
    """

    psnr: float
    ssim: float
    mse: float
    psnr_interval: Estimate
    gain: float
    room: float | None
    below_best: int
    worst_gap: float


def paired_cells(records: Records) -> list[PairedCell]:
    """Return the scores of all directions between different domains."""
    return [
        PairedCell(scan.subject, scan.domain, target, peak_ratio(score["mse"]), score["ssim"], score["mse"])
        for scan, record in records
        for target, score in record["targets"].items()
        if target != scan.domain and "mse" in score
    ]


def identity_means(records: Records) -> dict[str, float]:
    """Return mean SSIM and MSE of scans that were harmonized to their own domain."""
    own = [record["targets"].get(scan.domain, {}) for scan, record in records]
    scored = [scores for scores in own if "mse" in scores]
    return {name: float(np.mean([s[name] for s in scored])) for name in ("ssim", "mse")} if scored else {}


def by_direction(method: str, cells: Sequence[PairedCell]) -> list[DirectionScores]:
    """Return the means over heads, direction by direction."""
    directions: dict[tuple[str, str], list[PairedCell]] = {}
    for cell in cells:
        directions.setdefault((cell.source, cell.target), []).append(cell)
    return [
        DirectionScores(method, *direction, len(found), *_means(found))
        for direction, found in sorted(directions.items())
    ]


def summarise(cells: Mapping[str, Sequence[PairedCell]], seed: int) -> dict[str, PairedSummary]:
    """Return each method's summary; methods without paired scores are left out.

    Parameters
    ----------
    cells
        By method; must hold `none`.
    seed
        Of the bootstrap.
    """
    directions = {method: by_direction(method, found) for method, found in cells.items() if found}
    means = {m: np.mean([(d.psnr, d.ssim, d.mse) for d in rows], axis=0) for m, rows in directions.items()}
    simple = [method for method in directions if method in SIMPLE_METHODS]
    best = max((float(means[method][0]) for method in simple), default=float("nan"))
    summaries = {}
    for method, rows in directions.items():
        gaps = [row.psnr - _best_psnr(directions, simple, row) for row in rows]
        psnr, ssim, mse = (float(mean) for mean in means[method])
        summaries[method] = PairedSummary(
            psnr=psnr,
            ssim=ssim,
            mse=mse,
            psnr_interval=_interval(cells[method], seed),
            gain=psnr - float(means[NOTHING][0]),
            room=room_share(psnr, best, float(means[CEILING][0])) if CEILING in means else None,
            below_best=sum(gap < -0.005 for gap in gaps),
            worst_gap=min(gaps),
        )
    return summaries


def _best_psnr(
    directions: Mapping[str, Sequence[DirectionScores]], simple: Sequence[str], like: DirectionScores
) -> float:
    """Return the best PSNR that a simple method reaches in a direction."""
    return max(
        row.psnr
        for method in simple
        for row in directions[method]
        if (row.source, row.target) == (like.source, like.target)
    )


def _interval(cells: Sequence[PairedCell], seed: int) -> Estimate:
    """Return the bootstrap interval of the PSNR; heads are drawn, not directions."""
    heads: dict[str, list[float]] = {}
    for cell in cells:
        heads.setdefault(cell.subject, []).append(cell.psnr)
    return bootstrap_interval([float(np.mean(scores)) for scores in heads.values()], seed)


def _means(cells: Sequence[PairedCell]) -> tuple[float, float, float]:
    psnr, ssim, mse = np.mean([(cell.psnr, cell.ssim, cell.mse) for cell in cells], axis=0)
    return float(psnr), float(ssim), float(mse)
