"""Thresholds of the verdicts: set on known sound harmonizations, checked on others and on planted faults.

python benchmarks/verdicts.py BIDS_DIR WORK --domain HH --output FOLDER

Writes FOLDER/verdicts.md and .json. Sound: virtual people on real anatomies that no result is reported on,
seen by known, unknown and random scanners, and real scans of every site of BIDS_DIR; harmonized by synthesis
and by regional curves. Planted faults: what a method may commit (planted_faults.py), a mask, a alignment, a
target or a source that is wrong. Half of the subjects, scanners and targets set the thresholds, the others
check them.
WORK/cases keeps the figures of each head: killed and called again, the script goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu

from development_heads import SEED, SIDES, DevelopmentHeads, scanners_of, targets_of
from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, Domain, FloatArray, MrharmonyError
from mrharmony.domains.statistics import load_statistics
from mrharmony.evidence.drift import Evidence, evidence
from mrharmony.methods.protocol import HarmonizedVolume, Harmonizer
from mrharmony.methods.synthesis import SynthesisHarmonizer, load_synthesis
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.prepare.pipeline import prepare_scan
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.participants import shuffle_key
from mrharmony.scans.reading import read_scan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.weights import shipped_model
from planted_faults import FAULTS, SoundOutput, possible
from verdict_tables import markdown, summary
from virtual_people import seen

REAL_TARGETS = ("NSK", "LA", "mprage-3t")
REAL_SCANS = 3  # of a site at most
TARGETS = 2  # of a virtual scan
Case = dict[str, Any]
Method = SynthesisHarmonizer | ClassicalHarmonizer


def main() -> None:
    """Take the figures of all heads, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies virtual people have")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=10, help="virtual people at most")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = shipped_model()
    statistics = load_statistics(model / STATISTICS)
    methods = load_synthesis(model, statistics), ClassicalHarmonizer("regional", statistics)
    heads = DevelopmentHeads.of(asked.bids_dir, asked.domain, asked.work / "brains")
    jobs: dict[str, Callable[[], Iterator[Case]]] = {
        f"real-{scan.path.name.split('_')[0]}": partial(real_cases, methods, scan, number)
        for number, scan in enumerate(some_scans(asked.bids_dir))
    }
    numbers = heads.in_turn()[: asked.heads]
    jobs |= {f"virtual-{number:02d}": partial(virtual_cases, methods, heads, number) for number in numbers}
    cases: list[Case] = []
    for name, job in track(jobs.items(), "heads"):
        file = asked.work / "cases" / f"{name}.json"
        if not file.is_file():
            write_json(file, {"cases": list(job())})
        cases += [{"head": name, **case} for case in json.loads(file.read_text("utf-8"))["cases"]]
    table = summary(cases)
    write_json(asked.output / "verdicts.json", {**table, "cases": cases})
    write_text(asked.output / "verdicts.md", markdown(table))


def virtual_cases(
    methods: tuple[SynthesisHarmonizer, ClassicalHarmonizer], heads: DevelopmentHeads, number: int
) -> Iterator[Case]:
    """Yield the figures of a virtual head: two scanners, two targets each, faults with the last of them."""
    rng = np.random.default_rng([SEED, number, 1])
    side, head = heads.side(number), heads.head(number)
    domains = targets_of(side, list(methods[0].contrast_models))
    scanners = [scanners_of(side)[rng.integers(len(scanners_of(side)))], random_scanner(rng)]
    for scanner in scanners[:: 1 - 2 * (number % 2)]:
        scan = seen(head, scanner, (SEED, number))
        others = [name for name in domains if name != scanner.name]
        targets = [str(name) for name in rng.permutation(others)[: TARGETS + 1]]
        about = {"side": side, "real": False, "source": scanner.name, "zoom": scan.native.zooms[0]}
        for target in targets[:TARGETS]:
            yield from sound_cases(methods, scan, scanner.name, target, about)
    done = methods[0].harmonize(scan, None, domain(targets[0]))
    faulty = about | {"target": targets[0], "method": methods[0].name}
    yield from fault_cases(methods[0], head, scan, done, targets, faulty, rng)
    own = {finding.code for finding in (*scan.findings, *done.findings)}
    for name, scanned in wrong_preparations(scan):
        yield {**faulty, "fault": name, **outcome(methods[0], scanned, targets[0], own)}


def sound_cases(
    methods: Sequence[Method], scan: PreparedScan, source: str, target: str, about: Case
) -> Iterator[Case]:
    """Yield the figures of every sound way from a scan to a target."""
    for method in methods:
        known = source in method.statistics and source != target
        for told in [None, domain(source)] if known else [None]:
            done = method.harmonize(scan, told, domain(target))
            yield {**about, "target": target, "method": method.name, "fault": "", **figures(done.evidence)}


def fault_cases(
    method: SynthesisHarmonizer,
    head: Anatomy,
    scan: PreparedScan,
    done: HarmonizedVolume,
    targets: Sequence[str],
    about: Case,
    rng: np.random.Generator,
) -> Iterator[Case]:
    """Yield the figures of faulty harmonizations."""
    output = SoundOutput(head, scan, done.intensities(), rng)
    for name in (name for name in FAULTS if possible(name, head)):
        found = judged(method, scan, FAULTS[name](output), targets[0])
        yield {**about, "fault": name, **figures(found)}
    wrong = method.harmonize(scan, None, domain(targets[-1])).intensities()
    found = judged(method, scan, wrong, targets[0])
    yield {**about, "fault": "wrong target", **figures(found)}
    told = method.harmonize(scan, domain(targets[-1]), domain(targets[0]))
    yield {**about, "fault": "wrong source", **figures(told.evidence)}


def wrong_preparations(scan: PreparedScan) -> Iterator[tuple[str, Callable[[], PreparedScan]]]:
    """Yield preparations of a scan that went wrong, not done yet."""
    mask = scan.brain_mask
    front = np.zeros(mask.shape, np.float32)
    front[mask] = scan.positions(mask)[:, 1]
    missing = mask & (front > np.quantile(front[mask], 1 / 3))
    grown = ndimage.distance_transform_edt(~mask, sampling=scan.native.zooms) <= 8
    shrunk = ndimage.distance_transform_edt(mask, sampling=scan.native.zooms) > 8
    turned = np.diag([-1.0, -1, 1, 1]) @ scan.rigid_to_template
    yield "mask lacks a third", partial(prepare_scan, scan.native, brain_mask=missing)
    yield "mask 8 mm too large", partial(prepare_scan, scan.native, brain_mask=grown)
    yield "mask 8 mm too small", partial(prepare_scan, scan.native, brain_mask=shrunk)
    yield "front taken for back", partial(replace, scan, rigid_to_template=turned)


def outcome(
    method: Harmonizer, scanned: Callable[[], PreparedScan], target: str, own: Collection[str]
) -> Case:
    """Return the figures of a scan that may be refused before; `own` are findings of the sound scan too."""
    try:
        scan = scanned()
        found = figures(method.harmonize(scan, None, domain(target)).evidence)
    except MrharmonyError as error:
        return {"figures": None, "codes": [], "refused": str(error)}
    warned = [finding.code for finding in scan.findings if finding.level == "warning"]
    return found | {"codes": sorted({*found["codes"], *warned} - set(own))}


def real_cases(methods: Sequence[Method], scan: BidsScan, number: int) -> Iterator[Case]:
    """Yield the figures of a real scan, sound and with the whole head for its brain."""
    volume = read_scan(scan.path).volume
    prepared = prepare_scan(volume)
    side = SIDES[number % 2]
    about = {"side": side, "real": True, "source": str(scan.domain), "zoom": min(volume.zooms)}
    for target in REAL_TARGETS:
        yield from sound_cases(methods[:1], prepared, str(scan.domain), target, about)
    if not prepared.skull_stripped:
        own = {finding.code for finding in prepared.findings}
        head = partial(prepare_scan, volume, brain_mask=whole_head(volume.voxels))
        ours = {**about, "target": REAL_TARGETS[0], "method": methods[0].name}
        yield {**ours, "fault": "whole head for the brain", **outcome(methods[0], head, REAL_TARGETS[0], own)}


def whole_head(voxels: FloatArray) -> BoolArray:
    """Return the largest bright region, filled."""
    labels, _ = ndimage.label(voxels > threshold_otsu(voxels))
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return np.asarray(ndimage.binary_fill_holes(largest), bool)


def some_scans(bids_dir: Path) -> list[BidsScan]:
    """Return a few scans of every site."""
    index = BidsIndex.open(bids_dir, "site")
    ordered = sorted(index.scans, key=lambda scan: shuffle_key(scan.subject))
    return [scan for site in index.domains for scan in [s for s in ordered if s.domain == site][:REAL_SCANS]]


def judged(method: SynthesisHarmonizer, scan: PreparedScan, output: FloatArray, target: str) -> Evidence:
    """Return the evidence for an output in canonical units."""
    inside = np.where(scan.brain_mask, output, 0)
    known = method.statistics[target]
    return evidence(scan.intensities(), inside, scan.brain_mask, scan.native.zooms, known)


def figures(found: Evidence) -> Case:
    """Return what is kept of evidence; verdicts follow from it when the thresholds are known."""
    codes = [reason for reason in found.reasons if reason == "strange-source"]
    return {"figures": found.model_dump(exclude={"verdict", "reasons"}), "codes": codes, "refused": None}


def domain(name: str) -> Domain:
    """Return a domain of the shipped model."""
    return Domain(name, name)


if __name__ == "__main__":
    main()
