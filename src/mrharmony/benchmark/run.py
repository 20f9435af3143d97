"""A benchmark from a BIDS folder to its table and figure."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony import __version__
from mrharmony.benchmark.cohort_figures import figure_cohort
from mrharmony.benchmark.contenders import CEILING, METHODS, OURS
from mrharmony.benchmark.directions import by_direction, identity_means, paired_cells, summarise
from mrharmony.benchmark.figure import draw_figure
from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.harmonizing import FITTED, Contest, is_finished, read_records, run_method
from mrharmony.benchmark.plan import BenchmarkPlan, make_plan
from mrharmony.benchmark.table import write_tables
from mrharmony.cohort.preparing import ScanFile, one_thread, prepare_positions
from mrharmony.latent import model_hash
from mrharmony.prepare import Grid
from mrharmony.progress import track
from mrharmony.volume import MrharmonyError

ZOOM = 2.0  # mm
TRUTH = "derivatives/truth/sub-{0}/anat/sub-{0}_dseg.nii.gz"  # of virtual cohorts; see mrharmony.simulate
BIOLOGY_COLUMNS = ("slope", "rank", "group", "ventricle_error", "site_shift")


@dataclass(frozen=True)
class BenchmarkRequest:
    """What to compare.

    Parameters
    ----------
    bids_dir
        Data set: several domains, or a virtual cohort with its truth.
    output
        Folder of the results, new, empty, or of the same benchmark begun earlier.
    model
        Directory of the model of `diffusion`.
    command
        How this benchmark was called, for the record.
    domain_column, target, only
        As in `make_plan`.
    methods
        Names of methods; `none` is always among them, and where there is a truth the truth-fitted lock.
    seed
        Of everything random.
    """

    bids_dir: Path
    output: Path
    model: Path
    command: str
    domain_column: str = "site"
    target: str | None = None
    only: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    seed: int = 0

    def settings(self, target: str) -> dict[str, Any]:
        """Return what must not change between runs into one folder."""
        return {
            "data set": str(self.bids_dir.resolve()),
            "domain column": self.domain_column,
            "target": target,
            "domains": list(self.only),
            "seed": self.seed,
            "version": __version__,
        }


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark ends with.

    Parameters
    ----------
    rows
        A row a method.
    refused
        Scans that could not be prepared, and why.
    """

    rows: tuple[dict[str, Any], ...]
    refused: dict[str, str]


def run_benchmark(request: BenchmarkRequest) -> BenchmarkResult:
    """Run every method on a data set with the same preparation and the same splits; resumable.

    Writes `benchmark.md`, `.csv`, `.json` and `.png` into the output folder.

    Raises
    ------
    MrharmonyError
        If the data set or a method does not allow it.
    """
    unknown = next((name for name in request.methods if name not in METHODS), None)
    if unknown:
        raise MrharmonyError(f"{unknown}: no such method. Choose from: {', '.join(METHODS)}.")
    plan = make_plan(request.bids_dir, request.domain_column, request.target, request.only)
    folder = BenchmarkFolder(request.output)
    folder.claim(request.settings(plan.target))
    workers = os.cpu_count() or 1
    brains, refused = _prepare(plan, folder, workers)
    contest = Contest(plan, folder, brains, request.model, ZOOM, request.seed)
    methods = [name for name in METHODS if name in {"none", *request.methods}] + [CEILING] * plan.travelling
    _run_methods(contest, methods, workers)
    cohort = {method: folder.read_figures(method) for method in methods}
    reasons = {path.name: reason for path, reason in refused.items()}
    rows = _rows(contest, methods, cohort, request.command)
    record = {"about": _about(contest, request.command), **_details(contest, methods, cohort, reasons)}
    title = f"Benchmark: {request.bids_dir.resolve().name}"
    write_tables(request.output, title, rows, record)
    draw_figure(request.output / "benchmark.png", title, rows, OURS)
    return BenchmarkResult(tuple(rows), reasons)


def _prepare(
    plan: BenchmarkPlan, folder: BenchmarkFolder, workers: int
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Prepare all scans; a virtual head's scans lie in one position and have its true brain for a mask."""
    subjects: dict[str, list[ScanFile]] = {}
    scans = {scan.path: scan for fold in plan.folds for scan in (*fold.training, *fold.testing)}
    for scan in sorted(scans.values(), key=lambda scan: scan.key):
        truth = plan.root / TRUTH.format(scan.subject)
        file = ScanFile(scan.path, truth if truth.is_file() else None)
        subjects.setdefault(scan.subject, []).append(file)
    return prepare_positions(list(subjects.values()), Grid.working(ZOOM), folder.brains, workers)


def _run_methods(contest: Contest, methods: Sequence[str], workers: int) -> None:
    """Run each method in a fresh one-threaded process, so that its time and memory are its own."""
    todo = [
        method
        for method in reversed(methods)  # the slowest first: the bound, the model
        if not (is_finished(contest, method) and contest.folder.figures(method).is_file())
    ]
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), one_thread, max_tasks_per_child=1
    ) as pool:
        tasks = [pool.submit(_run_method, contest, method) for method in todo]
        for task in track(as_completed(tasks), "methods", len(methods), len(methods) - len(todo)):
            task.result()


def _run_method(contest: Contest, method: str) -> None:
    run_method(contest, method)
    figure_cohort(contest, method)


def _rows(
    contest: Contest, methods: Sequence[str], cohort: Mapping[str, Mapping[str, Any]], command: str
) -> list[dict[str, Any]]:
    """Return a row of the table for each method."""
    records = {method: list(read_records(contest, method)) for method in methods}
    summaries = summarise({method: paired_cells(records[method]) for method in methods}, contest.seed)
    rows = []
    for method in methods:
        row: dict[str, Any] = {"method": method, "command": command, "seed": contest.seed}
        if method in summaries:
            summary = asdict(summaries[method])
            interval = summary.pop("psnr_interval")
            row |= summary | {"psnr_low": interval["low"], "psnr_high": interval["high"]}
        row["identity_ssim"] = identity_means(records[method]).get("ssim")
        row |= _cohort_columns(cohort[method]) | _cost(contest, method, [r for _, r in records[method]])
        rows.append(row)
    return rows


def _cohort_columns(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table's columns of a method's cohort figures."""
    row: dict[str, Any] = {}
    if "linear" in figures:
        row["probe_linear"] = np.mean(figures["linear"]["scores"]["balanced_accuracy"])
        row["probe_linear_control"] = np.mean(figures["linear"]["control"]["balanced_accuracy"])
        row["probe_linear_frozen"] = np.mean(figures["frozen"]["balanced_accuracy"])
        row["probe_cnn"] = np.mean(figures["cnn"]["balanced_accuracy"])
        distances = figures["distances"]
        row["wasserstein"] = np.mean(list(distances["wasserstein"].values()))
        row |= {name: distances[key] for name, key in (("mmd", "mmd2"), ("fid", "fid"), ("kid", "kid"))}
    if "anatomy" in figures:
        anatomy = figures["anatomy"]
        row["drift"] = np.median(anatomy["greatest_drift_percent"])
        row["drift_95"] = np.percentile(anatomy["greatest_drift_percent"], 95)
        row["dice"], row["edges"] = (np.mean(anatomy[key]) for key in ("dice", "edge_correspondence"))
    if figures.get("biology", {}).get("truth"):
        biology = figures["biology"]
        keys = ("slope_kept", "rank_kept", "difference_kept", "log_error", "site_shift")
        row |= dict(zip(BIOLOGY_COLUMNS, (biology[key] for key in keys), strict=True))
    return {key: None if value is None else float(value) for key, value in row.items()}


def _cost(contest: Contest, method: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return seconds, memory and refusals of a method."""
    fits = [contest.folder.fitted(n, method) / FITTED for n in range(len(contest.plan.folds))]
    seconds = [second for record in records for second in record["seconds"]]
    return {
        "seconds": float(np.mean(seconds)) if seconds else None,
        "fit_seconds": sum(json.loads(fit.read_text("utf-8"))["seconds"] for fit in fits if fit.is_file()),
        "peak_mib": max(record["peak_mib"] for record in records),
        "refused": sum("refused" in target for record in records for target in record["targets"].values()),
    }


def _details(
    contest: Contest,
    methods: Sequence[str],
    cohort: Mapping[str, Mapping[str, Any]],
    refused: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the JSON holds beside the table: every direction, every cohort figure, refusals."""
    cells = {method: paired_cells(read_records(contest, method)) for method in methods}
    directions = [asdict(scores) for method in methods for scores in by_direction(method, cells[method])]
    return {"directions": directions, "cohort": dict(cohort), "refused": dict(refused)}


def _about(contest: Contest, command: str) -> dict[str, str]:
    """Return what a reader must know to repeat the benchmark."""
    plan = contest.plan
    tested, fold = contest.present(plan.testing), plan.folds[0]
    counts = {name: len(contest.present(fold.training_of(name))) for name in fold.known}
    return {
        "Command": f"`{command}`",
        "Version": f"mrharmony {__version__}, model {model_hash(contest.model)[:12]}, seed {contest.seed}",
        "Machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread a method",
        "Training scans": ", ".join(f"{name} {count}" for name, count in counts.items())
        + (f" (fold 1 of {len(plan.folds)})" if len(plan.folds) > 1 else ""),
        "Tested": f"{len(tested)} scans of {len({scan.subject for scan in tested})} subjects",
        "New domains": ", ".join(fold.new) or "none",
        "Target of the cohort figures": plan.target,
        "Grid": f"{ZOOM:g} mm; all methods on the same prepared brains",
    }
