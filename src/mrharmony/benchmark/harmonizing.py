"""Every method on every tested scan, toward every target: paired scores, times, and the harmonized brains."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from mrharmony.benchmark.contenders import CEILING, as_prepared, fit_contender
from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkPlan, BenchmarkScan, Fold
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paired import PairedTruth
from mrharmony.jobs.brains import load_brain
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import load_method
from mrharmony.methods.rendering import truth_fitted
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid


@dataclass(frozen=True)
class Contest:
    """The benchmark as its worker processes see it."""

    plan: BenchmarkPlan
    folder: BenchmarkFolder
    brains: dict[Path, Path] = field(hash=False)  # file of each prepared brain, by scan; none if refused
    zoom: float  # of the grid that everything runs on, mm
    seed: int

    def brain(self, scan: BenchmarkScan) -> CanonicalBrain:
        """Read a scan's prepared brain."""
        return load_brain(self.brains[scan.path], Grid.working(self.zoom))

    def present(self, scans: Sequence[BenchmarkScan]) -> list[BenchmarkScan]:
        """Return the scans that were not refused."""
        return [scan for scan in scans if scan.path in self.brains]

    def training(self, fold: Fold) -> dict[str, list[CanonicalBrain]]:
        """Read a fold's training brains by domain."""
        return {
            name: [self.brain(scan) for scan in self.present(fold.training_of(name))] for name in fold.known
        }


def run_method(contest: Contest, method: str) -> None:
    """Fit a method and run it on every tested scan, except where an earlier run has finished."""
    for number, fold in enumerate(contest.plan.folds):
        subjects = by_subject(contest.present(fold.testing))
        todo = [scans for scans in subjects if _unfinished(contest, method, scans)]
        if todo:
            contest.folder.forget_figures(method)
            contender = None if method == CEILING else _fitted(contest, method, number)
            for scans in todo:
                _run_subject(contest, fold, method, contender, scans)


def _fitted(contest: Contest, method: str, number: int) -> Harmonizer:
    """Return a method fitted on the training scans of fold `number`; fitted once, then reused.

    One of which a file was lost, damaged or exchanged since is fitted again; that is told on standard error.
    """
    fold, folder = contest.plan.folds[number], contest.folder.fitted(number, method)
    spoilt = contest.folder.spoilt_fit(number, method)
    if spoilt:
        print(f"{spoilt[0]}: is not what the fit has written; {method} is fitted again.", file=sys.stderr)
    for path in spoilt:
        path.unlink(missing_ok=True)
    if spoilt or contest.folder.fit_seconds(number, method) is None:
        start = time.perf_counter()
        fit_contender(method, contest.training(fold), folder, contest.plan.target)
        contest.folder.add_fit(number, method, time.perf_counter() - start)
    return load_method(method, folder)


def is_finished(contest: Contest, method: str) -> bool:
    """Whether an earlier run has harmonized and scored every tested scan with a method."""
    return not _unfinished(contest, method, contest.present(contest.plan.testing))


def by_subject(scans: Sequence[BenchmarkScan]) -> list[list[BenchmarkScan]]:
    """Return each subject's scans, sorted by key."""
    ordered = sorted(scans, key=lambda scan: scan.key)
    return [list(group) for _, group in groupby(ordered, key=lambda scan: scan.subject)]


def _unfinished(contest: Contest, method: str, scans: Sequence[BenchmarkScan]) -> bool:
    return any(not _is_kept(contest, method, scan) for scan in scans if scan in contest.plan.evaluated)


def _is_kept(contest: Contest, method: str, scan: BenchmarkScan) -> bool:
    """Whether a scan's scores are kept, and the scan in the benchmark's target, if the method serves it."""
    scores = contest.folder.read_scores(method, scan)
    if scores is None:
        return False
    served = "refused" not in scores["targets"].get(contest.plan.target, {"refused": ""})
    return not served or contest.folder.has_brain(method, scan)


def _run_subject(
    contest: Contest, fold: Fold, method: str, contender: Harmonizer | None, scans: Sequence[BenchmarkScan]
) -> None:
    """Harmonize all scans of a subject and score them against each other."""
    brains = {scan.domain: contest.brain(scan) for scan in scans}
    truths = {name: PairedTruth(brain.volume.voxels, brain.mask) for name, brain in brains.items()}
    for scan in scans:
        if scan not in contest.plan.evaluated:
            continue
        prepared, scores, seconds = as_prepared(brains[scan.domain]), {}, []
        source = Domain(scan.domain, scan.domain) if scan.domain in fold.known else None
        for target in contest.plan.targets(fold, scan):
            truth = brains.get(target) if contest.plan.travelling or target == scan.domain else None
            start = time.perf_counter()
            try:
                voxels = _harmonize(contender, prepared, source, target, truth)
            except MrharmonyError as error:
                scores[target] = {"refused": str(error)}
                continue
            seconds.append(time.perf_counter() - start)
            paired = asdict(truths[target].scores(voxels)) if truth else {}
            scores[target] = {name: score for name, score in paired.items() if name != "psnr"}  # MSE has it
            if target == contest.plan.target:
                contest.folder.save_brain(method, scan, voxels, prepared.brain_mask)
        record = {"seconds": seconds, "targets": scores, "peak_mib": peak_mib()}
        contest.folder.write_scores(method, scan, record)


def _harmonize(
    contender: Harmonizer | None,
    prepared: PreparedScan,
    source: Domain | None,
    target: str,
    truth: CanonicalBrain | None,
) -> FloatArray:
    if contender is not None:
        return contender.intensities(prepared, source, Domain(target, target))
    if truth is None:
        raise MrharmonyError("there is no truth to fit the lock to.")
    return truth_fitted(prepared, truth.volume.voxels)


def peak_mib() -> float:
    """Return the greatest memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_records(contest: Contest, method: str) -> Iterator[tuple[BenchmarkScan, dict[str, Any]]]:
    """Yield the evaluated scans with their records by `run_method`."""
    for scan in contest.present(contest.plan.evaluated):
        record = contest.folder.read_scores(method, scan)
        if record is None:
            raise MrharmonyError(
                f"{contest.folder.root}: scores of {scan.key} by {method} were lost meanwhile. Call again."
            )
        yield scan, record
