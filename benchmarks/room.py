"""How much of the room a method could win that never sees the true target scan.

python benchmarks/room.py COHORT RESULTS --output FILE

The truth-fitted lock takes in what no method can know: receive field, gain and noise of that very session.
Here the target scan is told from the *other* scanners' scans of the same head, each through the best fixed
transform of its scanner pair (fitted on other travelling heads), and averaged. A lock fitted to that look is
what knowing both scanners and the head gives. COHORT is a virtual cohort, RESULTS the folder of a finished
benchmark of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkScan, make_plan
from mrharmony.benchmark.run import ZOOM
from mrharmony.evaluate.paired import peak_ratio
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

Head = dict[str, CanonicalBrain]
STEP = 4  # every fourth voxel of a head is enough to fit a fixed transform
FITTED_HEADS = 4  # the last ones; the others are tested
GRID = Grid.working(ZOOM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--tested", type=int, default=4, help="heads that are tested")
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    heads = read_heads(asked.cohort, asked.results)
    fixed = fixed_transforms(heads[-FITTED_HEADS:])
    rows = [row for head in heads[: asked.tested] for row in scores(head, fixed)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    means |= {"heads": asked.tested, "directions": len(fixed)}
    asked.output.write_text(json.dumps(means, indent=2) + "\n", "utf-8")
    print(json.dumps(means, indent=2))


def read_heads(cohort: Path, results: Path) -> list[Head]:
    """Return the travelling heads as the benchmark has prepared them."""
    plan = make_plan(cohort, "session", None)
    subjects: dict[str, list[BenchmarkScan]] = {}
    for scan in plan.testing:
        subjects.setdefault(scan.subject, []).append(scan)
    groups = [
        [ScanFile(scan.path, true_brain(cohort, scan.subject)) for scan in scans]
        for scans in subjects.values()
    ]
    files, _ = prepare_positions(groups, GRID, BenchmarkFolder(results).brains, 1)
    return [{s.domain: load_brain(files[s.path], GRID) for s in scans} for scans in subjects.values()]


def fixed_transforms(heads: list[Head]) -> dict[tuple[str, str], BilateralGrid]:
    """Return for each pair of scanners the transform that fits best on all these heads."""
    places = np.concatenate([positions(head)[::STEP] for head in heads])

    def voxels(name: str) -> np.ndarray:
        return np.concatenate([brain(head[name])[::STEP] for head in heads])

    return {
        (source, target): fit_bilateral_grid(places, voxels(source), voxels(target))
        for source, target in itertools.permutations(heads[0], 2)
    }


def scores(head: Head, fixed: dict[tuple[str, str], BilateralGrid]) -> list[dict[str, float]]:
    """Return PSNR in dB of every direction of one head."""
    places, rows = positions(head), []
    for target, truth in head.items():
        told = {name: fixed[name, target].apply(places, brain(head[name])) for name in head if name != target}
        contrast = np.mean(list(told.values()), axis=0)
        for source, transformed in told.items():
            scan, true = brain(head[source]), brain(truth)
            made = {
                "nothing": scan,
                "fixed transform of the pair": transformed,
                "lock fitted to the other scanners' look": locked(places, scan, contrast),
                "lock fitted to the truth": locked(places, scan, true),
            }
            rows.append({name: peak_ratio(float(np.mean((out - true) ** 2))) for name, out in made.items()})
    return rows


def locked(places: np.ndarray, scan: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    return fit_bilateral_grid(places, scan, contrast).apply(places, scan)


def positions(head: Head) -> np.ndarray:
    return GRID.positions()[next(iter(head.values())).mask]


def brain(canonical: CanonicalBrain) -> np.ndarray:
    return canonical.volume.voxels[canonical.mask]


if __name__ == "__main__":
    main()
