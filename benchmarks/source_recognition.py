"""How an unknown source is recognised, and what the relative fit is worth by how well it is.

python benchmarks/source_recognition.py BIDS_DIR OUT --domain HH [--heads 8]

Virtual people on real anatomies that trained nothing go to scanners that the shipped model knows and to
random ones, and are prepared as any scan. Each scan's source is withheld; the known domain whose look of the
head is nearest to the scan is taken for it. OUT/cases holds a file a head, so that the run can be stopped and
called again; then OUT/recognition.json and .md.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import scan_contrasts
from mrharmony.domains.statistics import load_statistics
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.synthesis import SynthesisHarmonizer, load_synthesis
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners
from mrharmony.weights import shipped_model
from virtual_people import people, ratio, seen

SEED = 11
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the relative fit
TARGETS = 2  # known scanners that each scan is brought to
KNOWN, RANDOM = 2, 3  # scanners that each head goes to beside the targets
LIMITS = (0.024, 0.027, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)  # canonical units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies are used")
    parser.add_argument("--heads", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = shipped_model()
    harmonizer = load_synthesis(model, load_statistics(model / STATISTICS))
    files = [asked.out / "cases" / f"{number:02d}.json" for number in range(asked.heads)]
    if not all(file.is_file() for file in files):
        heads = people(asked.bids_dir, asked.domain, range(asked.heads), asked.out / "brains", SEED)
        for number, file in track(list(enumerate(files)), "heads"):
            if not file.is_file():
                write_json(file, {"scans": cases(harmonizer, heads[number], number)})
    scans = [scan for file in files for scan in json.loads(file.read_text("utf-8"))["scans"]]
    table = summary(scans)
    write_json(asked.out / "recognition.json", {"summary": table, "scans": scans})
    write_bytes(asked.out / "recognition.md", markdown(table, len(scans), asked.heads).encode())


def cases(harmonizer: SynthesisHarmonizer, head: Anatomy, number: int) -> list[dict[str, Any]]:
    """Return what came of a head's scans."""
    rng = np.random.default_rng([SEED, number, 1])
    scanners = load_scanners()
    known = [scanners[name] for name in harmonizer.contrast_models if name in scanners]
    order = rng.permutation(len(known))
    targets = [known[place] for place in order[:TARGETS]]
    sources = [known[place] for place in order[TARGETS : TARGETS + KNOWN]]
    sources += [random_scanner(rng) for _ in range(RANDOM)]
    truths = {target.name: seen(head, target, (SEED, number)).intensities() for target in targets}
    return [case(harmonizer, seen(head, source, (SEED, number)), source.name, truths) for source in sources]


def case(
    harmonizer: SynthesisHarmonizer, scan: PreparedScan, source: str, truths: dict[str, FloatArray]
) -> dict[str, Any]:
    """Return the distance of a scan to every domain, and its PSNR toward each target by relative share."""
    contrasts, contrast_models = scan_contrasts(scan), harmonizer.contrast_models
    distances = {name: contrast_model.distance(contrasts) for name, contrast_model in contrast_models.items()}
    taken = [min(distances, key=lambda name: distances[name])]
    taken += [source] if source in contrast_models and source != taken[0] else []
    mask, inside = scan.brain_mask, scan.intensities()[scan.brain_mask]
    places = scan.positions(mask)
    psnr: dict[str, dict[str, list[float]]] = {}
    for target, truth in truths.items():
        wanted = contrast_models[target].contrast(contrasts)
        absolute = fit_lock(contrasts.positions, contrasts.intensities, wanted, harmonizer.lock)
        psnr[target] = {"none": [ratio(inside, truth[mask])]}
        for name in taken:
            expected = contrast_models[name].contrast(contrasts)
            relative = fit_lock(contrasts.positions, expected, wanted, harmonizer.lock)
            psnr[target][name] = [
                ratio(absolute.blend(relative, share).apply(places, inside), truth[mask]) for share in SHARES
            ]
    return {"source": source, "distances": distances, "psnr": psnr}


def summary(scans: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often a known source is found, how far sources are, and the gain of relative shares."""
    known = [scan for scan in scans if scan["source"] in scan["distances"]]
    return {
        "known": {
            "scans": len(known),
            "found": sum(nearest(scan) == scan["source"] for scan in known),
            "distance": spread([scan["distances"][scan["source"]] for scan in known]),
        },
        "random": {
            "scans": len(scans) - len(known),
            "distance": spread([least(scan) for scan in scans if scan not in known]),
        },
        "told": gains(known, lambda scan: scan["source"]),
        "recognised": {
            f"{low:.3f} to {high:.3f}": gains([s for s in scans if low <= least(s) < high], nearest)
            for low, high in itertools.pairwise((0.0, *LIMITS))
        },
    }


def nearest(scan: dict[str, Any]) -> str:
    """Return the domain whose look of the head is nearest to the scan."""
    distances: dict[str, float] = scan["distances"]
    return min(distances, key=lambda name: distances[name])


def least(scan: dict[str, Any]) -> float:
    """Return the distance to the nearest domain."""
    return float(min(scan["distances"].values()))


def spread(values: list[float]) -> list[float]:
    """Return median, 5th and 95th percentile."""
    return [float(np.percentile(values, share)) for share in (50, 5, 95)]


def gains(scans: list[dict[str, Any]], taken: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Return the mean PSNR by relative share above that of the absolute fit alone, over all directions."""
    rows = np.array([found[taken(scan)] for scan in scans for found in scan["psnr"].values()])
    if not len(rows):
        return {"directions": 0}
    above = rows - rows[:, :1]
    return {
        "directions": len(rows),
        "absolute": float(rows[:, 0].mean()),
        "gain": above.mean(axis=0).tolist(),
        "worst": above.min(axis=0).tolist(),
    }


def markdown(table: dict[str, Any], scans: int, heads: int) -> str:
    """Return the report."""
    known, random = table["known"], table["random"]
    lines = [
        "# Recognition of the source",
        "",
        "- Command: `python benchmarks/source_recognition.py BIDS_DIR OUT --domain HH`",
        f"- {scans} scans of {heads} virtual people, seed {SEED}; shipped model",
        f"- Known scanners: {known['found']} of {known['scans']} found",
        f"- Distance to their own look, median (5th to 95th percentile): {_range(known['distance'])}",
        f"- Random scanners, {random['scans']} scans: distance to the nearest {_range(random['distance'])}",
        "",
        "PSNR of the absolute fit, dB, and what is gained by a share of the relative fit from the source's "
        "look; in brackets the worst direction.",
        "",
        "| source | directions | absolute | " + " | ".join(f"{share:g}" for share in SHARES[1:]) + " |",
        "|---|---:|---:|" + "---:|" * (len(SHARES) - 1),
        _row("told", table["told"]),
        *(_row(f"nearest, {name} away", row) for name, row in table["recognised"].items()),
    ]
    return "\n".join(lines) + "\n"


def _range(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"


def _row(name: str, row: dict[str, Any]) -> str:
    if not row["directions"]:
        return f"| {name} | 0 | –" + " | –" * (len(SHARES) - 1) + " |"
    pairs = zip(row["gain"][1:], row["worst"][1:], strict=True)
    cells = [f"{gain:+.2f} ({worst:+.2f})" for gain, worst in pairs]
    return f"| {name} | {row['directions']} | {row['absolute']:.2f} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
