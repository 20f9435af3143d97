"""Make real heads smaller and larger by a known factor, prepare them, and compare the size that is found.

python benchmarks/preparation_size.py BIDS_DIR OUT

OUT may be that of preparation_robustness.py: the heads as they are, are taken from OUT/references if they are
there. Each result goes to OUT/sizes as it comes, so the run can be stopped and called again; then the table
is written to OUT/size.md and .json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine

from mrharmony.prepare.pipeline import prepare_unjudged
from mrharmony.progress import track
from mrharmony.scans import write_json
from mrharmony.scans.atomic import write_text
from mrharmony.volume import MrharmonyError, Volume
from preparation_robustness import CENTRE, HEADS, Reference, reference

SEED = 7
SMALLEST, LARGEST = 0.85, 1.15
EDGES = CENTRE + np.vstack([np.diag([65.0, 80.0, 60.0]), -np.diag([65.0, 80.0, 60.0])])  # of the template, mm


def main() -> None:
    """Prepare what is not prepared yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    every = [(draw, arguments.out / "sizes" / f"{draw[0]}-{draw[1]:.4f}.json") for draw in draws()]
    missing = [(draw, file) for draw, file in every if not file.is_file()]
    for (head, factor), file in track(missing, "sizes", len(every), len(every) - len(missing)):
        write_json(file, measure(reference(arguments.bids_dir, arguments.out, head), head, factor))
    records = [json.loads(file.read_text("utf-8")) for _, file in every]
    write_json(arguments.out / "size.json", {**summary(records), "records": records})
    write_text(arguments.out / "size.md", markdown(records))


def draws() -> Iterator[tuple[str, float]]:
    """Yield heads and factors: the smallest, the largest, and one between for each head."""
    rng = np.random.default_rng(SEED)
    for head in HEADS:
        for factor in (SMALLEST, float(rng.uniform(SMALLEST, LARGEST)), LARGEST):
            yield head, factor


def measure(whole: Reference, head: str, factor: float) -> dict[str, Any]:
    """Prepare a head whose every millimetre has become `factor` millimetres."""
    grown = np.diag([factor, factor, factor, 1.0])
    record: dict[str, Any] = {"head": head, "factor": factor}
    try:
        prepared, _ = prepare_unjudged(Volume(whole.native.voxels, grown @ whole.native.affine))
    except MrharmonyError as refusal:
        return {**record, "reason": str(refusal)}
    error = prepared.volume_corrected @ grown @ np.linalg.inv(whole.volume_corrected)
    return {
        **record,
        "size": prepared.size,
        "percent": 100 * (prepared.size / (factor * whole.size) - 1),
        "mm": float(np.linalg.norm(apply_affine(error, EDGES) - EDGES, axis=1).max()),
    }


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the table."""
    found = [record for record in records if "size" in record]
    percent = np.abs([record["percent"] for record in found])
    millimetres = np.array([record["mm"] for record in found])
    return {
        "heads": len(records),
        "refused": len(records) - len(found),
        "percent_median": float(np.median(percent)),
        "percent_95": float(np.percentile(percent, 95)),
        "percent_worst": float(percent.max()),
        "mm_median": float(np.median(millimetres)),
        "mm_95": float(np.percentile(millimetres, 95)),
        "mm_worst": float(millimetres.max()),
    }


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """Return the table: all factors, and each kind of factor."""
    parts = {
        f"{SMALLEST}": [record for record in records if record["factor"] == SMALLEST],
        "between": [record for record in records if SMALLEST < record["factor"] < LARGEST],
        f"{LARGEST}": [record for record in records if record["factor"] == LARGEST],
        "all": records,
    }
    rows = [
        f"| {name} | {s['heads']} | {s['refused']} | {s['percent_median']:.2f} | {s['percent_95']:.2f} "
        f"| {s['percent_worst']:.2f} | {s['mm_median']:.1f} | {s['mm_95']:.1f} | {s['mm_worst']:.1f} |"
        for name, part in parts.items()
        for s in [summary(part)]
    ]
    refused = [f"- {r['head']} × {r['factor']:.2f}: {r['reason']}" for r in records if "reason" in r]
    return "\n".join(
        [
            "# Size of the head",
            "",
            "- Command: `python benchmarks/preparation_size.py BIDS_DIR OUT`",
            f"- {len(HEADS)} heads of five scanners, made {SMALLEST} to {LARGEST} times as large",
            f"- Seed {SEED}; the whole preparation: mask and bias field are found anew",
            "",
            "| factor | heads | refused | size error %, median | 95th | worst | mm, median | 95th | worst |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            "Size error: of the size that is found against factor × size of the head as it is. mm: greatest "
            "distance at the six ends of the brain between the volume-corrected alignments of both.",
            "",
            *(refused or ["Refused: none."]),
            "",
        ]
    )


if __name__ == "__main__":
    main()
