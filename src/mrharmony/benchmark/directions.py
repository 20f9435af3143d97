"""Paired scores by direction and over all directions, beside the best simple method and the ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mrharmony.benchmark.contenders import CEILING
from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.bootstrap import Estimate, bootstrap_interval
from mrharmony.evaluate.paired import peak_ratio, room_share
from mrharmony.methods.registry import SIMPLE_METHODS
from mrharmony.scans.folders import IN_A_COPY

NOTHING = "none"
PAIRED = ("psnr", "ssim", "mse")
Direction = tuple[str, str]  # source, target
Records = Iterable[tuple[BenchmarkScan, dict[str, Any]]]


class PairedCell(NamedTuple):
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
    gain: Estimate  # of PSNR above the unharmonized scans, dB, head by head
    room: float | None  # share of the way from the best simple method to the truth-fitted lock; None without


@dataclass(frozen=True)
class PairedSummary:
    """A method's mean scores over the directions that it serves."""

    directions: int  # fewer than the others' where the method refuses some
    psnr: float  # this and the next two: means over directions of the means over heads
    ssim: float
    mse: float
    gain: Estimate  # PSNR above unharmonized scans in the same directions, dB, with its interval over heads
    room: float | None  # `room_share`, all three PSNRs over the same directions; None where unknown
    below_best: int  # directions more than 0.005 dB of PSNR below the best simple method of that direction
    worst_gap: float  # least distance to the best simple method over the directions, dB


def paired_cells(records: Records) -> list[PairedCell]:
    """Return the scores of all directions between different domains.

    Raises `MrharmonyError` where a head's scans in two domains are equal voxel by voxel.
    """
    return [
        _cell(scan, target, score)
        for scan, record in records
        for target, score in record["targets"].items()
        if target != scan.domain and "mse" in score
    ]


def _cell(scan: BenchmarkScan, target: str, score: Mapping[str, float]) -> PairedCell:
    if score["mse"] == 0:
        raise MrharmonyError(
            f"sub-{scan.subject}: the scans in {scan.domain} and {target} are equal voxel by voxel. "
            f"Leave one out {IN_A_COPY}, and name another output."
        )
    return PairedCell(
        scan.subject, scan.domain, target, peak_ratio(score["mse"]), score["ssim"], score["mse"]
    )


def identity_means(records: Records) -> dict[str, float]:
    """Return mean SSIM and MSE of scans that were harmonized to their own domain."""
    own = [record["targets"].get(scan.domain, {}) for scan, record in records]
    scored = [scores for scores in own if "mse" in scores]
    return {name: float(np.mean([s[name] for s in scored])) for name in ("ssim", "mse")} if scored else {}


class Scoreboard:
    """All methods' paired scores, by direction, from their cells by method; `none` must be among them."""

    def __init__(self, cells: Mapping[str, Sequence[PairedCell]], seed: int) -> None:
        self._seed = seed
        self._cells: dict[str, dict[Direction, dict[str, PairedCell]]] = {}
        for method, found in cells.items():
            for cell in found:
                heads = self._cells.setdefault(method, {}).setdefault((cell.source, cell.target), {})
                heads[cell.subject] = cell
        every = set(self._cells.get(NOTHING, {}))
        self._simple = [m for m in self._cells if m in SIMPLE_METHODS and set(self._cells[m]) == every]

    def directions(self, method: str) -> list[DirectionScores]:
        """Return a method's scores in each direction that it serves."""
        return [
            self._scores(method, direction, list(heads.values()))
            for direction, heads in sorted(self._cells.get(method, {}).items())
        ]

    def summary(self, method: str) -> PairedSummary | None:
        """Return a method's scores over all directions that it serves; None without any."""
        rows = self.directions(method)
        if not rows:
            return None
        served = [(row.source, row.target) for row in rows]
        best = max(self._mean_psnr(simple, served) for simple in self._simple)
        psnr, ssim, mse = (float(np.mean([getattr(row, name) for row in rows])) for name in PAIRED)
        gaps = [row.psnr - self._best(direction) for row, direction in zip(rows, served, strict=True)]
        return PairedSummary(
            directions=len(rows),
            psnr=psnr,
            ssim=ssim,
            mse=mse,
            gain=self._gain([c for direction in served for c in self._cells[method][direction].values()]),
            room=room_share(psnr, best, self._mean_psnr(CEILING, served)) if CEILING in self._cells else None,
            below_best=sum(gap < -0.005 for gap in gaps),
            worst_gap=min(gaps),
        )

    def _scores(self, method: str, direction: Direction, cells: Sequence[PairedCell]) -> DirectionScores:
        psnr, ssim, mse = (float(np.mean([getattr(cell, name) for cell in cells])) for name in PAIRED)
        room = None
        if CEILING in self._cells:
            room = room_share(psnr, self._best(direction), self._psnr(CEILING, direction))
        return DirectionScores(method, *direction, len(cells), psnr, ssim, mse, self._gain(cells), room)

    def _psnr(self, method: str, direction: Direction) -> float:
        return float(np.mean([cell.psnr for cell in self._cells[method][direction].values()]))

    def _mean_psnr(self, method: str, directions: Sequence[Direction]) -> float:
        return float(np.mean([self._psnr(method, direction) for direction in directions]))

    def _best(self, direction: Direction) -> float:
        """Return the best PSNR that a simple method reaches in a direction."""
        return max(self._psnr(method, direction) for method in self._simple)

    def _gain(self, cells: Sequence[PairedCell]) -> Estimate:
        """Return the gain over unharmonized scans; heads are resampled, as their directions are dependent."""
        heads: dict[str, list[float]] = {}
        for cell in cells:
            nothing = self._cells[NOTHING][cell.source, cell.target][cell.subject]
            heads.setdefault(cell.subject, []).append(cell.psnr - nothing.psnr)
        return bootstrap_interval([float(np.mean(gains)) for gains in heads.values()], self._seed)
