"""A real site known by its published protocol alone, beside the same site known by its scans.

python -m benchmarks.ablations.published_protocol BIDS_DIR [--heads 8]

Of IXI's Hammersmith site (HH), field strength, time between excitations, their number, echo time and flip
angle are published (brain-development.org/ixi-dataset), and neither whether nor when an inversion came
before. So each choice that fits is a target. Asked is how far a real scan of HH is from its own contrast
in HH, as each target has it, and how far scans of NSK and LA are from those of HH once brought there. For NSK
(OpenNeuro ds002748) and LA (ds000011) no timing was found.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import GRID, domain, scans_in_turn, shipped_method
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.benchmark.contenders import as_prepared
from mrharmony.core.domain import Domain
from mrharmony.core.progress import track
from mrharmony.domains.contrast import ContrastModel, own_contrast, scan_contrasts
from mrharmony.domains.protocols import protocol_model
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.brains import prepare_brains
from mrharmony.methods.diffusion import DiffusionHarmonizer, fit_diffusion
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.protocol import Protocol, read_protocol

SITE, OTHERS = "HH", ("NSK", "LA")
LEARNED_FROM = slice(0, 10)  # of the site's people in turn; the first of them is "1 scan"
TESTED_ON = 24  # the first of those who are tested
PUBLISHED = "3T TE=4.6 FA=8"
NO_INVERSION = f"spgr {PUBLISHED} TR=9.6"
INVERSIONS = tuple((tr, ti) for tr in (2500, 3000) for ti in (1000, 1100, 1200))  # ms
QUANTILES = np.linspace(0.005, 0.995, 199)
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", heads=8)
    learned = brains_of(asked.bids_dir, SITE, LEARNED_FROM, asked.brains)
    tested = brains_of(asked.bids_dir, SITE, slice(TESTED_ON, TESTED_ON + asked.heads), asked.brains)
    ways = methods(learned)
    own = kept(asked.work / "own.json", partial(distances, tested, ways))
    usual = np.mean([quantiles(brain.volume.voxels[brain.mask]) for brain in tested], axis=0)
    brought = {}
    for site in OTHERS:
        brains = brains_of(asked.bids_dir, site, slice(asked.heads), asked.brains)
        work = partial(transfers, brains, site, ways, learned, usual)
        brought[site] = kept(asked.work / f"{site}.json", work)
    record = {"own": own, "brought": brought}
    save(asked, report(record, asked.command, asked.heads), record)


def brains_of(bids_dir: Path, site: str, places: slice, cache: Path) -> list[CanonicalBrain]:
    """Return the prepared brains of some of a site's people."""
    scans = scans_in_turn(bids_dir, site)[places]
    brains, _ = prepare_brains(scans, GRID, cache)
    return [brains[scan] for scan in scans if scan in brains]


def protocols() -> dict[str, Protocol]:
    """Return what the site's protocol may be, by a name for the table."""
    train = f"tfe {PUBLISHED} ES=9.6 N=208"
    timed = {f"protocol, TR {tr}, TI {ti}": f"{train} TR={tr} TI={ti}" for tr, ti in INVERSIONS}
    every = {"protocol, no inversion": NO_INVERSION, **timed}
    return {name: read_protocol(sentence) for name, sentence in every.items()}


def methods(learned: Sequence[CanonicalBrain]) -> dict[str, tuple[DiffusionHarmonizer, Domain]]:
    """Return the default method and its target by how the site is known."""
    shipped, found = shipped_method(), {}
    for count, name in ((len(learned), f"{len(learned)} scans"), (1, "1 scan")):
        own = {SITE: learned[:count]}
        fitted = fit_diffusion(own, fit_statistics(own))
        models = {**shipped.contrast_models, **fitted.contrast_models}
        statistics = {**shipped.statistics, **fitted.statistics}
        found[name] = replace(shipped, contrast_models=models, statistics=statistics), domain(SITE)
    for name, protocol in protocols().items():
        found[name] = shipped, Domain(name, name, protocol)
    return found


def distances(
    brains: Sequence[CanonicalBrain], ways: Mapping[str, tuple[DiffusionHarmonizer, Domain]]
) -> Row:
    """Return how far each scan is from its contrast in the site, canonical units, by how that is known."""
    known = shipped_method().contrast_models
    models = {way: contrast_model(method, target) for way, (method, target) in ways.items()}
    models |= {f"contrast of {other}": known[other] for other in OTHERS}
    rows: dict[str, list[float]] = {}
    for brain in track(brains, f"scans of {SITE}"):
        scan = as_prepared(brain)
        contrasts = scan_contrasts(scan)
        rows.setdefault("the scan itself", []).append(_rms(contrasts.intensities - scan.once(own_contrast)))
        for way, model in models.items():
            rows.setdefault(way, []).append(model.distance(contrasts))
    return rows


def contrast_model(method: DiffusionHarmonizer, target: Domain) -> ContrastModel:
    """Return how a target follows from the reference contrasts."""
    if isinstance(target.protocol, Protocol):
        return protocol_model(target.protocol)
    return method.contrast_models[target.name]


def transfers(
    brains: Sequence[CanonicalBrain],
    site: str,
    ways: Mapping[str, tuple[DiffusionHarmonizer, Domain]],
    learned: Sequence[CanonicalBrain],
    usual: NDArray[np.float64],
) -> Row:
    """Return how far a site's scans are from the usual one of HH after each way, canonical units."""
    rows: dict[str, list[float]] = {}
    statistics = fit_statistics({SITE: learned})
    for brain in track(brains, f"scans of {site}"):
        scan = as_prepared(brain)
        for way, voxels in outputs(scan, site, ways, ClassicalHarmonizer("histogram", statistics)):
            apart = np.abs(quantiles(voxels[brain.mask]) - usual)
            rows.setdefault(way, []).append(float(np.mean(apart)))
    return rows


def outputs(
    scan: PreparedScan,
    site: str,
    ways: Mapping[str, tuple[DiffusionHarmonizer, Domain]],
    histogram: ClassicalHarmonizer,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield a scan brought to the site in each way, canonical units."""
    yield "nothing", scan.intensities()
    yield "histogram", histogram.intensities(scan, None, domain(SITE))
    for way, (method, target) in ways.items():
        yield way, method.intensities(scan, domain(site), target)


def quantiles(intensities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the quantiles of a brain; their mean distance is the Wasserstein distance but for the tails."""
    return np.asarray(np.quantile(intensities, QUANTILES))


def _rms(difference: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def report(record: Row, command: str, heads: int) -> Report:
    """Return the table: a row a way, means over scans."""
    shown = Report(
        f"{SITE}, known by its published protocol or by its scans",
        f"Command: `{command}`",
        f"Published: {PUBLISHED}, 9.6 ms between excitations, 208 of them; the inversion is not",
        f"Real scans: {heads} of {SITE} are tested, others teach; up to {heads} of each other site",
        "own: root mean square of a scan minus its contrast in HH, canonical units",
        "from NSK, from LA: mean distance of a result's quantiles from those of the tested scans of HH",
    )
    own, brought = record["own"], record["brought"]
    names = dict.fromkeys([*own, *brought[OTHERS[0]]])
    shown.table(
        [
            {"way": way, "own": _mean(own, way), **{site: _mean(brought[site], way) for site in OTHERS}}
            for way in names
        ],
        "target: {way} | own: {own:.4f} | " + " | ".join(f"from {site}: {{{site}:.4f}}" for site in OTHERS),
    )
    return shown


def _mean(rows: Mapping[str, Sequence[float]], way: str) -> float | None:
    return float(np.mean(rows[way])) if way in rows else None


if __name__ == "__main__":
    main()
