"""Seconds and memory of harmonizing a prepared head of 176×256×256 voxels of 1 mm, files counted in.

python benchmarks/harmonize_time.py SCAN OUT --to NSK

The scan is put on that grid and prepared; then each command runs in a process of its own with the saved
preparation. Writes OUT/harmonize.json and .md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
from nibabel.processing import conform

from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.workers import usable_cores

SHAPE = (176, 256, 256)
METHODS = ("none", "histogram", "regional-scan", "diffusion", "synthesis")
Row = dict[str, float | str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", required=True, help="target domain of the shipped model")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        head = Path(folder) / "bids" / "sub-head" / "anat" / "sub-head_T1w.nii.gz"
        head.parent.mkdir(parents=True)
        nib.save(conform(nib.load(asked.scan), SHAPE, (1.0, 1.0, 1.0), order=1), head)
        prepared = Path(folder) / "prepared"
        rows = [measured("start of the program", "--version")]
        rows.append(measured("prepare", "prepare", Path(folder) / "bids", prepared))
        for method in METHODS:
            to = ("--prepared", prepared, "--to", asked.to, "--output", Path(folder) / method)
            rows.append(measured(f"harmonize, {method}", "harmonize", head, "--method", method, *to))
    write_json(asked.out / "harmonize.json", {"scan": asked.scan.name, "to": asked.to, "rows": rows})
    write_text(asked.out / "harmonize.md", page(rows, asked.scan.name, asked.to))


def measured(name: str, *command: object) -> Row:
    """Run a command of the program; returns its seconds, seconds of processor and greatest memory, GiB."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mrharmony", *map(str, command)], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name}: ended with status {os.waitstatus_to_exitcode(status)}")
    spent = used.ru_utime + used.ru_stime
    return {
        "step": name,
        "seconds": time.perf_counter() - begin,
        "processor": spent,
        "gib": used.ru_maxrss / 2**20,
    }


def page(rows: list[Row], scan: str, target: str) -> str:
    """Return the report."""
    lines = [
        "# Time and memory of a harmonization",
        "",
        f"- Command: `python benchmarks/harmonize_time.py {scan} OUT --to {target}`",
        f"- The head on 176×256×256 voxels of 1 mm; {usable_cores()} cores; "
        "the start of the program counted in",
        "",
        "| command | s | s of processor | GiB |",
        "|---|---:|---:|---:|",
        *(f"| {r['step']} | {r['seconds']:.1f} | {r['processor']:.1f} | {r['gib']:.2f} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
