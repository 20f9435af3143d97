"""A benchmark from a BIDS folder to its table and figure, with the time that it takes."""

from __future__ import annotations

import hashlib
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from mrharmony.benchmark.cohort_figures import cohort_columns, figure_method, segment_scan
from mrharmony.benchmark.contenders import (
    CEILING,
    COMPARED,
    DEFAULT_METHODS,
    OURS,
    networks_needed,
    training_minutes,
)
from mrharmony.benchmark.directions import Scoreboard, identity_means, paired_cells
from mrharmony.benchmark.folder import FORMAT, BenchmarkFolder
from mrharmony.benchmark.harmonizing import Contest, is_finished, read_records, run_method
from mrharmony.benchmark.plan import BenchmarkPlan, BenchmarkScan, make_plan
from mrharmony.benchmark.table import draw_figure, write_tables
from mrharmony.core.atomic import read_json
from mrharmony.core.domain import composed
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.version import __version__
from mrharmony.core.wording import count_of
from mrharmony.core.workers import usable_cores, worker_pool
from mrharmony.evaluate.biology import few_people
from mrharmony.jobs.brains import ScanFile, prepare_positions, reasons_by_name, require_some, saved_sha256
from mrharmony.jobs.data_sets import readable_sha256
from mrharmony.methods.cyclegan import CYCLEGAN
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.diffusion.network import network_hash, reference_names
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

ZOOM = 2.0  # mm
_PRELOADED = (__name__, "ants", "nilearn.datasets")  # so that no method's time includes imports
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to compare."""

    bids_dir: Path  # data set: several domains, or a virtual cohort with its truth
    output: Path  # folder of the results, new, empty, or of the same benchmark begun earlier
    command: str  # command line of this benchmark, for the record
    domain_column: str = "site"  # this and the next two: as in `make_plan`
    target: str | None = None
    only: tuple[str, ...] = ()
    methods: tuple[str, ...] = DEFAULT_METHODS  # `none` is always added; the truth-fitted lock with a truth
    seed: int = 0
    # Folder of scans that `mrharmony prepare` wrote. They are prepared here if None; the scans of a virtual
    # head then share mask and alignment of the first.
    prepared: Path | None = None

    def settings(self, plan: BenchmarkPlan) -> dict[str, Any]:
        """Return what must not change between runs into one folder; no path, so that folders may move."""
        scans = [(key, scan.sha256, scan.participant) for key, scan in plan.scans.items()]
        subjects = sorted({scan.subject for scan in plan.scans.values()})
        truths = [true_brain(plan.root, subject) for subject in subjects]
        content = (scans, [readable_sha256(truth) if truth else None for truth in truths])
        return {
            "version": __version__,
            "file format": FORMAT,
            "data set": hashlib.sha256(repr(content).encode()).hexdigest(),
            "domain column": composed(self.domain_column),
            "target": plan.target,
            "seed": self.seed,
            "preparation": self._preparation(plan),
        }

    def _preparation(self, plan: BenchmarkPlan) -> str | None:
        """Return a hash of what is saved of all scans; None where they are prepared here."""
        if self.prepared is None:
            return None
        files = (ScanFile(scan.path, prepared=self.prepared) for scan in plan.scans.values())
        return hashlib.sha256(repr([saved_sha256(file) for file in files]).encode()).hexdigest()


@dataclass(frozen=True)
class BenchmarkResult:
    """One row per method, and the scans that could not be prepared, with the reasons."""

    rows: tuple[dict[str, Any], ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class _Scores:
    """What all methods have left in the output folder, by method."""

    records: dict[str, list[tuple[BenchmarkScan, dict[str, Any]]]]  # the evaluated scans and their records
    cohort: dict[str, dict[str, Any]]  # figures over the whole cohort
    board: Scoreboard | None  # the paired scores side by side, where there is a truth

    @classmethod
    def read(cls, contest: Contest, methods: Sequence[str]) -> _Scores:
        """Read what the methods' processes have written."""
        records = {method: list(read_records(contest, method)) for method in methods}
        cohort = {method: contest.folder.read_figures(method) or {} for method in methods}
        cells = {method: paired_cells(found) for method, found in records.items()}
        return cls(records, cohort, Scoreboard(cells, contest.seed) if contest.plan.travelling else None)


def run_benchmark(request: BenchmarkRequest) -> BenchmarkResult:
    """Run every method on a data set with the same preparation and the same splits; resumable.

    Writes `benchmark.md`, `.csv`, `.json` and `.png` into the output folder.

    Raises
    ------
    MrharmonyError
        If the data set or a method does not allow it.
    """
    unknown = next((name for name in request.methods if name not in COMPARED), None)
    if unknown:
        raise MrharmonyError(f"{unknown}: no such method. Choose from: {', '.join(COMPARED)}.")
    plan = make_plan(request.bids_dir, request.domain_column, request.target, request.only)
    folder = BenchmarkFolder(request.output)
    folder.claim(request.settings(plan), _models(request))
    workers, clock = usable_cores(), Clock()
    positions = plan.positions(plan.scans.values(), request.prepared)
    brains, refused = prepare_positions(positions, Grid.working(ZOOM), folder.brains, workers)
    require_some(list(brains), refused)
    contest = Contest(plan, folder, brains, ZOOM, request.seed)
    methods = [name for name in COMPARED if name in {"none", *request.methods}] + [CEILING] * plan.travelling
    done = _run_methods(contest, methods, workers, clock)
    _figure_cohort(contest, methods, workers, clock)
    if done:
        folder.add_session(clock.read() | {"methods": done})
    scores = _Scores.read(contest, methods)
    reasons = reasons_by_name(refused | plan.closed)
    rows = _rows(contest, scores, request.command)
    record = {"about": _about(contest, request) | _few_people(scores), **_details(scores), "refused": reasons}
    title = f"Benchmark: {request.bids_dir.resolve().name}"
    _tell_left_out(request.output, methods)
    write_tables(request.output, title, rows, record)
    draw_figure(request.output / "benchmark.png", title, rows, OURS)
    return BenchmarkResult(tuple(rows), reasons)


def _tell_left_out(output: Path, methods: Sequence[str]) -> None:
    """Say on standard error which methods of the table that is there have no row in the new one."""
    rows = (read_json(output / "benchmark.json") or {}).get("rows")
    had = [row.get("method") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if lost := [str(method) for method in had if method not in methods]:
        print(
            f"{output}: {', '.join(lost)}, of an earlier call, has no row in the table now. Name all methods "
            "in one call; what is done is taken up.",
            file=sys.stderr,
        )


class Clock:
    """Seconds since its creation: wall time, and processor time of all processes.

    It reads the processor time of this process and of its ended children. Workers that are children of
    another process report theirs (`processor_seconds`).
    """

    def __init__(self) -> None:
        self._wall, self._processor, self._reported = time.perf_counter(), _own_seconds(), 0.0

    def add(self, seconds: float) -> None:
        """Add processor time that a worker reports."""
        self._reported += seconds

    def read(self) -> dict[str, float]:
        """Return `wall` and `processor` seconds."""
        processor = _own_seconds() - self._processor + self._reported
        return {"wall": time.perf_counter() - self._wall, "processor": processor}


def processor_seconds(
    task: Callable[Arguments, object], *arguments: Arguments.args, **named: Arguments.kwargs
) -> float:
    """Do a task and return the processor seconds that it took in this process."""
    start = time.process_time()
    task(*arguments, **named)
    return time.process_time() - start


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _models(request: BenchmarkRequest) -> dict[str, str]:
    """Return the SHA-256 of what defines the methods that depend on more than their training scans."""
    settings = hashlib.sha256(CycleGanSettings().model_dump_json().encode()).hexdigest()
    return {OURS: network_hash(), CYCLEGAN: settings}


def _run_methods(contest: Contest, methods: Sequence[str], workers: int, clock: Clock) -> list[str]:
    """Run each method in a fresh one-threaded process, so that its time and memory are its own.

    Returns those that no earlier run has finished.
    """
    todo = [method for method in reversed(methods) if not is_finished(contest, method)]  # the slowest first
    with worker_pool(workers, _PRELOADED, tasks_each=1) as pool:
        tasks = [pool.submit(processor_seconds, run_method, contest, method) for method in todo]
        _await(tasks, "methods", len(methods), clock)
    return todo[::-1]


def _figure_cohort(contest: Contest, methods: Sequence[str], workers: int, clock: Clock) -> None:
    """Work out the cohort figures that are missing."""
    todo = [method for method in methods if not contest.folder.read_figures(method)]
    if not todo:
        return
    scans = contest.present(contest.plan.evaluated)
    with worker_pool(workers, _PRELOADED) as pool:
        tasks = [pool.submit(processor_seconds, segment_scan, contest, scan) for scan in scans]
        _await(tasks, "tissues", len(scans), clock)
        tasks = [pool.submit(processor_seconds, figure_method, contest, method) for method in todo]
        _await(tasks, "cohort figures", len(methods), clock)


def _await(tasks: Sequence[Future[float]], what: str, total: int, clock: Clock) -> None:
    """Wait for tasks, the last ones of `total`, and add the processor seconds that they return."""
    for task in track(as_completed(tasks), what, total, total - len(tasks)):
        clock.add(task.result())


def _rows(contest: Contest, scores: _Scores, command: str) -> list[dict[str, Any]]:
    """Return a row of the table for each method."""
    rows = []
    for method, records in scores.records.items():
        row: dict[str, Any] = {"method": method, "command": command, "seed": contest.seed}
        summary = scores.board.summary(method) if scores.board else None
        if summary:
            paired = asdict(summary)
            gain = paired.pop("gain")
            row |= paired | {"gain": gain["value"], "gain_low": gain["low"], "gain_high": gain["high"]}
        row["identity_ssim"] = identity_means(records).get("ssim")
        row |= cohort_columns(scores.cohort[method]) | _cost(contest, method, [r for _, r in records])
        rows.append(row)
    return rows


def _cost(contest: Contest, method: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return seconds, memory, models and refusals of a method."""
    folder, folds = contest.folder, range(len(contest.plan.folds))
    fits = [folder.fit_seconds(fold, method) for fold in folds]
    fit_seconds = [spent for spent in fits if spent is not None]
    trained = [training_minutes(folder.fitted(fold, method)) for fold in folds]
    minutes = [spent for spent in trained if spent is not None]
    networks = networks_needed(method, len(contest.plan.folds[0].known)) or (None, None)
    seconds = [second for record in records for second in record["seconds"]]
    return {
        "seconds": float(np.mean(seconds)) if seconds else None,
        "fit_seconds": sum(fit_seconds) if len(fit_seconds) == len(fits) else None,
        "networks": networks[0],
        "networks_all": networks[1],
        "training_minutes": float(np.mean(minutes)) if minutes else None,
        "peak_mib": max(record["peak_mib"] for record in records),
        "refused": sum("refused" in target for record in records for target in record["targets"].values()),
    }


def _details(scores: _Scores) -> dict[str, Any]:
    """Return every direction and every cohort figure, which the JSON holds beside the table."""
    board = scores.board
    rows = [row for method in scores.records for row in (board.directions(method) if board else [])]
    return {"directions": [asdict(row) for row in rows], "cohort": scores.cohort}


def _about(contest: Contest, request: BenchmarkRequest) -> dict[str, str]:
    """Return what a reader needs to repeat the benchmark."""
    plan = contest.plan
    tested, fold = contest.present(plan.evaluated), plan.folds[0]
    counts = {name: len(contest.present(fold.training_of(name))) for name in fold.known}
    return {
        "Command": f"`{request.command}`",
        "Version": f"mrharmony {__version__}, network {network_hash()[:12]}, seed {contest.seed}",
        "Machine": f"{platform.machine()}, {count_of(usable_cores(), 'core')}, one thread a method",
        "Training scans": ", ".join(f"{name} {count}" for name, count in counts.items())
        + (f" (fold 1 of {len(plan.folds)})" if len(plan.folds) > 1 else ""),
        "Tested": f"{len(tested)} scans of {len({scan.subject for scan in tested})} subjects",
        "New domains": ", ".join(fold.new) or "none",
        "Seen by the diffusion network": f"virtual people on simulated {', '.join(reference_names())}",
        "Target of the cohort figures": plan.target,
        "Grid": f"{ZOOM:g} mm; all methods on the same brains, "
        + ("those saved by `mrharmony prepare`" if request.prepared else "prepared here"),
        "Time": "; ".join(_session(taken) for taken in contest.folder.sessions())
        or "not known, since its record in `work` was lost",
    }


def _few_people(scores: _Scores) -> dict[str, str]:
    """Return what is to be said of the ventricles' figures where too few have the factor, and no truth."""
    found = [figures["biology"] for figures in scores.cohort.values() if "biology" in figures]
    heads = [one["heads"] for one in found if "partial_correlation" in one]
    remark = few_people(min(heads), {}) if heads else ""
    return {"Ventricle figures": remark} if remark else {}


def _session(taken: Mapping[str, Any]) -> str:
    """Describe the time and the methods of a run into the folder."""
    return f"{taken['wall']:.0f} s, {taken['processor']:.0f} s of processor for {', '.join(taken['methods'])}"
