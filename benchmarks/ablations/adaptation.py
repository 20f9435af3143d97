"""What new scanners gain after they are learned from 10 scans and from one, beside known scanners.

python -m benchmarks.ablations.adaptation BIDS_DIR --domain HH [--heads 4]

Ten virtual people on real anatomies go to scanners that nothing was trained on, and a contrast model is
fitted on their prepared scans, as `mrharmony adapt` does. Other people, on other anatomies, travel to these
and to known scanners. Each scan is brought to and from a new scanner, and to and from known ones, from the
same sources and to the same targets, and compared with the true scan.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import People, domain, psnr, seen
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.domains.statistics import fit_statistics
from mrharmony.evaluate.bootstrap import bootstrap_estimate, bootstrap_interval
from mrharmony.methods.diffusion import DiffusionHarmonizer, fit_diffusion, load_diffusion
from mrharmony.methods.rendering import truth_fitted
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.networks.diffusion.network import reference_names
from mrharmony.preparation.canonical import brain_on_grid
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.weights import shipped_model

SEED = 13
LEARNED_FROM = range(14, 24)  # subjects whose anatomies the new scanners' own scans have
TESTED_ON = 24  # the first of those whose anatomies are tested
KNOWN = 4  # scanners that a test head goes to beside the new ones
COUNTS = (10, 1)
TRAINED = 0  # scans, of a direction between known scanners
METHODS = ("diffusion", "regional", "histogram")
Row = dict[str, Any]
Kit = dict[str, DiffusionHarmonizer | ClassicalHarmonizer]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=4)
    scanners = new_scanners()
    learn(asked.bids_dir, asked.domain, scanners, asked.brains, asked.work / "fitted")
    kits = {count: kit(scanners, count, asked.work / "fitted") for count in (TRAINED, *COUNTS)}
    places = range(TESTED_ON, TESTED_ON + asked.heads)
    heads = People.of(asked.bids_dir, asked.domain, places, asked.brains, SEED + 1)
    found = [
        kept(asked.work / "cases" / f"{number:02d}.json", partial(case, heads, number, scanners, kits))
        for number in track(range(asked.heads), "test heads")
    ]
    rows = [row for one in found for row in one["rows"]]
    record = {"summary": summary(rows), "rows": rows, "refused": [one["refused"] for one in found]}
    save(asked, report(record, asked.command), record)


def new_scanners() -> list[Scanner]:
    """Return scanners that nothing was trained on: shipped ones that are no references of the network."""
    return [scanner for name, scanner in load_scanners().items() if name not in reference_names()]


def learn(bids_dir: Path, site: str, scanners: Sequence[Scanner], cache: Path, out: Path) -> None:
    """Fit each new scanner on ten scans, and on one of them, another person's for each scanner."""
    missing = [s for s in scanners if not all((out / f"{s.name}-{count}").is_dir() for count in COUNTS)]
    heads = list(People.of(bids_dir, site, LEARNED_FROM, cache, SEED)) if missing else []
    for scanner in track(missing, "new scanners"):
        brains = [brain_on_grid(seen(head, scanner, (SEED, number))) for number, head in enumerate(heads)]
        one = scanners.index(scanner) % len(brains)
        for count, chosen in ((10, brains), (1, brains[one : one + 1])):
            own = {scanner.name: chosen}
            fit_diffusion(own, fit_statistics(own)).save(out / f"{scanner.name}-{count}")


def kit(scanners: Sequence[Scanner], count: int, fitted: Path) -> Kit:
    """Return the methods of the shipped model, with the new scanners as learned from so many scans."""
    folders = [fitted / f"{scanner.name}-{count}" for scanner in scanners] if count else []
    parts = [load_diffusion(f) for f in (shipped_model(), *folders)]
    statistics = {name: own for part in parts for name, own in part.statistics.items()}
    contrast_models = {name: own for part in parts for name, own in part.contrast_models.items()}
    return {
        "diffusion": DiffusionHarmonizer(statistics, contrast_models),
        "regional": ClassicalHarmonizer("regional", statistics),
        "histogram": ClassicalHarmonizer("histogram", statistics),
    }


def known_scanners(number: int) -> list[Scanner]:
    """Return the known scanners that a head goes to; the first two are sources and targets."""
    shipped = [scanner for name, scanner in load_scanners().items() if name in reference_names()]
    order = np.random.default_rng([SEED, number]).permutation(len(shipped))
    return [shipped[place] for place in order[:KNOWN]]


def case(heads: People, number: int, new: Sequence[Scanner], kits: Mapping[int, Kit]) -> Row:
    """Return a head's PSNR in every direction, and which scans were refused, as they would be of anybody."""
    scans: dict[str, PreparedScan] = {}
    refused, head = [], heads[number]
    for scanner in [*known_scanners(number), *new]:
        try:
            scans[scanner.name] = seen(head, scanner, (SEED + 1, number))
        except MrharmonyError as error:
            refused.append(f"{scanner.name}: {error}")
    return {"rows": list(directions(scans, number, new, kits)), "refused": refused}


def directions(
    scans: Mapping[str, PreparedScan], number: int, new: Sequence[Scanner], kits: Mapping[int, Kit]
) -> Iterator[Row]:
    """Yield the PSNR of a head in every direction by every method, dB."""
    ends, strange = {s.name for s in known_scanners(number)[:2]}, {s.name for s in new}
    for source, target in permutations(scans, 2):
        toward = source in ends
        if not toward and target not in ends:
            continue
        about = {"head": number, "source": source, "target": target, "toward": toward}
        learned = next(iter({source, target} & strange), None)
        yield {**about, "new": learned, **scores(scans, source, target, kits, bool(learned))}


def scores(
    scans: Mapping[str, PreparedScan], source: str, target: str, kits: Mapping[int, Kit], is_new: bool
) -> Row:
    """Return the PSNR of one direction by method and number of scans, dB."""
    scan, truth = scans[source], scans[target].intensities()
    mask = scan.brain_mask
    made = {"none": scan.intensities(), "ceiling": truth_fitted(scan, truth)}
    for count, method in product(COUNTS if is_new else (TRAINED,), METHODS):
        output = kits[count][method].intensities(scan, domain(source), domain(target))
        made[f"{method} {count}"] = output
    return {name: psnr(output[mask], truth[mask]) for name, output in made.items()}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return for both ways, each method and number of scans the gain, and its share of the trained gain."""
    return [
        {"toward": toward, "method": method, "scans": count, **figures(rows, toward, method, count)}
        for toward, count, method in product((True, False), (TRAINED, *COUNTS), METHODS)
    ]


def figures(rows: Sequence[Row], toward: bool, method: str, count: int) -> Row:
    """Return mean PSNR and gain with 95 % intervals over heads, and shares of what known scanners gain."""
    trained = [row for row in rows if row["toward"] == toward and not row["new"]]
    chosen = [row for row in rows if row["toward"] == toward and row["new"]] if count else trained
    made, nothing, best = (by_head(chosen, key) for key in (f"{method} {count}", "none", "ceiling"))
    known, before, most = (by_head(trained, key) for key in (f"diffusion {TRAINED}", "none", "ceiling"))

    def share(heads: NDArray[np.intp]) -> float:
        return float((made - nothing)[heads].mean() / (known - before)[heads].mean())

    def share_of_room(heads: NDArray[np.intp]) -> float:
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


def by_head(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    """Return each head's mean over its directions."""
    heads = sorted({row["head"] for row in rows})
    return np.array([np.mean([row[key] for row in rows if row["head"] == head]) for head in heads])


def report(record: Row, command: str) -> Report:
    rows = record["rows"]
    names = list(dict.fromkeys(row["new"] for row in rows if row["new"]))
    shown = Report(
        "New scanners, learned from ten scans and from one",
        f"Command: `{command}`",
        f"{len(record['refused'])} virtual people who travelled, {len(names)} new scanners; shipped model; "
        f"seed {SEED}",
        f"Scans that preparation refused: {sum(map(len, record['refused']))}",
        "Share: of what ours gains between known scanners, same heads, sources and targets",
        "Share of room: the same where gains are divided by what the truth-fitted lock gains",
    )
    lines = [
        {**row, "way": way(row["toward"]) + (" new" if row["scans"] else " known")}
        | {"scans": row["scans"] or None}
        for row in record["summary"]
    ]
    shown.table(
        lines,
        "direction: {way} | method: {method} | scans: {scans:} | nothing: {none:.2f} | PSNR dB: {psnr:.2f} | "
        "truth-fitted: {ceiling:.2f} | gain dB: {gain:+.2f} | share: {share:.0%} | "
        "share of room: {share of room:.0%}",
    )
    shown.text("Each new scanner, PSNR in dB, as target and as source:")
    keys = ("none", *(f"{method} {count}" for method in METHODS for count in COUNTS), "ceiling")
    means = [
        {"scanner": name, "way": way(toward)}
        | {key: np.mean([r[key] for r in rows if (r["new"], r["toward"]) == (name, toward)]) for key in keys}
        for name, toward in product(names, (True, False))
    ]
    cells = " | ".join(f"{key}: {{{key}:.2f}}" for key in keys)
    shown.table(means, f"scanner: {{scanner}} | way: {{way}} | {cells}", "scanners")
    return shown


def way(toward: bool) -> str:
    return "to" if toward else "from"


if __name__ == "__main__":
    main()
