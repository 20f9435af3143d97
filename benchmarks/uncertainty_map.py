"""Does the uncertainty map tell where a harmonized scan is wrong?

python benchmarks/uncertainty_map.py BIDS_DIR WORK --domain HH --output FOLDER

Writes FOLDER/uncertainty.md and .json. Virtual people on real anatomies that no result is reported on are
brought from a scanner (a random one, or one of the simulator's) to another, where their true scan is known.
Beside the map, other spreads that were tried. Half of the heads, scanners and targets choose, the others
check.
WORK/uncertainty keeps a file a head: killed and called again, the script goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from development_heads import SEED, SIDES, ZOOMS, DevelopmentHeads, scanners_of, targets_of
from mrharmony.core.atomic import write_arrays, write_json, write_text
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, Domain, FloatArray
from mrharmony.domains.contrast import scan_contrasts
from mrharmony.domains.statistics import load_statistics
from mrharmony.evidence.uncertainty import SEEDS
from mrharmony.methods.synthesis import SynthesisHarmonizer, load_synthesis
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.prepare.canonical import canonical_brain
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners
from mrharmony.weights import shipped_model
from virtual_people import seen

SCANS = 3  # of a head
GRID_MM, SMOOTH_MM = 2.0, 2.0  # standard deviation
BINS = 10
Arrays = dict[str, NDArray[Any]]


def main() -> None:
    """Take the errors and spreads of all heads, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies virtual people have")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=6)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = shipped_model()
    method = load_synthesis(model, load_statistics(model / STATISTICS))
    heads = DevelopmentHeads.of(asked.bids_dir, asked.domain, asked.work / "brains")
    found: dict[str, list[dict[str, FloatArray]]] = {side: [] for side in SIDES}
    numbers = [number for number in heads.in_turn() if ZOOMS[number % len(ZOOMS)] == GRID_MM]
    for number in track(numbers[: asked.heads], "heads"):
        files = [asked.work / "uncertainty" / f"{number:02d}-{scan}.npz" for scan in range(SCANS)]
        if not all(file.is_file() for file in files):
            for file, arrays in zip(files, cases(method, heads, number), strict=True):
                write_arrays(file, arrays)
        found[heads.side(number)] += [candidates(read(file)) for file in files]
    table = {side: summary(cases) for side, cases in found.items()}
    write_json(asked.output / "uncertainty.json", table)
    write_text(asked.output / "uncertainty.md", markdown(table))


def read(file: Path) -> Arrays:
    """Return the arrays of a file."""
    with np.load(file) as arrays:
        return dict(arrays)


def cases(method: SynthesisHarmonizer, heads: DevelopmentHeads, number: int) -> Iterator[Arrays]:
    """Yield what was made of a head's scans, and their truth: from a known scanner and from random ones."""
    rng = np.random.default_rng([SEED, number, 2])
    side, head, every = heads.side(number), heads.head(number), load_scanners()
    known = scanners_of(side)
    scanners = [known[rng.integers(len(known))], *(random_scanner(rng) for _ in range(SCANS - 1))]
    domains = [name for name in targets_of(side, list(method.contrast_models)) if name in every]
    for scanner in scanners:
        name = str(rng.choice([name for name in domains if name != scanner.name]))
        yield case(method, seen(head, scanner, (SEED, number)), seen(head, every[name], (SEED, number)), name)


def case(method: SynthesisHarmonizer, scan: PreparedScan, truth: PreparedScan, name: str) -> Arrays:
    """Return the error of a harmonized scan, and what may foretell it, on the template grid of 2 mm."""
    contrasts, brain, target = scan_contrasts(scan), canonical_brain(scan), Domain(name, name)
    nearest = sorted(
        method.contrast_models, key=lambda known: method.contrast_models[known].distance(contrasts)
    )[:2]
    ways = [Domain("unknown", ""), *(Domain(known, known) for known in nearest if known != name)]
    fits = [method.transform(scan, None, target), *(method.transform(scan, way, target) for way in ways)]
    fits += method.transforms(scan, None, target, range(SEEDS))
    made, *others = (fit.apply(contrasts.positions, contrasts.intensities) for fit in fits)
    return {
        "mask": brain.mask,
        "error": made
        - canonical_brain(replace(truth, rigid_to_template=scan.rigid_to_template)).volume.voxels[brain.mask],
        "ways": np.stack(others[: len(ways)]),
        "seeds": np.stack(others[len(ways) :]),
        "misfit": method.contrast_models[name].contrast(contrasts) - made,
        "distance": np.array(method.contrast_models[nearest[0]].distance(contrasts)),
    }


def candidates(arrays: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
    """Return the error, without noise, and every spread that may foretell its size."""
    mask, ways = arrays["mask"], arrays["ways"]
    seeds = smoothed(arrays["seeds"].std(axis=0, ddof=1), mask)
    misfit = np.abs(smoothed(arrays["misfit"], mask))
    between = smoothed(ways.std(axis=0, ddof=1 if len(ways) > 1 else 0), mask)
    return {
        "error": smoothed(arrays["error"], mask),
        "seeds": seeds,
        "source unknown, nearest, second nearest": between,
        "seeds and sources": np.hypot(seeds, between),
        "look against output": misfit,
        "all three": np.sqrt(misfit**2 + seeds**2 + between**2),
        "distance to the nearest domain": np.full_like(seeds, arrays["distance"]),
    }


def smoothed(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Return means over a Gaussian neighbourhood in the brain: the noise of both scans is no error."""
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = values
    weight = gaussian_filter(mask.astype(np.float32), SMOOTH_MM / GRID_MM)
    return np.asarray((gaussian_filter(volume, SMOOTH_MM / GRID_MM) / np.maximum(weight, 1e-3))[mask])


def summary(cases: list[dict[str, FloatArray]]) -> dict[str, Any]:
    """Return for each spread how it ranks the voxels, and the true error by its size."""
    names = [name for name in cases[0] if name != "error"]
    error = np.concatenate([case["error"] for case in cases])
    return {
        "scans": len(cases),
        "error": float(np.sqrt(np.mean(error**2))),
        "spreads": {
            name: ranking(cases, name) | bins(np.concatenate([case[name] for case in cases]), error)
            for name in names
        },
    }


def ranking(cases: list[dict[str, FloatArray]], name: str) -> dict[str, float]:
    """Return Spearman's correlation of spread and absolute error: within scans, and of their means."""
    within = [rank(case[name], np.abs(case["error"])) for case in cases]
    spreads = [float(case[name].mean()) for case in cases]
    errors = [float(np.sqrt(np.mean(case["error"] ** 2))) for case in cases]
    between = rank(np.array(spreads), np.array(errors))
    return {"within": float(np.mean(within)), "least": min(within), "between": between}


def rank(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return Spearman's correlation; 0 where a side is constant."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def bins(spread: FloatArray, error: FloatArray) -> dict[str, Any]:
    """Return the mean spread and the root mean square error in bins of equal numbers of voxels."""
    parts = np.array_split(np.argsort(spread, kind="stable"), BINS)
    return {
        "spread": [float(spread[part].mean()) for part in parts],
        "rms error": [float(np.sqrt(np.mean(error[part] ** 2))) for part in parts],
    }


def markdown(table: dict[str, Any]) -> str:
    """Return the report."""
    lines = [
        "# Uncertainty map and true error",
        "",
        "- Command: `python benchmarks/uncertainty_map.py BIDS_DIR WORK --domain HH --output FOLDER`",
        "- Errors and spreads in canonical units, both smoothed by 2 mm: single voxels differ by noise",
        "- *seeds* is the map that is written; the others were tried",
        "- Rank: Spearman's correlation of spread and absolute error over a scan, mean and least",
        "- Between: the same of mean spread and root mean square error over scans",
        "",
    ]
    for side, found in table.items():
        seeds = found["spreads"]["seeds"]
        tenths = [f"{s:.3f} → {e:.3f}" for s, e in zip(seeds["spread"], seeds["rms error"], strict=True)]
        lines += [
            f"## {side.capitalize()}: {found['scans']} scans, root mean square error {found['error']:.4f}",
            "",
            "| spread | rank | least | between | error in the tenth of least spread | most spread |",
            "|---|---:|---:|---:|---:|---:|",
            *(
                f"| {name} | {row['within']:.2f} | {row['least']:.2f} | {row['between']:.2f} "
                f"| {row['rms error'][0]:.3f} | {row['rms error'][-1]:.3f} |"
                for name, row in found["spreads"].items()
            ),
            "",
            f"Seeds, spread → error by tenths of the voxels: {', '.join(tenths)}",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
