"""What new scanners gain after they are learned from 10 scans and from one, beside known scanners.

python benchmarks/adaptation.py BIDS_DIR OUT --domain HH [--heads 4]

Ten virtual people on real anatomies go to scanners that nothing was trained on, and a contrast model is fitted on
their prepared scans, as `mrharmony adapt` does. Other people, on other anatomies, travel to these and
to known scanners. Each scan is brought to and from a new scanner, and to and from known ones, from the same
sources and to the same targets, and compared with the true scan. OUT/fitted and OUT/cases hold what is
finished, so that the run can be stopped and called again; then OUT/adaptation.json and .md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import Domain, MrharmonyError
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.evaluate.bootstrap import bootstrap_estimate, bootstrap_interval
from mrharmony.methods.rendering import truth_fitted
from mrharmony.methods.synthesis import SynthesisHarmonizer, fit_synthesis, load_synthesis
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.networks.reference.network import reference_names
from mrharmony.prepare.canonical import brain_on_grid
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.weights import shipped_model
from virtual_people import people, ratio, seen

SEED = 13
LEARNED_FROM = range(14, 24)  # subjects whose anatomies the new scanners' own scans have
TESTED_ON = 24  # the first of those whose anatomies are tested
KNOWN = 4  # scanners that a test head goes to beside the new ones
COUNTS = (10, 1)
TRAINED = 0  # scans, of a direction between known scanners
METHODS = ("synthesis", "regional", "histogram")
Row = dict[str, Any]
Kit = dict[str, SynthesisHarmonizer | ClassicalHarmonizer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies are used")
    parser.add_argument("--heads", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cache, scanners = asked.out / "brains", new_scanners()
    learn(asked.bids_dir, asked.domain, scanners, cache, asked.out / "fitted")
    kits = {count: kit(scanners, count, asked.out / "fitted") for count in (TRAINED, *COUNTS)}
    places = range(TESTED_ON, TESTED_ON + asked.heads)
    files = [asked.out / "cases" / f"{number:02d}.json" for number in range(asked.heads)]
    if not all(file.is_file() for file in files):
        heads = people(asked.bids_dir, asked.domain, places, cache, SEED + 1)
        for number, file in track(list(enumerate(files)), "test heads"):
            if not file.is_file():
                scans, refused = scanned(heads[number], number, scanners)
                write_json(file, {"rows": list(cases(scans, number, scanners, kits)), "refused": refused})
    found = [json.loads(file.read_text("utf-8")) for file in files]
    rows = [row for case in found for row in case["rows"]]
    refused = {number: case["refused"] for number, case in enumerate(found) if case["refused"]}
    table = summary(rows)
    write_json(asked.out / "adaptation.json", {"summary": table, "rows": rows, "refused": refused})
    write_bytes(asked.out / "adaptation.md", markdown(table, rows, refused).encode())


def new_scanners() -> list[Scanner]:
    """Return scanners that nothing was trained on: shipped ones that are no references of the network."""
    return [scanner for name, scanner in load_scanners().items() if name not in reference_names()]


def learn(bids_dir: Path, domain: str, scanners: Sequence[Scanner], cache: Path, out: Path) -> None:
    """Fit each new scanner on ten scans, and on one of them, another person's for each scanner."""
    missing = [s for s in scanners if not all((out / f"{s.name}-{count}").is_dir() for count in COUNTS)]
    if not missing:
        return
    heads = people(bids_dir, domain, LEARNED_FROM, cache, SEED)
    for scanner in track(missing, "new scanners"):
        brains = [brain_on_grid(seen(head, scanner, (SEED, number))) for number, head in enumerate(heads)]
        one = scanners.index(scanner) % len(brains)
        for count, chosen in ((10, brains), (1, brains[one : one + 1])):
            own = {scanner.name: chosen}
            fit_synthesis(own, fit_statistics(own)).save(out / f"{scanner.name}-{count}")


def kit(scanners: Sequence[Scanner], count: int, fitted: Path) -> Kit:
    """Return the methods of the shipped model, with the new scanners as learned from so many scans."""
    folders = [fitted / f"{scanner.name}-{count}" for scanner in scanners] if count else []
    parts = [load_synthesis(f, load_statistics(f / STATISTICS)) for f in (shipped_model(), *folders)]
    statistics = {name: own for part in parts for name, own in part.statistics.items()}
    contrast_models = {name: own for part in parts for name, own in part.contrast_models.items()}
    return {
        "synthesis": SynthesisHarmonizer(statistics, contrast_models),
        "regional": ClassicalHarmonizer("regional", statistics),
        "histogram": ClassicalHarmonizer("histogram", statistics),
    }


def known_scanners(number: int) -> list[Scanner]:
    """Return the known scanners that a head goes to; the first two are sources and targets."""
    shipped = [scanner for name, scanner in load_scanners().items() if name in reference_names()]
    order = np.random.default_rng([SEED, number]).permutation(len(shipped))
    return [shipped[place] for place in order[:KNOWN]]


def scanned(head: Anatomy, number: int, new: Sequence[Scanner]) -> tuple[dict[str, PreparedScan], list[str]]:
    """Return a head's prepared scans by scanner, and what was refused, as it would be of a real head."""
    scans: dict[str, PreparedScan] = {}
    refused = []
    for scanner in [*known_scanners(number), *new]:
        try:
            scans[scanner.name] = seen(head, scanner, (SEED + 1, number))
        except MrharmonyError as error:
            refused.append(f"{scanner.name}: {error}")
    return scans, refused


def cases(
    scans: Mapping[str, PreparedScan], number: int, new: Sequence[Scanner], kits: Mapping[int, Kit]
) -> Iterator[Row]:
    """Yield the PSNR of a head in every direction by every method, dB."""
    ends, strange = {s.name for s in known_scanners(number)[:2]}, {s.name for s in new}
    for source, target in permutations(scans, 2):
        toward = source in ends
        if not toward and target not in ends:
            continue
        about = {"head": number, "source": source, "target": target, "toward": toward}
        learned = {source, target} & strange
        yield about | {"new": next(iter(learned), None)} | scores(scans, source, target, kits, bool(learned))


def scores(
    scans: Mapping[str, PreparedScan], source: str, target: str, kits: Mapping[int, Kit], is_new: bool
) -> Row:
    """Return the PSNR of one direction by method and number of scans, dB."""
    scan, truth = scans[source], scans[target].intensities()
    mask = scan.brain_mask
    row = {
        "none": ratio(scan.intensities()[mask], truth[mask]),
        "ceiling": ratio(truth_fitted(scan, truth)[mask], truth[mask]),
    }
    for count in COUNTS if is_new else (TRAINED,):
        for method in METHODS:
            made = kits[count][method].intensities(scan, Domain(source, source), Domain(target, target))
            row[f"{method} {count}"] = ratio(made[mask], truth[mask])
    return row


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return for both ways, each method and number of scans the gain, and its share of the trained gain."""
    return [
        {"toward": toward, "method": method, "scans": count, **figures(rows, toward, method, count)}
        for toward in (True, False)
        for count in (TRAINED, *COUNTS)
        for method in METHODS
    ]


def figures(rows: Sequence[Row], toward: bool, method: str, count: int) -> dict[str, Any]:
    """Return mean PSNR and gain with 95 % intervals over heads, and shares of what known scanners gain."""
    trained = [row for row in rows if row["toward"] == toward and not row["new"]]
    chosen = [row for row in rows if row["toward"] == toward and row["new"]] if count else trained
    made, nothing, best = (by_head(chosen, key) for key in (f"{method} {count}", "none", "ceiling"))
    known, before, most = (by_head(trained, key) for key in (f"synthesis {TRAINED}", "none", "ceiling"))

    def share(heads: np.ndarray) -> float:
        return float((made - nothing)[heads].mean() / (known - before)[heads].mean())

    def share_of_room(heads: np.ndarray) -> float:
        reached, there = (made - nothing)[heads].mean() / (best - nothing)[heads].mean(), known - before
        return float(reached * (most - before)[heads].mean() / there[heads].mean())

    heads = [0] * len(made)
    return {
        "directions": len(chosen),
        "none": float(nothing.mean()),
        "psnr": float(made.mean()),
        "ceiling": float(best.mean()),
        "gain": list(vars(bootstrap_interval(made - nothing, SEED)).values()),
        "share": list(vars(bootstrap_estimate(share, heads, SEED)).values()),
        "share of room": list(vars(bootstrap_estimate(share_of_room, heads, SEED)).values()),
    }


def by_head(rows: Sequence[Row], key: str) -> np.ndarray:
    """Return each head's mean over its directions."""
    heads = sorted({row["head"] for row in rows})
    return np.array([np.mean([row[key] for row in rows if row["head"] == head]) for head in heads])


def markdown(table: Sequence[dict[str, Any]], rows: Sequence[Row], refused: Mapping[int, list[str]]) -> str:
    """Return the report."""
    names = list(dict.fromkeys(row["new"] for row in rows if row["new"]))
    heads = len({row["head"] for row in rows})
    lines = [
        "# New scanners, learned from ten scans and from one",
        "",
        f"- Command: `python benchmarks/adaptation.py BIDS_DIR OUT --domain HH --heads {heads}`",
        f"- {heads} virtual people who travelled, {len(names)} new scanners; shipped model; seed {SEED}",
        f"- Scans that preparation refused: {sum(map(len, refused.values()))}",
        "- Share: of what ours gains between known scanners, same heads, sources and targets",
        "- Share of room: the same where gains are divided by what the truth-fitted lock gains",
        "",
        "| direction | method | scans | nothing | PSNR dB | truth-fitted | gain dB | share | share of room |",
        "|---|---|---:|---:|---:|---:|---|---|---|",
        *(_row(row) for row in table),
        "",
        "Each new scanner, PSNR in dB, as target and as source:",
        "",
        "| scanner | way | nothing | ours 10 | ours 1 | regional 10 | regional 1 | histogram 10 | ceiling |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_scanner_row(rows, name, toward) for name in names for toward in (True, False)),
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> str:
    kind = f"{'to' if row['toward'] else 'from'} {'new' if row['scans'] else 'known'}"
    low, high = row["gain"][1:]
    return (
        f"| {kind} | {row['method']} | {row['scans'] or '–'} | {row['none']:.2f} | {row['psnr']:.2f} | "
        f"{row['ceiling']:.2f} | {row['gain'][0]:+.2f} ({low:+.2f} to {high:+.2f}) | "
        f"{_percent(row['share'])} | {_percent(row['share of room'])} |"
    )


def _percent(values: Sequence[float]) -> str:
    return "{:.0%} ({:.0%} to {:.0%})".format(*values)


def _scanner_row(rows: Sequence[Row], name: str, toward: bool) -> str:
    own = [row for row in rows if row["new"] == name and row["toward"] == toward]
    keys = ("none", "synthesis 10", "synthesis 1", "regional 10", "regional 1", "histogram 10", "ceiling")
    cells = [f"{np.mean([row[key] for row in own]):.2f}" for key in keys]
    return f"| {name} | {'to' if toward else 'from'} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
