"""The size of heads: real ones made smaller and larger by a known factor, virtual ones on several scanners.

python benchmarks/preparation_size.py BIDS_DIR COHORT OUT

COHORT is one of `mrharmony simulate --recipe clean`. OUT may be that of preparation_robustness.py: the
heads as they are, are taken from OUT/references if they are there. Each result goes to OUT/sizes as it comes,
so the run can be stopped and called again; then the table is written to OUT/size.md and .json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine

from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.progress import track
from mrharmony.core.volume import MrharmonyError, Volume
from mrharmony.prepare.pipeline import prepare_unjudged
from mrharmony.scans.bids import SESSION, BidsIndex
from mrharmony.scans.participants import SPLIT
from mrharmony.scans.reading import read_mask, read_scan
from mrharmony.simulate.cohort_files import true_brain
from preparation_robustness import CENTRE, HEADS, Reference, reference

SEED = 7
SMALLEST, LARGEST = 0.85, 1.15
TRAVELLERS = 4
EDGES = CENTRE + np.vstack([np.diag([65.0, 80.0, 60.0]), -np.diag([65.0, 80.0, 60.0])])  # of the template, mm


def main() -> None:
    """Prepare what is not prepared yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    travelled = arguments.out / "sizes" / "travelled.json"
    if not travelled.is_file():
        write_json(travelled, sizes_by_scanner(arguments.cohort))
    every = [(draw, arguments.out / "sizes" / f"{draw[0]}-{draw[1]:.4f}.json") for draw in draws()]
    missing = [(draw, file) for draw, file in every if not file.is_file()]
    for (head, factor), file in track(missing, "sizes", len(every), len(every) - len(missing)):
        write_json(file, measure(reference(arguments.bids_dir, arguments.out, head), head, factor))
    records = [json.loads(file.read_text("utf-8")) for _, file in every]
    scanners = json.loads(travelled.read_text("utf-8"))
    write_json(arguments.out / "size.json", {**summary(records), "records": records, "scanners": scanners})
    write_text(arguments.out / "size.md", markdown(records, scanners))


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


def sizes_by_scanner(cohort: Path) -> dict[str, list[float]]:
    """Return the sizes of the first travelling heads on each scanner, heads in one order; true masks."""
    index = BidsIndex.open(cohort, SESSION)
    subjects = sorted({s.subject for s in index.scans if s.participant.get(SPLIT) == "test"})[:TRAVELLERS]
    sizes: dict[str, list[float]] = {}
    for entry in track([scan for scan in index.scans if scan.subject in subjects], "travelling heads"):
        scan = read_scan(entry.path)
        mask = read_mask(true_brain(cohort, entry.subject), scan)
        prepared, _ = prepare_unjudged(scan.volume, brain_mask=mask)
        sizes.setdefault(str(entry.domain), []).append(prepared.size)
    return sizes


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


def markdown(records: Sequence[dict[str, Any]], scanners: Mapping[str, Sequence[float]]) -> str:
    """Return the tables: each kind of factor and all, and each scanner against the mean over scanners."""
    means = np.mean(list(scanners.values()), axis=0)
    offsets = {name: 100 * (np.array(sizes) / means - 1) for name, sizes in scanners.items()}
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
            "- Command: `python benchmarks/preparation_size.py BIDS_DIR COHORT OUT`",
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
            f"The same {len(means)} virtual heads on {len(offsets)} simulated scanners, true brain masks:",
            "size against the head's mean over the scanners.",
            "",
            "| scanner | mean % | standard deviation over heads % |",
            "|---|---:|---:|",
            *(f"| {name} | {off.mean():+.2f} | {off.std():.2f} |" for name, off in offsets.items()),
            "",
        ]
    )


if __name__ == "__main__":
    main()
