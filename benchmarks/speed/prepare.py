"""Seconds and memory of preparing raw heads, step by step.

python -m benchmarks.speed.prepare SCAN...

Each scan is prepared by `mrharmony prepare` in a process of its own, on one thread and under Python's
profiler, the loading of template and network counted in.
"""

import cProfile
import json
import pstats
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.data_sets import write_data_set
from benchmarks._shared.records import run_alone
from benchmarks._shared.reports import Report, save
from mrharmony.jobs.preparing import prepare_data_set
from mrharmony.preparation.alignment import align_to_template
from mrharmony.preparation.brain_mask import locate_brain
from mrharmony.preparation.quality import mask_quality, preparation_figures
from mrharmony.preparation.receive_field import receive_field
from mrharmony.preparation.saved import write_prepared
from mrharmony.report.preparation_page import preparation_page
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import read_scan

STEPS: dict[str, Callable[..., object]] = {
    "read and check": read_scan,
    "brain mask": locate_brain,
    "alignment": align_to_template,
    "receive field": receive_field,
    "gates": mask_quality,
    "figures": preparation_figures,
    "page": preparation_page,
    "files": write_prepared,
}
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "scans...", alone=False)
    if asked.alone:
        print(json.dumps(measured(asked.scans[0])))
        return
    record = {"rows": [run_alone(scan, "--alone") for scan in asked.scans]}
    save(asked, report(record, asked.command), record)


def measured(path: Path) -> Row:
    """Prepare a scan; return the seconds of each step, processor seconds and the peak of memory."""
    profile, begin, processor = cProfile.Profile(), time.monotonic(), time.process_time()
    with TemporaryDirectory() as folder:
        index = BidsIndex.open(write_data_set(Path(folder) / "bids", {"head": path}))
        profile.runcall(prepare_data_set, index, Path(folder) / "out", workers=1)
    calls = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # the stub lacks it
    codes = {step: function.__code__ for step, function in STEPS.items()}
    keys = {step: (code.co_filename, code.co_firstlineno, code.co_name) for step, code in codes.items()}
    return {
        "scan": path.name,
        "voxels": str(read_scan(path).volume),
        "steps": {step: calls[key][3] for step, key in keys.items()},  # cumulative seconds
        "seconds": time.monotonic() - begin,
        "cpu": time.process_time() - processor,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def report(record: Row, command: str) -> Report:
    shown = Report(
        "Time of preparation",
        f"Command: `{command}`",
        "One thread; seconds on the clock and their share; CPU: processor seconds of all threads",
    )
    rows = [
        row | {step: f"{took:.1f} ({took / row['seconds']:.0%})" for step, took in row["steps"].items()}
        for row in record["rows"]
    ]
    steps = " | ".join(f"{step}: {{{step}}}" for step in record["rows"][0]["steps"])
    shown.table(
        rows,
        f"scan: {{scan}} | voxels: {{voxels}} | {steps} | "
        "all: {seconds:.1f} | CPU: {cpu:.1f} | GiB: {gib:.2f}",
    )
    return shown


if __name__ == "__main__":
    main()
