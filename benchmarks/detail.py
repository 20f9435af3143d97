"""What detail transfer does: to the site that a probe finds in real scans, and to the truth of virtual heads.

python benchmarks/detail.py BIDS_DIR COHORT WORK --to NSK --output benchmarks/results/detail

BIDS_DIR holds real scans of several sites (column `site`). Of each site every other scan fits contrast models and
detail; the others are harmonized to the target, with and without detail, and judged. COHORT is a virtual
study whose test subjects travelled (`mrharmony simulate --recipe clean`): PSNR against the truth. Writes
detail.json and detail.md; WORK keeps prepared brains and the figures of each part that is finished.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mrharmony.benchmark.contenders import as_prepared
from mrharmony.benchmark.plan import BenchmarkScan, make_plan
from mrharmony.core.atomic import write_json, write_text
from mrharmony.core.progress import track
from mrharmony.core.volume import Domain, FloatArray
from mrharmony.evaluate.anatomy import compare_anatomy
from mrharmony.evaluate.paired import PairedTruth
from mrharmony.evaluate.site_classifiers import ProbeName, probe_inputs
from mrharmony.evaluate.site_distances import site_distances
from mrharmony.evaluate.site_probe import probe_sites
from mrharmony.evaluate.tissues import TissueSegmentation, segment_tissues
from mrharmony.jobs.brains import load_brain, prepare_brains, prepare_positions
from mrharmony.methods.detail_filter import log_spectrum
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.registry import fit_method
from mrharmony.methods.synthesis import SynthesisHarmonizer
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsIndex
from mrharmony.space.grid import Grid

GRID = Grid.working(2.0)
SITES = ("NSK", "LA", "HH")
VERSIONS = ("raw", "lock", "detail")
FEATURES = {  # of `site_features`: all, and what is contrast, sharpness and noise
    "linear": slice(None),
    "linear, contrast": slice(0, 97),
    "linear, gradients": slice(97, 205),
    "linear, noise": slice(205, None),
}
Row = dict[str, Any]


class Versions(NamedTuple):
    """A tested scan: as it is, through the lock, and with detail."""

    site: str
    raw: CanonicalBrain
    lock: HarmonizedVolume
    detail: HarmonizedVolume

    def brains(self) -> dict[str, CanonicalBrain]:
        """Return the three as brains in canonical units."""
        made = {
            name: self.raw._replace(volume=self.raw.volume.with_voxels(one.intensities()))
            for name, one in (("lock", self.lock), ("detail", self.detail))
        }
        return {"raw": self.raw, **made}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--to", default="NSK")
    parser.add_argument("--heads", type=int, default=3, help="virtual test subjects")
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    parts = {
        "real": partial(real, asked.bids_dir, asked.work / "brains", asked.to),
        "virtual": partial(virtual, asked.cohort, asked.work / "cohort-brains", asked.heads),
    }
    table: Row = {"target": asked.to}
    for name, part in parts.items():
        file = asked.work / f"{name}.json"
        if not file.is_file():
            write_json(file, {name: part()})
        table |= json.loads(file.read_text("utf-8"))
    write_json(asked.output / "detail.json", table)
    write_text(asked.output / "detail.md", markdown(table))


def real(bids_dir: Path, cache: Path, target: str) -> Row:
    """Return the figures on real scans of sites that detail was fitted on, other subjects."""
    brains = real_brains(bids_dir, cache)
    method = fit_method("synthesis", {site: every[0::2] for site, every in brains.items()})
    assert isinstance(method, SynthesisHarmonizer)
    tested = [(site, brain) for site, every in brains.items() for brain in every[1::2]]
    done = [versions(method, site, brain, target) for site, brain in track(tested, "harmonizing")]
    tissues = [segment_tissues(one.raw) for one in track(done, "segmenting")]
    both = zip(track(done, "judging"), tissues, strict=True)
    rows = [scan_row(method, one, target, own) for one, own in both if one.site != target]
    return {
        "fitted": {site: len(every[0::2]) for site, every in brains.items()},
        "tested": {site: len(every[1::2]) for site, every in brains.items()},
        "probes": probes(done),
        "distances": distances(done, tissues),
        "scans": rows,
    }


def real_brains(bids_dir: Path, cache: Path) -> dict[str, list[CanonicalBrain]]:
    """Return the prepared brains of the sites, in the order of their names."""
    index = BidsIndex.open(bids_dir, "site")
    paths = {site: [scan.path for scan in index.scans if scan.domain == site] for site in SITES}
    brains, _ = prepare_brains([path for own in paths.values() for path in own], GRID, cache, 1)
    return {site: [brains[path] for path in own if path in brains] for site, own in paths.items()}


def versions(method: SynthesisHarmonizer, site: str, brain: CanonicalBrain, target: str) -> Versions:
    scan, domains = as_prepared(brain), (Domain(site, site), Domain(target, target))
    return Versions(
        site, brain, method.harmonize(scan, *domains), method.with_detail().harmonize(scan, *domains)
    )


def scan_row(method: SynthesisHarmonizer, one: Versions, target: str, tissues: TissueSegmentation) -> Row:
    """Return what lock and detail did to a scan of another site."""
    wanted, brains = method.details[target], one.brains()
    row: Row = {"site": one.site, "detail": one.detail.provenance["detail"]}
    for name, made in (("lock", one.lock), ("detail", one.detail)):
        anatomy = compare_anatomy(one.raw, brains[name], tissues)
        spectrum = log_spectrum(brains[name])
        row[name + "_figures"] = {
            "spectrum_distance": float(np.sqrt(np.mean((spectrum - wanted.mean) ** 2))),
            "edge_correspondence": anatomy.edge_correspondence,
            "moved_mm": anatomy.displacement_mm,
            "volume_drift_percent": anatomy.volume_drift_percent,
            "verdict": made.evidence.verdict,
            "reasons": list(made.evidence.reasons),
            "edge_correlation": made.evidence.edge_correlation,
            "lost_structure": made.evidence.lost_structure,
            "new_structure": made.evidence.new_structure,
        }
    return row


def probes(done: Sequence[Versions]) -> Row:
    """Return the balanced accuracy of retrained probes on each version, with shuffled labels beside it."""
    found: Row = {}
    for version in VERSIONS:
        brains = [one.brains()[version] for one in done]
        features = probe_inputs("linear", brains)
        for name, part in FEATURES.items():
            found[f"{name} {version}"] = probed(done, brains, "linear", features[:, part])
        found[f"cnn {version}"] = probed(done, brains, "cnn", probe_inputs("cnn", brains))
    return found


def probed(
    done: Sequence[Versions], brains: Sequence[CanonicalBrain], probe: ProbeName, inputs: FloatArray
) -> Row:
    scores = probe_sites(brains, *labels(done), probe, inputs=inputs)
    return {
        "balanced_accuracy": list(scores.scores.balanced_accuracy),
        "mean": scores.scores.mean,
        "shuffled": scores.control.mean,
        "folds": scores.scores.folds,
    }


def labels(done: Sequence[Versions]) -> tuple[list[str], list[str]]:
    """Return site and subject of each scan; every scan is of another subject."""
    return [one.site for one in done], [str(number) for number in range(len(done))]


def distances(done: Sequence[Versions], tissues: Sequence[TissueSegmentation]) -> Row:
    """Return the distances between the sites, for each version."""
    found = [own.labels for own in tissues]
    return {
        version: asdict(site_distances([one.brains()[version] for one in done], *labels(done), found))
        for version in VERSIONS
    }


def virtual(cohort: Path, cache: Path, heads: int) -> list[Row]:
    """Return PSNR against the truth, in every direction, of the first virtual test subjects."""
    plan = make_plan(cohort, "session", None, ())
    fold = plan.folds[0]
    subjects = sorted({scan.subject for scan in fold.testing})[:heads]
    testing = [scan for scan in fold.testing if scan.subject in subjects]
    files, _ = prepare_positions(plan.positions([*fold.training, *testing]), GRID, cache, 1)

    def brain(scan: BenchmarkScan) -> CanonicalBrain:
        return load_brain(files[scan.path], GRID)

    training = {name: [brain(scan) for scan in fold.training_of(name)] for name in fold.known}
    method = fit_method("synthesis", training)
    assert isinstance(method, SynthesisHarmonizer)
    rows: list[Row] = []
    for subject in track(subjects, "virtual heads"):
        own = {scan.domain: brain(scan) for scan in testing if scan.subject == subject}
        rows += [{"subject": subject, **row} for row in directions(method, own)]
    return rows


def directions(method: SynthesisHarmonizer, brains: Mapping[str, CanonicalBrain]) -> Iterable[Row]:
    truths = {name: PairedTruth(brain.volume.voxels, brain.mask) for name, brain in brains.items()}
    for source, target in permutations(brains, 2):
        one = versions(method, source, brains[source], target)
        record: Any = one.detail.provenance["detail"]
        made = {name: truths[target].scores(brain.volume.voxels) for name, brain in one.brains().items()}
        yield {
            "source": source,
            "target": target,
            "transferred": record["transferred"],
            "reason": record["reason"],
            "psnr": {name: scores.psnr for name, scores in made.items()},
            "ssim": {name: scores.ssim for name, scores in made.items()},
        }


def markdown(table: Row) -> str:
    """Return the tables as Markdown."""
    record, scans = table["real"], table["real"]["scans"]
    lines = [
        "# Detail transfer",
        "",
        "- Command: `python benchmarks/detail.py BIDS_DIR COHORT WORK --to NSK --output FOLDER`",
        f"- Real scans: fitted on {counts(record['fitted'])}; tested on {counts(record['tested'])}, other "
        f"subjects; all to {table['target']}, on canonical brains of 2 mm",
        "- Probes: retrained on the tested scans, cross-validated, mean over seeds; chance 0.33",
        "",
        "| probe | raw | lock | with detail | shuffled labels, with detail |",
        "|---|---:|---:|---:|---:|",
    ]
    for probe in (*FEATURES, "cnn"):
        found = [record["probes"][f"{probe} {version}"] for version in VERSIONS]
        cells = [f"{one['mean']:.2f}" for one in found] + [f"{found[-1]['shuffled']:.2f}"]
        lines.append(f"| {probe} | {' | '.join(cells)} |")
    lines += distance_lines(record["distances"])
    lines += [
        "",
        "Spectrum: root mean square distance of the log spectrum from the target's mean. Edges: edge",
        "correspondence with the scan. Volumes: mean size of the drift of CSF, grey and white matter, %.",
        "",
        "| site | scans | filtered | within spread | dropped | spectrum: lock, detail | edges: lock, detail "
        "| volumes: lock, detail | moved mm | pass: lock, detail |",
        "|---|---:|---:|---:|---:|---|---|---|---|---|",
    ]
    lines += [site_line(site, [row for row in scans if row["site"] == site]) for site in SITES]
    lines = [line for line in lines if line is not None]
    return "\n".join([*lines, "", *virtual_lines(table["virtual"])]) + "\n"


def counts(scans: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in scans.items())


def distance_lines(found: Row) -> list[str]:
    """Return the distances between sites as lines of the probes' table."""
    names = {"mmd2": "distance, MMD² of the features", "fid": "distance, FID of slices"}
    return [
        f"| {told} | {' | '.join(f'{found[version][name]:.3f}' for version in VERSIONS)} | |"
        for name, told in names.items()
    ]


def site_line(site: str, rows: Sequence[Row]) -> str | None:
    """Return a site's line of the table; None for the target."""
    if not rows:
        return None
    records = [row["detail"] for row in rows]
    filtered = sum(record["transferred"] for record in records)
    dropped = sum(record["filtered_verdict"] is not None for record in records) - filtered
    figures = [[row[f"{name}_figures"] for row in rows] for name in ("lock", "detail")]

    def pair(name: str, digits: int) -> str:
        return ", ".join(f"{np.mean([figure[name] for figure in own]):.{digits}f}" for own in figures)

    cells = [
        site,
        len(rows),
        filtered,
        len(rows) - filtered - dropped,
        dropped,
        pair("spectrum_distance", 2),
        pair("edge_correspondence", 3),
        ", ".join(f"{np.mean([mean_drift(one) for one in own]):.2f}" for own in figures),
        pair("moved_mm", 3),
        ", ".join(str(sum(one["verdict"] == "pass" for one in own)) for own in figures),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def mean_drift(figures: Row) -> float:
    return float(np.mean([abs(figures["volume_drift_percent"][name]) for name in ("csf", "grey", "white")]))


def virtual_lines(rows: Sequence[Row]) -> list[str]:
    """Return PSNR by target, over heads and sources."""
    lines = [
        f"Virtual heads ({len({row['subject'] for row in rows})}), PSNR against the truth, dB, mean over "
        "sources and heads:",
        "",
        "| target | raw | lock | with detail | filtered | gain of detail: worst, best direction |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for target in [*sorted({row["target"] for row in rows}), None]:
        own = [row for row in rows if target in (None, row["target"])]
        means = [f"{np.mean([row['psnr'][version] for row in own]):.2f}" for version in VERSIONS]
        gains = [row["psnr"]["detail"] - row["psnr"]["lock"] for row in own]
        filtered = f"{sum(row['transferred'] for row in own)} of {len(own)}"
        span = f"{min(gains):+.2f}, {max(gains):+.2f}"
        lines.append(f"| {target or 'all'} | {' | '.join(means)} | {filtered} | {span} |")
    return lines


if __name__ == "__main__":
    main()
