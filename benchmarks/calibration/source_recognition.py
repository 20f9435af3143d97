"""How an unknown source is recognised, and what the relative fit is worth by how well it is.

python -m benchmarks.calibration.source_recognition BIDS_DIR --domain HH [--heads 8]

Virtual people on real anatomies that trained nothing go to scanners that the shipped model knows and to
random ones, and are prepared as any scan. Each scan's source is withheld; the known domain whose synthesized
contrast of the head is nearest to the scan is taken for it.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import People, psnr, seen, shipped_method, spread
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import scan_contrasts
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners

SEED = 11
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the relative fit
TARGETS = 2  # known scanners that each scan is brought to
KNOWN, RANDOM = 2, 3  # scanners that each head goes to beside the targets
LIMITS = (0.024, 0.027, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1)  # canonical units
Record = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=8)
    harmonizer = shipped_method()
    people = People.of(asked.bids_dir, asked.domain, range(asked.heads), asked.brains, SEED)
    cases = [
        kept(asked.work / "cases" / f"{number:02d}.json", partial(case, harmonizer, people, number))
        for number in track(range(asked.heads), "heads")
    ]
    scans = [scan for one in cases for scan in one["scans"]]
    record = {"summary": summary(scans), "scans": scans, "heads": asked.heads}
    save(asked, report(record, asked.command), record)


def case(harmonizer: DiffusionHarmonizer, people: People, number: int) -> Record:
    """Return what came of a head's scans."""
    rng, head = np.random.default_rng([SEED, number, 1]), people[number]
    scanners = load_scanners()
    known = [scanners[name] for name in harmonizer.contrast_models if name in scanners]
    order = [known[place] for place in rng.permutation(len(known))]
    sources = order[TARGETS : TARGETS + KNOWN] + [random_scanner(rng) for _ in range(RANDOM)]
    truths = {scanner.name: seen(head, scanner, (SEED, number)).intensities() for scanner in order[:TARGETS]}
    scans = (seen(head, source, (SEED, number)) for source in sources)
    return {"scans": [scored(harmonizer, s, o.name, truths) for s, o in zip(scans, sources, strict=True)]}


def scored(
    harmonizer: DiffusionHarmonizer, scan: PreparedScan, source: str, truths: dict[str, FloatArray]
) -> Record:
    """Return the distance of a scan to every domain, and its PSNR toward each target by relative share."""
    contrasts, contrast_models = scan_contrasts(scan), harmonizer.contrast_models
    distances = {name: contrast_model.distance(contrasts) for name, contrast_model in contrast_models.items()}
    taken = [min(distances, key=lambda name: distances[name])]
    taken += [source] if source in contrast_models and source != taken[0] else []
    mask, inside = scan.brain_mask, scan.intensities()[scan.brain_mask]
    places = scan.positions(mask)
    scores: dict[str, dict[str, list[float]]] = {}
    for target, truth in truths.items():
        wanted = contrast_models[target].contrast(contrasts)
        absolute = fit_lock(contrasts.positions, contrasts.intensities, wanted, harmonizer.lock)
        scores[target] = {"none": [psnr(inside, truth[mask])]}
        for name in taken:
            expected = contrast_models[name].contrast(contrasts)
            relative = fit_lock(contrasts.positions, expected, wanted, harmonizer.lock)
            fits = (absolute.blend(relative, share) for share in SHARES)
            scores[target][name] = [psnr(fit.apply(places, inside), truth[mask]) for fit in fits]
    return {"source": source, "distances": distances, "psnr": scores}


def summary(scans: Sequence[Record]) -> Record:
    """Return how often a known source is found, how far sources are, and the gain of relative shares."""
    known = [scan for scan in scans if scan["source"] in scan["distances"]]
    own = [scan["distances"][scan["source"]] for scan in known]
    others = [least(scan) for scan in scans if scan not in known]
    found = sum(nearest(scan) == scan["source"] for scan in known)
    return {
        "known": {"scans": len(known), "found": found, "distance": spread(own, 5, 95)},
        "random": {"scans": len(others), "distance": spread(others, 5, 95)},
        "told": gains(known, lambda scan: str(scan["source"])),
        "recognised": {
            f"{low:.3f} to {high:.3f}": gains([s for s in scans if low <= least(s) < high], nearest)
            for low, high in itertools.pairwise((0.0, *LIMITS))
        },
    }


def nearest(scan: Record) -> str:
    """Return the domain whose contrast of the head is nearest to the scan."""
    distances: dict[str, float] = scan["distances"]
    return min(distances, key=lambda name: distances[name])


def least(scan: Record) -> float:
    """Return the distance to the nearest domain."""
    return float(min(scan["distances"].values()))


def gains(scans: Sequence[Record], taken: Callable[[Record], str]) -> Record:
    """Return the mean PSNR by relative share above that of the absolute fit alone, over all directions."""
    rows = np.array([found[taken(scan)] for scan in scans for found in scan["psnr"].values()])
    if not len(rows):
        return {"directions": 0}
    above = rows - rows[:, :1]
    means = {"absolute": float(rows[:, 0].mean()), "gain": above.mean(axis=0).tolist()}
    return {"directions": len(rows), **means, "worst": above.min(axis=0).tolist()}


def report(record: Record, command: str) -> Report:
    table = record["summary"]
    known, random = table["known"], table["random"]
    distances = ("{:.3f} ({:.3f} to {:.3f})".format(*part["distance"]) for part in (known, random))
    shown = Report(
        "Recognition of the source",
        f"Command: `{command}`",
        f"{len(record['scans'])} scans of {record['heads']} virtual people, seed {SEED}; shipped model",
        f"Known scanners: {known['found']} of {known['scans']} found",
        f"Distance to their own contrast, median (5th to 95th percentile): {next(distances)}",
        f"Random scanners, {random['scans']} scans: distance to the nearest {next(distances)}",
    )
    shown.text(
        "PSNR of the absolute fit, dB, and what is gained by a share of the relative fit from the source's "
        "contrast; in brackets the worst direction."
    )
    rows = {"known": table["told"]}
    rows |= {f"nearest, {name} away": row for name, row in table["recognised"].items()}
    shares = " | ".join(f"{share:g}: {{share {100 * share:g}}}" for share in SHARES[1:])
    flat = ({"source": name, "absolute": None, **row, **by_share(row)} for name, row in rows.items())
    shown.table(
        flat, f"source: {{source}} | directions: {{directions}} | absolute: {{absolute:.2f}} | {shares}"
    )
    return shown


def by_share(row: Record) -> Record:
    """Return the cells of a row by relative share."""
    if not row["directions"]:
        return {f"share {100 * share:g}": None for share in SHARES}
    cells = zip(SHARES, row["gain"], row["worst"], strict=True)
    return {f"share {100 * share:g}": f"{gain:+.2f} ({worst:+.2f})" for share, gain, worst in cells}


if __name__ == "__main__":
    main()
