"""Which settings make CycleGAN strongest? One pair of domains, trained again and again, judged on others.

python benchmarks/cyclegan_settings.py COHORT WORK coarse|tone|fine --output FOLDER

Writes FOLDER/settings-coarse.md and .json, or -tone, or -fine. COHORT is a virtual cohort of two sites that
no result is reported on (benchmarks/results/cyclegan/settings.yaml). Trained on the subjects of its split
`train`, judged on its travelling heads: PSNR in dB against the true scan of the same head, of the generated
image and through the anatomy lock; and, without any truth, the Wasserstein distance of brain intensities to
the target's training scans. `coarse` is at 4 mm, where a step costs a quarter, with the published network;
`tone` is at 4 mm with the default one, `fine` at 2 mm.
Killed and called again it goes on where it was; WORK keeps checkpoints and prepared brains.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from mrharmony.benchmark.plan import BenchmarkScan, make_plan
from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.domains.statistics import fit_statistics
from mrharmony.evaluate.paired import peak_ratio
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.tone_curves import regional_curves
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.cyclegan.pair import translate_brain
from mrharmony.networks.cyclegan.training import train_pair
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.simulate.cohort_files import true_brain
from mrharmony.space.grid import Grid

GRID, COARSE = Grid.working(2.0), Grid.working(4.0)
LEVELS = np.linspace(0.005, 0.995, 199)
PUBLISHED = CycleGanSettings.preset("published").model_dump()
SMALL = {"channels": 16, "blocks": 1, "steps": 500, "batch": 2, "ema_decay": 0.995}
FAST = {"learning_rate": 1e-3}
FREE = {"learning_rate": 4e-3, "residual": True, "identity_weight": 0.0, "cycle_weight": 1.0}
COARSE_SEARCH: dict[str, dict[str, Any]] = {
    "as published": {},
    "rate 1e-3": FAST,
    "residual, rate 1e-3": FAST | {"residual": True},
    "residual, rate 1e-3, identity 0.5": FAST | {"residual": True, "identity_weight": 0.5},
    "residual, rate 1e-3, identity 0.5, no norm": FAST
    | {"residual": True, "identity_weight": 0.5, "norm": "none"},
    "rate 1e-3, identity 0.5": FAST | {"identity_weight": 0.5},
    "residual, rate 1e-3, identity 0": FAST | {"residual": True, "identity_weight": 0.0},
    "residual, rate 1e-3, identity 0.5, cycle 3": FAST
    | {"residual": True, "identity_weight": 0.5, "cycle_weight": 3.0},
    "residual, rate 2e-3, identity 0.5": {"learning_rate": 2e-3, "residual": True, "identity_weight": 0.5},
    "residual, rate 4e-3, identity 0": {"learning_rate": 4e-3, "residual": True, "identity_weight": 0.0},
    "residual, rate 4e-3, identity 0, cycle 1": FREE,
    "residual, rate 4e-3, identity 0, cycle 1, discriminator of 2 layers": FREE | {"discriminator_layers": 2},
    "residual, rate 4e-3, identity 0.5, cycle 1": FREE | {"identity_weight": 0.5},
    "residual, rate 4e-3, identity 0, cycle 1, no norm": FREE | {"norm": "none"},
    "residual, rate 8e-3, identity 0, cycle 1": FREE | {"learning_rate": 8e-3},
    "residual, rate 8e-3, identity 0": FREE | {"cycle_weight": 10.0, "learning_rate": 8e-3},
}
QUICK = {"positions": True, "steps": 250, "ema_decay": 0.99}
TONE_SEARCH: dict[str, dict[str, Any]] = {
    "rate 2e-3, cycle 5": QUICK | {"learning_rate": 2e-3, "cycle_weight": 5.0},
    "rate 4e-3, cycle 5": QUICK | {"learning_rate": 4e-3, "cycle_weight": 5.0},
    "rate 4e-3, cycle 5, instance norm": QUICK
    | {"learning_rate": 4e-3, "cycle_weight": 5.0, "norm": "instance"},
    "rate 4e-3, cycle 1, instance norm": QUICK
    | {"learning_rate": 4e-3, "cycle_weight": 1.0, "norm": "instance"},
    "rate 4e-3, cycle 1": QUICK | {"learning_rate": 4e-3, "cycle_weight": 1.0},
    "rate 4e-3, cycle 1, discriminators of 2 layers, 32 channels": QUICK
    | {"learning_rate": 4e-3, "cycle_weight": 1.0, "discriminator_layers": 2, "discriminator_channels": 32},
    "rate 8e-3, cycle 1": QUICK | {"learning_rate": 8e-3, "cycle_weight": 1.0},
    "rate 4e-3, cycle 1, 500 steps": QUICK | {"learning_rate": 4e-3, "cycle_weight": 1.0, "steps": 500},
}
SWINGING = {"positions": True, "learning_rate": 4e-3, "cycle_weight": 1.0, "steps": 800}
CALM = {"positions": True, "learning_rate": 2e-3, "cycle_weight": 5.0, "steps": 800}
HELD = CALM | {"cycle_weight": 10.0}
FINE_SEARCH: dict[str, dict[str, Any]] = {
    "rate 4e-3, cycle 1": SWINGING,
    "rate 4e-3, cycle 1, half the steps": SWINGING | {"steps": 400},
    "rate 4e-3, cycle 1, a quarter of the steps": SWINGING | {"steps": 200},
    "rate 2e-3, cycle 5": CALM,
    "rate 2e-3, cycle 5, 600 steps": CALM | {"steps": 600},
    "rate 1e-3, cycle 5": CALM | {"learning_rate": 1e-3},
    "rate 2e-3, cycle 10": HELD,
    "rate 2e-3, cycle 10, 1600 steps": HELD | {"steps": 1600},
    "rate 2e-3, cycle 10, 2400 steps": HELD | {"steps": 2400},
    "rate 2e-3, cycle 10, a pool of 50": HELD | {"pool": 50},
    "rate 2e-3, cycle 10, no places": HELD | {"positions": False},
    "rate 2e-3, cycle 10, no places, 2400 steps": HELD | {"positions": False, "steps": 2400},
    "rate 2e-3, cycle 10, no places, 3200 steps": HELD | {"positions": False, "steps": 3200},
    "as published, 2400 steps": PUBLISHED | {"steps": 2400},
}
SEARCHES = {
    "coarse": {name: PUBLISHED | SMALL | changes for name, changes in COARSE_SEARCH.items()},
    "tone": TONE_SEARCH,
    "fine": FINE_SEARCH,
}
Head = dict[str, CanonicalBrain]
Made = Callable[[str, str, CanonicalBrain], FloatArray]  # source, target, scan to intensities in the mask


def main() -> None:
    """Train the configurations of one search and judge them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("search", choices=list(SEARCHES))
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    training, heads = read_brains(asked.cohort, asked.work)
    if asked.search != "fine":
        training = {name: [halved(brain) for brain in brains] for name, brains in training.items()}
        heads = [{name: halved(brain) for name, brain in head.items()} for head in heads]
    rows = bounds(training, heads)
    for name, changes in SEARCHES[asked.search].items():
        rows.append(configuration(name, CycleGanSettings(**changes), training, heads, asked.work))
        write_results(rows, asked.output, asked.search)


def read_brains(cohort: Path, work: Path) -> tuple[dict[str, list[CanonicalBrain]], list[Head]]:
    """Return the training brains of each domain and the travelling heads, prepared as the benchmark does."""
    plan = make_plan(cohort, "session", None)
    groups: dict[str, list[ScanFile]] = {}
    for scan in plan.scans.values():
        brain = true_brain(cohort, scan.subject)
        groups.setdefault(scan.subject, []).append(ScanFile(scan.path, brain))
    files, _ = prepare_positions(list(groups.values()), GRID, work / "brains", 1)

    def read(scan: BenchmarkScan) -> CanonicalBrain:
        return load_brain(files[scan.path], GRID)

    fold, heads = plan.folds[0], dict[str, Head]()
    for scan in plan.testing:
        heads.setdefault(scan.subject, {})[scan.domain] = read(scan)
    training = {name: [read(scan) for scan in fold.training_of(name)] for name in fold.known}
    return training, list(heads.values())


def halved(brain: CanonicalBrain) -> CanonicalBrain:
    """Return a brain at 4 mm: means over the brain in 2×2×2 voxels."""
    share, total = (
        voxels.reshape(COARSE.shape[0], 2, COARSE.shape[1], 2, COARSE.shape[2], 2).mean((1, 3, 5))
        for voxels in (brain.mask.astype(np.float32), np.where(brain.mask, brain.volume.voxels, 0))
    )
    mask = share > 0.5
    voxels = np.where(mask, total / np.maximum(share, 0.5), 0).astype(np.float32)
    return CanonicalBrain(Volume(voxels, COARSE.affine), mask, brain.scale)


def configuration(
    name: str,
    settings: CycleGanSettings,
    training: dict[str, list[CanonicalBrain]],
    heads: Sequence[Head],
    work: Path,
) -> dict[str, Any]:
    """Train one configuration and return its row."""
    first, second = sorted(training)
    stacks = [np.stack([b.volume.voxels.astype(np.float16) for b in training[n]]) for n in (first, second)]
    pair = train_pair((first, second), (stacks[0], stacks[1]), settings, work, torch.device("cpu"))

    def made(source: str, target: str, scan: CanonicalBrain) -> FloatArray:
        generator = pair.toward(source, target)
        assert generator is not None
        return translate_brain(generator, scan.volume.voxels, scan.mask)[scan.mask]

    row = judged(name, training, heads, made, locks=True)
    about = {"weights": pair.record.generator_parameters, "steps": settings.steps}
    return row | about | {"core min": pair.record.core_minutes, "settings": settings.model_dump()}


def bounds(training: dict[str, list[CanonicalBrain]], heads: Sequence[Head]) -> list[dict[str, Any]]:
    """Return the rows of doing nothing and of regional curves, for comparison."""
    statistics = fit_statistics(training)

    def regional(source: str, target: str, scan: CanonicalBrain) -> FloatArray:
        curves = regional_curves(statistics[source], statistics[target])
        return curves.apply(scan.positions(), inside(scan))

    nothing = judged("(none)", training, heads, lambda source, target, scan: inside(scan))
    return [nothing, judged("(regional curves)", training, heads, regional)]


def judged(
    name: str,
    training: dict[str, list[CanonicalBrain]],
    heads: Sequence[Head],
    made: Made,
    locks: bool = False,
) -> dict[str, Any]:
    """Return the mean scores over heads of both directions, and over all."""
    row: dict[str, Any] = {"configuration": name}
    scores: dict[str, list[float]] = {"PSNR": [], "W1": []} | ({"PSNR, lock": []} if locks else {})
    for source, target in (sorted(training), sorted(training, reverse=True)):
        levels = np.mean([np.quantile(inside(brain), LEVELS) for brain in training[target]], axis=0)
        before = len(scores["PSNR"])
        for head in heads:
            scan, truth = head[source], inside(head[target])
            image = made(source, target, scan)
            scores["PSNR"].append(psnr(image, truth))
            scores["W1"].append(wasserstein_distance(np.quantile(image, LEVELS), levels))
            if locks:
                lock = fit_bilateral_grid(scan.positions(), inside(scan), image)
                scores["PSNR, lock"].append(psnr(lock.apply(scan.positions(), inside(scan)), truth))
        row[f"{source} to {target}"] = float(np.mean(scores["PSNR"][before:]))
    return row | {key: float(np.mean(found)) for key, found in scores.items()}


def inside(brain: CanonicalBrain) -> FloatArray:
    return brain.volume.voxels[brain.mask]


def psnr(made: FloatArray, truth: FloatArray) -> float:
    return peak_ratio(float(np.mean((made - truth) ** 2)))


def write_results(rows: Sequence[dict[str, Any]], folder: Path, search: str) -> None:
    """Write the table for people and for programs."""
    keys = [key for key in rows[-1] if key != "settings"]
    lines = ["| " + " | ".join(keys) + " |", "|---|" + "---:|" * (len(keys) - 1)]
    for row in rows:
        cells = [row.get(key, "") for key in keys]
        lines.append("| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    about = (__doc__ or "").split("\n\n")[2]
    text = f"# Settings of CycleGAN, {search} search\n\n{about}\n\n" + "\n".join(lines) + "\n"
    write_text(folder / f"settings-{search}.md", text)
    write_json(folder / f"settings-{search}.json", {"rows": list(rows)})
    print(json.dumps({key: rows[-1].get(key) for key in keys}), flush=True)


if __name__ == "__main__":
    main()
