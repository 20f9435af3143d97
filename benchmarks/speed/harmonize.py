"""Seconds and memory of harmonizing a prepared head of 176×256×256 voxels of 1 mm, files counted in.

python -m benchmarks.speed.harmonize SCAN --to NSK

The scan is put on that grid and prepared; then each command runs in a process of its own with the saved
preparation.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
from nibabel.processing import conform

from benchmarks._shared.command import start
from benchmarks._shared.data_sets import write_data_set
from benchmarks._shared.records import run_mrharmony
from benchmarks._shared.reports import Report, save
from mrharmony.core.workers import usable_cores

SHAPE = (176, 256, 256)
METHODS = ("none", "histogram", "regional-scan", "diffusion")
Row = dict[str, Any]


def main() -> None:
    asked = start(__doc__, "scan", to=str)
    with TemporaryDirectory() as folder:
        rows = list(measured(asked.scan, asked.to, Path(folder)))
    record = {"scan": asked.scan.name, "cores": usable_cores(), "rows": rows}
    save(asked, report(record, asked.command), record)


def measured(scan: Path, target: str, folder: Path) -> Iterator[Row]:
    """Yield what each command takes."""
    head, prepared = folder / "head.nii.gz", folder / "prepared"
    nib.save(conform(nib.load(scan), SHAPE, (1.0, 1.0, 1.0), order=1), head)
    bids_dir = write_data_set(folder / "bids", {"head": head})
    head = bids_dir / "sub-head" / "anat" / "sub-head_T1w.nii.gz"
    commands: dict[str, tuple[object, ...]] = {
        "start of the program": ("--version",),
        "prepare": ("prepare", bids_dir, prepared),
    }
    for method in METHODS:
        options = ("--method", method, "--prepared", prepared, "--to", target, "--output", folder / method)
        commands[f"harmonize, {method}"] = ("harmonize", head, *options)
    for step, words in commands.items():
        yield {"step": step, **asdict(run_mrharmony(*words))}


def report(record: Row, command: str) -> Report:
    shown = Report(
        "Time and memory of a harmonization",
        f"Command: `{command}`",
        f"{record['scan']} on 176×256×256 voxels of 1 mm; {record['cores']} cores; "
        "the start of the program counted in",
    )
    columns = "command: {step} | s: {seconds:.1f} | s of processor: {processor:.1f} | GiB: {gib:.2f}"
    shown.table(record["rows"], columns)
    return shown


if __name__ == "__main__":
    main()
