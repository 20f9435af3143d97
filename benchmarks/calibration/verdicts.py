"""Thresholds of the verdicts: set on known sound harmonizations, checked on others and on planted faults.

python -m benchmarks.calibration.verdicts BIDS_DIR --domain HH [--heads 10]

Sound: virtual people on real anatomies that no result is reported on, seen by known, unknown and random
scanners, and real scans of every site of BIDS_DIR; harmonized by the default method and regional curves.
Planted faults: what a method may commit (planted_faults.py), a wrong mask, alignment, target or source.
Half of the subjects, scanners and targets set the thresholds, the others check them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import (
    SIDES,
    DevelopmentHeads,
    domain,
    scanners_of,
    seen,
    shipped_method,
    targets_of,
)
from benchmarks._shared.records import kept
from benchmarks._shared.reports import save
from benchmarks.calibration.planted_faults import FAULTS, SoundOutput, possible
from benchmarks.calibration.verdict_limits import report, summary
from mrharmony.core.atomic import write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evidence.drift import Evidence, evidence
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex, BidsScan, shuffle_key
from mrharmony.scans.reading import read_scan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner

REAL_TARGETS = ("NSK", "LA", "mprage-3t")
REAL_SCANS = 3  # of a site at most
TARGETS = 2  # of a virtual scan
Case = dict[str, Any]
Methods = tuple[DiffusionHarmonizer, ClassicalHarmonizer]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=10)
    shipped = shipped_method()
    methods = shipped, ClassicalHarmonizer("regional", shipped.statistics)
    heads = DevelopmentHeads.on_training_subjects(asked.bids_dir, asked.domain, asked.brains)
    jobs: dict[str, Callable[[], Iterator[Case]]] = {
        f"real-{scan.path.name.split('_')[0]}": partial(real_cases, shipped, scan, number)
        for number, scan in enumerate(some_scans(asked.bids_dir))
    }
    numbers = heads.in_turn()[: asked.heads]
    jobs |= {f"virtual-{number:02d}": partial(virtual_cases, methods, heads, number) for number in numbers}
    cases = []
    for name, job in track(jobs.items(), "heads"):
        cases += kept(asked.work / "cases" / f"{name}.json", partial(case_record, name, job))["cases"]
    record = summary(cases)
    save(asked, report(record, asked.command), {**record, "cases": cases})
    write_json(asked.stem.with_suffix(".json"), {"limits": record["limits"]})  # a test reads it


def case_record(head: str, job: Callable[[], Iterator[Case]]) -> Case:
    return {"cases": [{"head": head, **case} for case in job()]}


def virtual_cases(methods: Methods, heads: DevelopmentHeads, number: int) -> Iterator[Case]:
    """Yield the figures of a virtual head: two scanners, two targets each, faults with the last of them."""
    rng = np.random.default_rng([heads.seed, number, 1])
    side, head = heads.side(number), heads[number]
    domains = targets_of(side, list(methods[0].contrast_models))
    scanners = [scanners_of(side)[rng.integers(len(scanners_of(side)))], random_scanner(rng)]
    for scanner in scanners[:: 1 - 2 * (number % 2)]:
        scan = seen(head, scanner, (heads.seed, number))
        others = [name for name in domains if name != scanner.name]
        targets = [str(name) for name in rng.permutation(others)[: TARGETS + 1]]
        about = {"side": side, "real": False, "source": scanner.name, "zoom": scan.native.zooms[0]}
        for target in targets[:TARGETS]:
            yield from sound_cases(methods, scan, {**about, "target": target})
    done = methods[0].harmonize(scan, None, domain(targets[0]))
    faulty = about | {"target": targets[0], "method": methods[0].name}
    output = SoundOutput(head, scan, done.intensities(), rng)
    for name, found in faults(methods[0], head, output, targets):
        yield {**faulty, "fault": name, **figures(found)}
    own = {finding.code for finding in (*scan.findings, *done.findings)}
    for name, scanned in wrong_preparations(scan):
        yield {**faulty, "fault": name, **outcome(methods[0], scanned, targets[0], own)}


def sound_cases(
    methods: Sequence[DiffusionHarmonizer | ClassicalHarmonizer], scan: PreparedScan, about: Case
) -> Iterator[Case]:
    """Yield the figures of every sound way from a scan to its target."""
    source, target = about["source"], about["target"]
    for method in methods:
        known = source in method.statistics and source != target
        for reported in [None, domain(source)] if known else [None]:
            done: HarmonizedVolume = method.harmonize(scan, reported, domain(target))
            yield {**about, "method": method.name, "fault": "", **figures(done.evidence)}


def faults(
    method: DiffusionHarmonizer, head: Anatomy, output: SoundOutput, targets: Sequence[str]
) -> Iterator[tuple[str, Evidence]]:
    """Yield the evidence for faulty harmonizations."""
    scan = output.scan
    for name in (name for name in FAULTS if possible(name, head)):
        yield name, evidence_of(method, scan, FAULTS[name](output), targets[0])
    wrong = method.harmonize(scan, None, domain(targets[-1])).intensities()
    yield "wrong target", evidence_of(method, scan, wrong, targets[0])
    yield "wrong source", method.harmonize(scan, domain(targets[-1]), domain(targets[0])).evidence


def wrong_preparations(scan: PreparedScan) -> Iterator[tuple[str, Callable[[], PreparedScan]]]:
    """Yield preparations of a scan that went wrong, not done yet."""
    mask = scan.brain_mask
    front = np.zeros(mask.shape, np.float32)
    front[mask] = scan.positions(mask)[:, 1]
    masks = {
        "mask lacks a third": mask & (front > np.quantile(front[mask], 1 / 3)),
        "mask 8 mm too large": ndimage.distance_transform_edt(~mask, sampling=scan.native.zooms) <= 8,
        "mask 8 mm too small": ndimage.distance_transform_edt(mask, sampling=scan.native.zooms) > 8,
    }
    for name, wrong in masks.items():
        yield name, partial(prepare_scan, scan.native, brain_mask=wrong)
    yield (
        "front taken for back",
        partial(replace, scan, rigid_to_template=np.diag([-1.0, -1, 1, 1]) @ scan.rigid_to_template),
    )


def outcome(
    method: DiffusionHarmonizer, scanned: Callable[[], PreparedScan], target: str, own: Collection[str]
) -> Case:
    """Return the figures of a scan that may be refused before; `own` are findings of the sound scan too."""
    try:
        scan = scanned()
        found = figures(method.harmonize(scan, None, domain(target)).evidence)
    except MrharmonyError as error:
        return {"figures": None, "codes": [], "refused": str(error)}
    warned = [finding.code for finding in scan.findings if finding.level == "warning"]
    return found | {"codes": sorted({*found["codes"], *warned} - set(own))}


def real_cases(method: DiffusionHarmonizer, scan: BidsScan, number: int) -> Iterator[Case]:
    """Yield the figures of a real scan, sound and with the whole head for its brain."""
    volume = read_scan(scan.path).volume
    prepared = prepare_scan(volume)
    about = {"side": SIDES[number % 2], "real": True, "source": str(scan.domain), "zoom": min(volume.zooms)}
    for target in REAL_TARGETS:
        yield from sound_cases([method], prepared, {**about, "target": target})
    if not prepared.skull_stripped:
        own = {finding.code for finding in prepared.findings}
        head = partial(prepare_scan, volume, brain_mask=whole_head(volume.voxels))
        ours = {**about, "target": REAL_TARGETS[0], "method": method.name}
        yield {**ours, "fault": "whole head for the brain", **outcome(method, head, REAL_TARGETS[0], own)}


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


def evidence_of(method: DiffusionHarmonizer, scan: PreparedScan, output: FloatArray, target: str) -> Evidence:
    """Return the evidence for an output in canonical units."""
    inside = np.where(scan.brain_mask, output, 0)
    known = method.statistics[target]
    return evidence(scan.intensities(), inside, scan.brain_mask, scan.native.zooms, known)


def figures(found: Evidence) -> Case:
    """Return what is kept of evidence; verdicts follow from it when the thresholds are known."""
    codes = [reason for reason in found.reasons if reason == "strange-source"]
    return {"figures": found.model_dump(exclude={"verdict", "reasons"}), "codes": codes, "refused": None}


if __name__ == "__main__":
    main()
