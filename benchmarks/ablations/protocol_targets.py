"""Targets that are known by their protocol alone, beside targets known by one scan and by ten.

python -m benchmarks.ablations.protocol_targets BIDS_DIR --domain HH [--heads 3]

Each simulated scanner is a target in turn. Its contrast model follows from its signal equations and from what
the other simulated scanners of the shipped model teach. Beside it stand contrast models fitted on one and ten
prepared scans of it, of other people. The sources are known scanners and random ones, which count as unknown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import People, domain, psnr, seen, shipped_method
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.domains.contrast import ContrastModel
from mrharmony.domains.protocols import known_protocols, protocol_model
from mrharmony.domains.statistics import DomainStatistics, fit_statistics
from mrharmony.methods.diffusion import DiffusionHarmonizer, fit_diffusion, load_diffusion
from mrharmony.methods.rendering import truth_fitted
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.preparation.canonical import brain_on_grid
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner, load_scanners

SEED = 17
LEARNED_FROM = range(14, 24)  # subjects whose anatomies the targets' own scans have
TESTED_ON = 24  # the first of those whose anatomies are tested
COUNTS = (1, 10)
KNOWN, UNKNOWN = 4, 2  # sources of each head
WAYS = ("none", "histogram", "protocol", "1 scan", "10 scans", "truth-fitted lock")
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=3)
    targets = load_scanners()
    learned = learn(asked.bids_dir, asked.domain, targets, asked.brains, asked.work / "fitted")
    places = range(TESTED_ON, TESTED_ON + asked.heads)
    heads = People.of(asked.bids_dir, asked.domain, places, asked.brains, SEED + 1)
    found = [
        kept(asked.work / "cases" / f"{number:02d}.json", partial(case, heads, number, learned))
        for number in track(range(asked.heads), "test heads")
    ]
    rows = [row for one in found for row in one["rows"]]
    record = {"rows": rows, "refused": [one["refused"] for one in found]}
    save(asked, report(record, asked.command, asked.heads), record)


def learn(
    bids_dir: Path, site: str, targets: Mapping[str, Scanner], cache: Path, out: Path
) -> dict[str, DiffusionHarmonizer]:
    """Return the default method fitted on ten scans of each target, and on one, by target and count."""
    missing = [name for name in targets if not all((out / f"{name} {count}").is_dir() for count in COUNTS)]
    heads = list(People.of(bids_dir, site, LEARNED_FROM, cache, SEED)) if missing else []
    for name in track(missing, "targets"):
        brains = [brain_on_grid(seen(head, targets[name], (SEED, n))) for n, head in enumerate(heads)]
        one = list(targets).index(name) % len(brains)
        for count, chosen in zip(COUNTS, (brains[one : one + 1], brains), strict=True):
            own = {name: chosen}
            fit_diffusion(own, fit_statistics(own)).save(out / f"{name} {count}")
    return {
        f"{name} {count}": load_diffusion(out / f"{name} {count}") for name in targets for count in COUNTS
    }


def sources_of(number: int) -> list[Scanner]:
    """Return the scanners that a head comes from: known ones, then random ones."""
    rng, known = np.random.default_rng([SEED, number]), list(load_scanners().values())
    chosen = [known[place] for place in rng.permutation(len(known))[:KNOWN]]
    return chosen + [random_scanner(rng) for _ in range(UNKNOWN)]


def case(heads: People, number: int, learned: Mapping[str, DiffusionHarmonizer]) -> Row:
    """Return a head's PSNR from its sources to all targets, and which scans were refused."""
    scans: dict[str, PreparedScan] = {}
    refused, head = [], heads[number]
    for scanner in {s.name: s for s in (*sources_of(number), *load_scanners().values())}.values():
        try:
            scans[scanner.name] = seen(head, scanner, (SEED + 1, number))
        except MrharmonyError as error:
            refused.append(f"{scanner.name}: {error}")
    return {"rows": list(directions(scans, number, learned)), "refused": refused}


def directions(
    scans: Mapping[str, PreparedScan], number: int, learned: Mapping[str, DiffusionHarmonizer]
) -> Iterator[Row]:
    """Yield the PSNR of a head from each source to each target, dB."""
    shipped = shipped_method()
    for target, scanner in load_scanners().items():
        ways = models(scanner, learned)
        statistics = learned[f"{target} 10"].statistics
        for source in sources_of(number):
            if target in scans and source.name in scans and source.name != target:
                about = {"head": number, "source": source.name, "target": target}
                pair = scans[source.name], scans[target]
                yield about | scores(pair, source.name, target, shipped, ways, statistics)


def models(scanner: Scanner, learned: Mapping[str, DiffusionHarmonizer]) -> dict[str, ContrastModel]:
    """Return a target's contrast models by how it is known; a protocol out of the span gives none."""
    found = {
        f"{n} scan{'s' * (n > 1)}": learned[f"{scanner.name} {n}"].contrast_models[scanner.name]
        for n in COUNTS
    }
    others = {name: model for name, model in known_protocols().items() if name != scanner.name}
    try:
        return {"protocol": protocol_model(scanner, others), **found}
    except MrharmonyError:
        return found


def scores(
    pair: tuple[PreparedScan, PreparedScan],
    source: str,
    target: str,
    shipped: DiffusionHarmonizer,
    ways: Mapping[str, ContrastModel],
    statistics: Mapping[str, DomainStatistics],
) -> Row:
    """Return the PSNR of a direction by how the target is known, dB."""
    scan, truth = pair[0], pair[1].intensities()
    origin = domain(source) if source in shipped.contrast_models else None
    made = {"none": scan.intensities(), "truth-fitted lock": truth_fitted(scan, truth)}
    made["histogram"] = ClassicalHarmonizer("histogram", statistics).intensities(scan, None, domain(target))
    for way, model in ways.items():
        method = replace(shipped, contrast_models={**shipped.contrast_models, target: model})
        made[way] = method.intensities(scan, origin, domain(target))
    return {way: psnr(voxels[scan.brain_mask], truth[scan.brain_mask]) for way, voxels in made.items()}


def report(record: Row, command: str, heads: int) -> Report:
    rows = record["rows"]
    shown = Report(
        "Targets known by their protocol alone",
        f"Command: `{command}`",
        f"{heads} virtual people on anatomies that trained nothing; {KNOWN} known and {UNKNOWN} random "
        f"sources each; shipped model; seed {SEED}",
        f"Scans that preparation refused: {sum(map(len, record['refused']))}",
        "Share: of the gain of ten scans over nothing that the protocol alone has",
    )
    in_span = [row for row in rows if "protocol" in row]
    kinds = {
        "all targets in the span": in_span,
        "from known scanners": [row for row in in_span if not row["source"].startswith("random")],
        "from unknown scanners": [row for row in in_span if row["source"].startswith("random")],
    }
    targets = {
        name: [row for row in rows if row["target"] == name]
        for name in dict.fromkeys(r["target"] for r in rows)
    }
    shown.table([line(name, chosen) for name, chosen in kinds.items()], _CELLS)
    shown.text("Each target, PSNR in dB:")
    shown.table([line(name, chosen) for name, chosen in targets.items()], _CELLS, "targets")
    return shown


_CELLS = (
    "of: {of} | directions: {directions} | "
    + " | ".join(f"{way}: {{{way}:.2f}}" for way in WAYS)
    + " | share: {share:.0%}"
)


def line(name: str, rows: Sequence[Row]) -> Row:
    """Return the means over some directions."""
    means = {
        way: float(np.mean([row[way] for row in rows])) if all(way in row for row in rows) else None
        for way in WAYS
    }
    protocol, nothing, most = means["protocol"], means["none"], means["10 scans"]
    share = (
        None
        if protocol is None or nothing is None or most is None
        else (protocol - nothing) / (most - nothing)
    )
    return {"of": name, "directions": len(rows), **means, "share": share}


if __name__ == "__main__":
    main()
