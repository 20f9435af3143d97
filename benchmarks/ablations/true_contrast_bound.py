"""What a synthesized contrast without any error would bring, and what only the truth itself brings.

python -m benchmarks.ablations.true_contrast_bound BIDS_DIR --domain HH

Virtual people on anatomies that trained nothing and test nothing go to the six scanners of the cohorts and
are prepared; the first fit the contrast models and the regional curves, the last are harmonized in all
directions. *True contrast*: what the target would have seen of the very head in that session, without noise
and receive field, through the lock: no harmonizer can know more of head and scanner. *Session's shading*: the
same after the lock was fitted from it to the true scan, so that it has what correction left of that session's
receive field. *Truth*: the lock fitted to the true scan.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import People, domain, psnr, seen
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import domain_voxels, fit_contrast_models
from mrharmony.domains.statistics import fit_statistics
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.diffusion import LOCK, DiffusionHarmonizer
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.preparation.canonical import brain_on_grid
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import draw_scan, render
from mrharmony.space.intensity import intensity_scale

SEED = 6
SCANNERS = ("mprage-3t", "mprage-3t-soft", "spgr-1.5t", "mprage-1.5t", "spgr-3t", "irspgr-3t")
FITTING, TESTED = 4, 3  # heads
Methods = tuple[DiffusionHarmonizer, ClassicalHarmonizer]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str)
    places = range(FITTING + TESTED)
    heads = list(People.of(asked.bids_dir, asked.domain, places, asked.brains, SEED))
    scanners = load_scanners()
    scans = [
        {name: seen(head, scanners[name], (SEED, number)) for name in SCANNERS}
        for number, head in enumerate(track(heads, "heads"))
    ]
    brains = {name: [brain_on_grid(scan[name]) for scan in scans[:FITTING]] for name in SCANNERS}
    statistics = fit_statistics(brains)
    ours = DiffusionHarmonizer(statistics, fit_contrast_models(domain_voxels(brains)))
    methods = ours, ClassicalHarmonizer("regional", statistics, "brain")
    rows = []
    for number in track(places[FITTING:], "harmonizing"):
        true = {name: true_contrast(heads[number], scanners[name], (SEED, number)) for name in SCANNERS}
        rows += [
            {"head": number, "source": source, "target": target}
            | {"psnr": scores(methods, scans[number], true[target], source, target)}
            for source, target in permutations(SCANNERS, 2)
        ]
    record = {"seed": SEED, "rows": rows}
    save(asked, report(record, asked.command), record)


def true_contrast(head: Anatomy, scanner: Scanner, seed: Sequence[int]) -> FloatArray:
    """Return the scan that `seen` returns, canonical units, without its noise and its receive field."""
    draw = draw_scan(scanner, np.random.default_rng([*seed, *scanner.name.encode()]))
    even = replace(draw, bias=np.zeros_like(draw.bias))
    quiet = scanner.model_copy(update={"noise": 0.0})
    contrast = render(head, quiet, even, np.random.default_rng(0))[head.brain_mask]
    return np.asarray(contrast / intensity_scale(contrast), np.float32)


def scores(
    methods: Methods, scans: dict[str, PreparedScan], true: FloatArray, source: str, target: str
) -> dict[str, float]:
    """Return the PSNR of every row of the table for one direction of a head."""
    (ours, regional), scan, ends = methods, scans[source], (domain(source), domain(target))
    mask = scan.brain_mask
    places, inside, truth = scan.positions(mask), scan.intensities()[mask], scans[target].intensities()[mask]
    shaded = fit_bilateral_grid(places, true, truth).apply(places, true)

    def locked(toward: FloatArray) -> FloatArray:
        return fit_lock(places, inside, toward, LOCK).apply(places, inside)

    made = {
        "nothing": inside,
        "regional": regional.intensities(scan, *ends)[mask],
        "ours": ours.transform(scan, *ends).apply(places, inside),
        "true contrast": locked(true),
        "session's shading": locked(shaded),
        "truth": locked(truth),
    }
    return {name: psnr(values, truth) for name, values in made.items()}


def report(record: dict[str, Any], command: str) -> Report:
    rows = [row["psnr"] for row in record["rows"]]
    shown = Report(
        "What a synthesized contrast without error would bring",
        f"Command: `{command}`",
        f"{TESTED} heads, {len(rows)} directions and heads, seed {SEED}; {FITTING} heads fitted",
    )
    means = [{"name": name, "psnr": np.mean([row[name] for row in rows])} for name in rows[0]]
    shown.table(means, "contrast: {name} | PSNR, dB: {psnr:.2f}")
    return shown


if __name__ == "__main__":
    main()
