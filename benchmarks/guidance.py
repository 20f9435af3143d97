"""How the compact diffusion model is sampled best: guidance, evaluations, DDIB, autoencoder's ceiling.

python benchmarks/guidance.py BIDS_DIR WORK --domain HH --output FOLDER [--heads 2] [--scans 6]

Development heads: virtual people on the first anatomies of a site, which in the benchmark's cohorts are
training subjects, each seen by three scanners that the shipped model knows. Scored on every twelfth coronal
slice, in all directions, against the true scan of the same head, by PSNR, tone and change of anatomy: of
the bare look, the look through the lock, and the method as it ships. WORK/cases keeps a file a scan, so that
the run can be stopped and called again. Writes FOLDER/guidance.json, .md and .png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from guidance_tables import draw, markdown
from mrharmony.benchmark.contenders import as_prepared
from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.progress import track
from mrharmony.core.volume import Domain, FloatArray
from mrharmony.domains.statistics import load_statistics
from mrharmony.evaluate.anatomy import edge_correspondence, in_contrast_of
from mrharmony.evaluate.paired import PairedTruth
from mrharmony.evaluate.paper import tone_distance, tone_quantiles
from mrharmony.evidence.drift import evidence
from mrharmony.jobs.brains import prepare_brains
from mrharmony.jobs.opening import open_method
from mrharmony.methods.diffusion import DiffusionHarmonizer, SampledContrasts
from mrharmony.methods.rendering import lock_of, truth_fitted
from mrharmony.networks.diffusion.model import STATISTICS, LatentModel, load_model, read_card
from mrharmony.networks.diffusion.sampling import SamplingSettings, sample_contrast
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.simulate.scanner import load_scanners
from mrharmony.weights import shipped_model
from virtual_people import GRID, chosen_scans, people, ratio, seen

SEED = 11
SCANNERS = ("mprage-3t", "spgr-1.5t", "irspgr-3t")
EVERY, FEW = 12, 48  # coronal slices: one in so many is looked at; in the second, also with 1000 steps
PROMPT_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
INPUT_WEIGHTS = (0.0, 0.5, 1.0, 2.0)
STEPS = (1, 2, 4, 8, 20, 50)
WHOLE = 1000  # steps
RIVALS = ("none", "histogram", "regional", "synthesis")
Head = dict[str, CanonicalBrain]
Scores = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies are used")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--scans", type=int, help="sources, head by head; all if not given")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    scans = list(itertools.product(range(asked.heads), SCANNERS))[: asked.scans]
    files = {scan: asked.work / "cases" / f"{scan[0]}-{scan[1]}.json" for scan in scans}
    model = load_model(shipped_model())
    if not all(file.is_file() for file in files.values()):
        heads = travelling_heads(asked.bids_dir, asked.domain, asked.heads, asked.work / "brains")
        for (number, name), file in track(list(files.items()), "scans"):
            if not file.is_file():
                write_json(file, case(model, heads[number], name, few=(number, name) == (0, SCANNERS[0])))
    chosen = chosen_scans(asked.bids_dir, asked.domain, range(asked.heads))
    brains, _ = prepare_brains(chosen, GRID, asked.work / "brains")
    record = summary([json.loads(file.read_text("utf-8")) for file in files.values()])
    record["real round trip"] = mean_scores([ceiling(model, brain) for brain in brains.values()])
    record["seconds an evaluation"] = evaluation_seconds(model, brains[chosen[0]])
    record["about"] = {"scans": scans, "scanners": SCANNERS, "every": EVERY, "few": FEW, "seed": SEED}
    write_json(asked.output / "guidance.json", record)
    write_text(asked.output / "guidance.md", markdown(record))
    draw(asked.output / "guidance.png", record)


def travelling_heads(bids_dir: Path, domain: str, count: int, cache: Path) -> list[Head]:
    """Return the brains of each head by scanner, voxel on voxel: in the alignment of the first scan."""
    scanners, heads = load_scanners(), []
    for number, anatomy in enumerate(people(bids_dir, domain, range(count), cache, SEED)):
        scans = {name: seen(anatomy, scanners[name], (SEED, number)) for name in SCANNERS}
        rigid_to_template = scans[SCANNERS[0]].rigid_to_template
        heads.append(
            {
                name: CanonicalBrain(
                    *replace(scan, rigid_to_template=rigid_to_template).canonical(GRID), scan.scale
                )
                for name, scan in scans.items()
            }
        )
    return heads


def thinned(brain: CanonicalBrain, every: int) -> CanonicalBrain:
    """Return a brain of which only one coronal slice in so many is left."""
    filled = np.flatnonzero(brain.mask.any(axis=(0, 2)))[every // 2 :: every]
    kept = np.zeros_like(brain.mask)
    kept[:, filled] = brain.mask[:, filled]
    return CanonicalBrain(brain.volume.with_voxels(brain.volume.voxels * kept), kept, brain.scale)


def settings_of_grid() -> Iterator[tuple[str, SamplingSettings]]:
    for prompt_weight, input_weight in itertools.product(PROMPT_WEIGHTS, INPUT_WEIGHTS):
        name = f"{prompt_weight:g} {input_weight:g}"
        yield name, SamplingSettings(prompt_weight=prompt_weight, input_weight=input_weight)


def settings_of_curve(*more: int) -> Iterator[tuple[str, SamplingSettings]]:
    for steps in (*STEPS, *more):
        yield f"structure {steps}", SamplingSettings(steps=steps)
    for refinements, steps in itertools.product((0, 2), (*STEPS[1:], *more)):
        if steps <= 20 or refinements:
            settings = SamplingSettings(steps=steps, ddib=True, refinements=refinements)
            yield f"ddib {refinements} {steps}", settings


def case(model: LatentModel, head: Head, source: str, few: bool) -> dict[str, Any]:
    """Return the scores of a scan, by what was done, toward each of the other scanners."""
    targets = [name for name in SCANNERS if name != source]
    found: dict[str, Any] = {"rivals": rivals(head, source, targets)}
    found["round trip"] = ceiling(model, head[source])
    brains = {name: thinned(brain, EVERY) for name, brain in head.items()}
    found["grid"] = {n: directions(model, brains, source, targets, s) for n, s in settings_of_grid()}
    found["curve"] = {n: directions(model, brains, source, targets, s) for n, s in settings_of_curve()}
    if few:
        brains = {name: thinned(brain, FEW) for name, brain in head.items()}
        whole = settings_of_curve(WHOLE)
        found["few"] = {n: directions(model, brains, source, targets[:1], s) for n, s in whole}
    return found


def directions(
    model: LatentModel, brains: Head, source: str, targets: list[str], settings: SamplingSettings
) -> dict[str, list[Scores]]:
    """Return the scores toward each target: of the look, of it through the lock, and of the method."""
    statistics = load_statistics(shipped_model() / STATISTICS)
    harmonizer = DiffusionHarmonizer(model, statistics, settings, lock_of("brain"))
    scan = as_prepared(brains[source])
    contrasts, own = harmonizer.contrasts(scan), domain(source)
    identity = scores(brains[source], brains[source], at_least_black(contrasts, own, own))
    found: dict[str, list[Scores]] = {"identity": [identity], "look": [], "lock": [], "method": []}
    places, voxels = contrasts.positions, brains[source].volume.voxels[brains[source].mask]
    for name in targets:
        target, truth = domain(name), brains[name]
        found["look"].append(scores(brains[source], truth, at_least_black(contrasts, target, own)))
        for what, share in (("lock", 0.0), ("method", harmonizer.population_weight)):
            locked = replace(harmonizer, population_weight=share).transform(scan, own, target, contrasts)
            made = np.zeros_like(truth.volume.voxels)
            made[truth.mask] = locked.apply(places, voxels)
            found[what].append(scores(brains[source], truth, made))
    return found


def at_least_black(contrasts: SampledContrasts, target: Domain, source: Domain) -> FloatArray:
    return np.maximum(contrasts.of(target, source).voxels, 0)


def rivals(head: Head, source: str, targets: list[str]) -> dict[str, list[Scores]]:
    """Return the scores of other methods, which see the whole scan, on the same slices."""
    brains = {name: thinned(brain, EVERY) for name, brain in head.items()}
    scan, thin = as_prepared(head[source]), as_prepared(brains[source])
    found: dict[str, list[Scores]] = {}
    for method in RIVALS:
        harmonizer = open_method(shipped_model(), method)
        made = [harmonizer.harmonize(scan, domain(source), domain(name)).intensities() for name in targets]
        found[method] = [
            scores(brains[source], brains[n], m * brains[n].mask) for n, m in zip(targets, made, strict=True)
        ]
    bounds = [truth_fitted(thin, brains[name].volume.voxels) for name in targets]
    found["truth-fitted lock"] = [
        scores(brains[source], brains[n], b) for n, b in zip(targets, bounds, strict=True)
    ]
    return found


def scores(scan: CanonicalBrain, truth: CanonicalBrain, made: FloatArray) -> Scores:
    """Return how close intensities are to the truth, and what became of the scan's anatomy.

    PSNR in dB; W₂ between the tones of slices, canonical units; 1 - edge correspondence within the slices and
    the greatest drift of a tissue's volume in percent, both with the contrast taken away.
    """
    mask = truth.mask
    made = np.where(mask, made, 0).astype(np.float32)
    filled = np.flatnonzero(mask.any(axis=(0, 2)))
    slices, wanted, masks = (v[:, filled].transpose(1, 0, 2) for v in (made, truth.volume.voxels, mask))
    tones = np.stack([tone_quantiles(w[None], m[None]) for w, m in zip(wanted, masks, strict=True)])
    drift = evidence(scan.volume.voxels, made, mask, scan.volume.zooms)
    return {
        "psnr": ratio(made[mask], truth.volume.voxels[mask]),
        "tone": tone_distance(slices[None], masks, tones),
        "edges": 1
        - edges_kept(scan, CanonicalBrain(scan.volume.with_voxels(made), mask, scan.scale), filled),
        "volumes": 100 * max(abs(drift.csf_drift), abs(drift.grey_drift), abs(drift.white_drift)),
    }


def edges_kept(scan: CanonicalBrain, made: CanonicalBrain, filled: np.ndarray) -> float:
    """Return the mean edge correspondence of the slices, each in its own plane, in the scan's contrast."""
    after = in_contrast_of(scan, made).volume.voxels
    kept = []
    for place in filled:
        inner = binary_erosion(scan.mask[:, place], iterations=2)
        if inner.any():
            kept.append(edge_correspondence(scan.volume.voxels[:, place], after[:, place], inner))
    return float(np.mean(kept))


def ceiling(model: LatentModel, brain: CanonicalBrain) -> Scores:
    """Return what the autoencoder alone leaves of a whole brain."""
    back = SampledContrasts(model, as_prepared(brain), SamplingSettings()).round_trip().voxels
    found = PairedTruth(brain.volume.voxels, brain.mask).scores(np.where(brain.mask, back, 0))
    thin = thinned(brain, EVERY)
    return {"ssim": found.ssim} | scores(thin, thin, back) | {"psnr": found.psnr}


def domain(name: str) -> Domain:
    return read_card(shipped_model()).domain(name)


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean scores over all scans and directions, by what was done."""
    record: dict[str, Any] = {"round trip": mean_scores([case["round trip"] for case in cases])}
    record["rivals"] = {
        name: mean_scores([s for case in cases for s in case["rivals"][name]]) for name in cases[0]["rivals"]
    }
    for part in ("grid", "curve", "few"):
        told = [case[part] for case in cases if part in case]
        record[part] = {
            name: {
                what: mean_scores([s for scan in told for s in scan[name][what]]) for what in told[0][name]
            }
            for name in told[0]
        }
    return record


def mean_scores(rows: list[Scores]) -> Scores:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def evaluation_seconds(model: LatentModel, brain: CanonicalBrain) -> dict[str, float]:
    """Return the processor seconds of one evaluation of the denoiser on all slices of a brain."""
    contrasts = SampledContrasts(model, as_prepared(brain), SamplingSettings())
    marks = []
    for steps in (1, 6):
        start = time.process_time()
        sample_contrast(model, contrasts.encoded, domain(SCANNERS[0]), SamplingSettings(steps=steps))
        marks.append(time.process_time() - start)
    slices = len(contrasts.encoded.filled)
    return {"slices": slices, "evaluation": (marks[1] - marks[0]) / 5, "one step with decoding": marks[0]}


if __name__ == "__main__":
    main()
