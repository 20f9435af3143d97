"""Seconds and memory of preparing raw heads, step by step.

python benchmarks/preparation_time.py OUT SCAN... [--threads N]

Each scan is prepared in a process of its own, the loading of template and network counted in.
Writes OUT/time.md and .json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from threadpoolctl import threadpool_limits

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.prepare.alignment import align_to_template
from mrharmony.prepare.brain_mask import locate_brain
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.prepared_files import PreparedFiles
from mrharmony.prepare.quality import mask_quality, preparation_figures
from mrharmony.prepare.receive_field import receive_field
from mrharmony.prepare.saved import write_prepared
from mrharmony.report.preparation_page import preparation_page
from mrharmony.scans.reading import read_scan
from mrharmony.space.grid import CANONICAL_GRID
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.voxel_order import array_from_ras, to_ras


def main() -> None:
    """Measure every scan in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measured(arguments.scans[0], arguments.threads)))
        return
    rows = [alone(scan, arguments) for scan in arguments.scans]
    write_json(arguments.out / "time.json", {"threads": arguments.threads, "rows": rows})
    write_bytes(arguments.out / "time.md", markdown(rows, arguments.threads).encode())


def alone(scan: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure a scan in another process."""
    command = [sys.executable, __file__, "--alone", "--threads", str(arguments.threads), str(arguments.out)]
    done = subprocess.run([*command, str(scan)], check=True, capture_output=True, text=True)
    row: dict[str, object] = json.loads(done.stdout)
    return row


def measured(path: Path, threads: int) -> dict[str, object]:
    """Prepare a scan step by step; return seconds, CPU seconds and the peak of memory."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    steps: dict[str, tuple[float, float]] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        start, cpu = time.monotonic(), time.process_time()
        yield
        steps[name] = (time.monotonic() - start, time.process_time() - cpu)

    with TemporaryDirectory() as folder:
        files = PreparedFiles.of(path, Path(folder))
        with step("read and check"):
            scan = read_scan(path)
        with step("brain mask"):
            ras = to_ras(scan.volume)
            mask, stripped = locate_brain(ras)
        with step("posture"):
            start = align_to_template(ras, mask).rigid_to_template
        with step("receive field"):
            field = receive_field(ras, mask, start)
        corrected = ras.with_voxels(ras.voxels / field)
        with step("alignment, refined"):
            alignment = align_to_template(corrected, mask, near=start)
        with step("gates"):
            mask_quality(corrected, mask, alignment)
        native = scan.volume
        arrays = (array_from_ras(mask, native), array_from_ras(field, native), alignment.rigid_to_template)
        prepared = PreparedScan(native, *arrays, intensity_scale(corrected.voxels[mask]), stripped, ())
        with step("canonical brain"):
            prepared.canonical(CANONICAL_GRID)
        with step("page"):
            figures = preparation_figures(prepared)
            page = preparation_page(path.name, prepared, figures, "passed", ())
            write_bytes(files.page, page.encode())
        with step("files"):
            write_prepared(files, scan, prepared, {})
    return {
        "scan": path.name,
        "voxels": str(scan.volume),
        "seconds": {name: round(seconds, 2) for name, (seconds, _) in steps.items()},
        "cpu_seconds": {name: round(cpu, 2) for name, (_, cpu) in steps.items()},
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def markdown(rows: list[dict[str, object]], threads: int) -> str:
    """Return the report: wall seconds of each step, and its share."""
    names = list(rows[0]["seconds"])  # type: ignore[call-overload]
    lines = [
        "# Time of preparation",
        "",
        "- Command: `python benchmarks/preparation_time.py OUT SCAN...`",
        f"- Threads: {threads}; seconds on the clock and their share; CPU: processor seconds of all threads",
        "",
        "| scan | voxels | " + " | ".join(names) + " | all | CPU | GiB |",
        "|---|---|" + "---:|" * (len(names) + 3),
    ]
    for row in rows:
        seconds, cpu = row["seconds"], row["cpu_seconds"]
        total = sum(seconds.values())  # type: ignore[attr-defined]
        cells = [f"{seconds[name]:.1f} ({seconds[name] / total:.0%})" for name in names]  # type: ignore[index]
        whole = sum(cpu.values())  # type: ignore[attr-defined]
        lines.append(
            f"| {row['scan']} | {row['voxels']} | "
            + " | ".join([*cells, f"{total:.1f}", f"{whole:.1f}", str(row["peak_gib"])])
            + " |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
