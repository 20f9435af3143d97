"""Seconds and memory of harmonizing a head of 176×256×256 voxels of 1 mm, raw and prepared, files counted in.

python -m benchmarks.speed.harmonize SCAN --to NSK

The scan is put on that grid and prepared; then each command runs in a process of its own. Last, one process
of one thread, as workers are, does each step in turn, several times, beside gunzip and nibabel, and then as
many such processes at once as there are cores. The steps run once unmeasured, so that files are in memory and
models are loaded; then in rounds, every other one backwards, so that none gains by its place.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import conform

from benchmarks._shared.command import start
from benchmarks._shared.data_sets import write_data_set
from benchmarks._shared.records import run_alone, run_mrharmony
from benchmarks._shared.reports import Report, save
from mrharmony.core.worker_process import limit_threads
from mrharmony.core.workers import usable_cores
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.scans.reading import check_scan

SHAPE = (176, 256, 256)
METHODS = ("none", "diffusion")
ROUNDS = 9
RAW_ROUNDS = 2  # of these, with raw heads
Row = dict[str, Any]


def main() -> None:
    asked = start(__doc__, "scan", to=str, prepared=None)
    if asked.prepared:
        limit_threads()
        print(json.dumps({"rows": list(in_turn(asked.scan, asked.to, Path(asked.prepared)))}))
        return
    with TemporaryDirectory() as folder:
        head, prepared = write_head(asked.scan, Path(folder))
        rows = list(commands(head, asked.to, prepared))
        words, cores = (head, "--to", asked.to, "--prepared", prepared), usable_cores()
        record = run_alone(*words)
        with ThreadPoolExecutor(cores) as pool:
            workers = list(pool.map(lambda _: run_alone(*words)["rows"], range(cores)))
    record |= {"scan": asked.scan.name, "cores": cores, "commands": rows, "at_once": at_once(workers)}
    save(asked, report(record, asked.command), record)


def write_head(scan: Path, folder: Path) -> tuple[Path, Path]:
    """Write the scan on the grid; returns its path in a data set, and where its preparation goes."""
    head = folder / "head.nii.gz"
    nib.save(conform(nib.load(scan), SHAPE, (1.0, 1.0, 1.0), order=1), head)
    bids_dir = write_data_set(folder / "bids", {"head": head})
    return bids_dir / "sub-head" / "anat" / "sub-head_T1w.nii.gz", folder / "prepared"


def commands(head: Path, target: str, prepared: Path) -> Iterator[Row]:
    """Yield what each command takes."""
    words: dict[str, tuple[object, ...]] = {
        "start of the program": ("--version",),
        "check": ("check", head),
        "prepare": ("prepare", head.parents[2], prepared),
    }
    for method in METHODS:
        options = ("--method", method, "--prepared", prepared, "--to", target, "--output", prepared / method)
        words[f"harmonize, {method}, prepared"] = ("harmonize", head, *options)
    for step, command in words.items():
        yield {"step": step, **asdict(run_mrharmony(*command))}


def in_turn(head: Path, target: str, prepared: Path) -> Iterator[Row]:
    """Yield the median seconds of each step, and what multiple they are of those of a plain tool."""
    output = prepared / str(os.getpid()) / "sub-head_desc-harmonized_T1w.nii.gz"
    output.parent.mkdir()
    jobs = {method: open_job(None, method, None, target) for method in METHODS}
    saved = {method: replace(job, prepared=prepared) for method, job in jobs.items()}
    steps: dict[str, Callable[[], object]] = {
        "gunzip": lambda: subprocess.run(["gunzip", "-c", head], check=True, stdout=subprocess.DEVNULL),
        "check": lambda: check_scan(head),
        "nibabel, read and write": lambda: read_and_write(head, output.with_name("plain.nii.gz")),
        **{f"{name}, prepared": partial(harmonized, job, head, output) for name, job in saved.items()},
        **{f"{name}, raw": partial(harmonized, job, head, output) for name, job in jobs.items()},
    }
    for step, work in steps.items():
        if "raw" not in step:
            work()
    took: dict[str, list[tuple[float, float]]] = {step: [] for step in steps}
    for number in range(ROUNDS):
        for step, work in list(steps.items())[:: -1 if number % 2 else 1]:
            if number < RAW_ROUNDS or "raw" not in step:
                begin, processor = time.perf_counter(), time.process_time()
                work()
                took[step].append((time.perf_counter() - begin, time.process_time() - processor))
    middle = {
        step: [statistics.median(each) for each in zip(*times, strict=True)] for step, times in took.items()
    }
    for step, (seconds, processor) in middle.items():
        plain = "gunzip" if step in ("gunzip", "check") else "nibabel, read and write"
        own = None if step == "gunzip" else processor  # gunzip is another process
        yield {"step": step, "s": seconds, "cpu": own, "plain": plain, "multiple": seconds / middle[plain][0]}


def at_once(workers: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the seconds that a scan takes where each core has a worker: the workers' over their number."""
    steps = [row["step"] for row in workers[0] if row["step"].startswith(METHODS)]
    took = {step: [row["s"] for rows in workers for row in rows if row["step"] == step] for step in steps}
    return [{"step": step, "s": statistics.mean(each) / len(workers)} for step, each in took.items()]


def read_and_write(head: Path, output: Path) -> None:
    """Read all voxels of a scan and write them as float32 `.nii.gz`, as anyone would with nibabel.

    nibabel compresses at zlib's level 1, its default, and does not wait for the disk, as mrharmony does.
    """
    image = nib.load(head)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), output)


def harmonized(job: HarmonizeJob, head: Path, output: Path) -> None:
    """Harmonize the head; ends the script where it is refused."""
    output.with_name(output.name.replace(".nii.gz", ".json")).unlink(missing_ok=True)
    outcome = harmonize_scan(job, head, output)
    if outcome.reason:
        raise SystemExit(outcome.reason)


def report(record: Row, command: str) -> Report:
    shown = Report(
        "Time and memory of a harmonization",
        f"Command: `{command}`",
        f"{record['scan']} on 176×256×256 voxels of 1 mm; {record['cores']} cores",
    )
    shown.text("Each command in a process of its own, the start of the program counted in:")
    columns = "command: {step} | s: {seconds:.1f} | s of processor: {processor:.1f} | GiB: {gib:.2f}"
    shown.table(record["commands"], columns, "commands")
    shown.text(
        "In a running process of one thread, the steps in turn, every other round backwards; the median of "
        f"{ROUNDS} rounds, of raw heads of {RAW_ROUNDS}; multiples are of seconds on the clock. nibabel "
        "reads all voxels as float32 and saves them as `.nii.gz` at its default level:"
    )
    shown.table(
        record["rows"],
        "step: {step} | s: {s:.2f} | s of processor: {cpu:.2f} | multiple: {multiple:.2f} | of: {plain}",
    )
    shown.text(f"In {record['cores']} such processes at once, one a core; seconds on the clock a scan:")
    shown.table(record["at_once"], "step: {step} | s a scan: {s:.2f}", "at-once")
    return shown


if __name__ == "__main__":
    main()
