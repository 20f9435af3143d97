"""Do the spreads of sampled contrasts tell how large errors are?

python -m benchmarks.calibration.uncertainty BIDS_DIR --domain HH [--heads 3]

Virtual people on real anatomies that trained nothing, each seen by a known and by random scanners. The
expected contrasts on the reference scanners are compared with the true ones, voxel by voxel, and the spread
of the samples with these errors. Then the same through the lock: the harmonized scan against the true scan
of the target, which also holds that session's noise and shading. Of a calibrated spread, 68 % of the errors
lie within one and 95 % within two.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import GRID, People, domain, seen, shipped_method
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.domains.contrast import sampled_scan_contrasts, scan_contrasts
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.networks.diffusion.network import reference_names
from mrharmony.preparation.canonical import canonical_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import contrast
from mrharmony.space.intensity import intensity_scale

SEED = 29
FIRST = 24  # of the subjects whose anatomies are tested
SCANS = 3  # of a head: one known scanner, the others random
SAMPLES = 8
SMOOTH_VOXELS = 1.0  # standard deviation, so that noise does not hide the error
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=3)
    places = range(FIRST, FIRST + asked.heads)
    heads, method = People.of(asked.bids_dir, asked.domain, places, asked.brains, SEED), shipped_method()
    found = [
        kept(asked.work / f"{number:02d}.json", partial(case, heads, number, method))
        for number in track(range(asked.heads), "heads")
    ]
    rows = [row for one in found for row in one["rows"]]
    save(asked, report(rows, asked.command), {"rows": rows})


def case(heads: People, number: int, method: DiffusionHarmonizer) -> Row:
    """Return what the spreads of a head's scans are worth."""
    rng, known, head = np.random.default_rng([SEED, number]), load_scanners(), heads[number]
    names = [name for name in known if name in reference_names()]
    scanners = [known[names[rng.integers(len(names))]], *(random_scanner(rng) for _ in range(SCANS - 1))]
    rows = []
    for scanner in scanners:
        target = str(rng.choice([name for name in names if name != scanner.name]))
        scan, truth = (seen(head, one, (SEED, number)) for one in (scanner, known[target]))
        expected, samples = scan_contrasts(scan), sampled_scan_contrasts(scan, range(SAMPLES))
        mask = canonical_brain(scan).mask
        true = np.stack([true_contrast(head, known[name], scan) for name in reference_names()])
        drawn = np.stack([sample.references for sample in samples])
        about = {"head": number, "scan": scanner.name, "target": target}
        rows.append({**about, "of": "contrast", **worth(drawn, expected.references, true, mask)})
        origin = domain(scanner.name) if scanner.name in known else None
        ends = origin, domain(target)
        fits = [method.transform(scan, *ends), *method.transforms(scan, *ends, range(SAMPLES))]
        made, *others = (fit.apply(expected.positions, expected.intensities) for fit in fits)
        aligned = replace(truth, rigid_to_template=scan.rigid_to_template)
        there = canonical_brain(aligned).volume.voxels[mask]
        lock = worth(np.stack(others)[:, None], made[None], there[None], mask)
        rows.append({**about, "of": "through the lock", **lock})
    return {"rows": rows}


def true_contrast(head: Anatomy, scanner: Scanner, scan: PreparedScan) -> FloatArray:
    """Return the noise-free contrast of a head where a prepared scan of it has brain, shape (n,)."""
    mask = head.brain_mask
    voxels = np.zeros(mask.shape, np.float32)
    voxels[mask] = contrast(head.tissues[:, mask], head.myelination[mask], scanner)
    even = replace(
        scan,
        native=scan.native.with_voxels(voxels),
        bias_field=np.ones_like(scan.bias_field),
        scale=intensity_scale(voxels[mask]),
    )
    brain = even.canonical(GRID)[0].voxels
    return np.asarray(brain[canonical_brain(scan).mask])


def worth(drawn: FloatArray, expected: FloatArray, true: FloatArray, mask: BoolArray) -> Row:
    """Return how samples (samples, contrasts, n) foretell the error of expected contrasts (contrasts, n)."""
    error = np.stack([smoothed(part, mask) for part in expected - true])
    residuals = [[smoothed(part, mask) for part in sample - drawn.mean(axis=0)] for sample in drawn]
    spread = np.sqrt(np.sum(np.square(residuals), axis=0) / (len(drawn) - 1))
    ranks = [spearmanr(np.abs(e), s).statistic for e, s in zip(error, spread, strict=True)]
    return {
        "error": float(np.sqrt(np.mean(error**2))),
        "spread": float(np.sqrt(np.mean(spread**2))),
        "within 1": float(np.mean(np.abs(error) <= spread)),
        "within 2": float(np.mean(np.abs(error) <= 2 * spread)),
        "rank": float(np.mean(ranks)),
    }


def smoothed(values: FloatArray, mask: BoolArray) -> NDArray[np.float32]:
    """Return values of brain voxels, averaged with their neighbours in the brain, shape (n,)."""
    parts = np.zeros((2, *mask.shape), np.float32)
    parts[:, mask] = np.stack([values, np.ones_like(values)])
    total, weight = (gaussian_filter(part, SMOOTH_VOXELS) for part in parts)
    return np.asarray(total[mask] / weight[mask])


def report(rows: Sequence[Row], command: str) -> Report:
    shown = Report(
        "What the spread of samples is worth",
        f"Command: `{command}`",
        f"{len(rows) // 2} scans, {SAMPLES} samples each, shipped model, seed {SEED}; canonical units, "
        "errors and spreads smoothed by 2 mm",
        "Within: share of voxels whose error is at most so many spreads; 68 and 95 % if calibrated",
        "Rank correlation of error and spread over the voxels of a scan, mean of the scans",
    )
    figures = ("error", "spread", "within 1", "within 2", "rank")
    means = [
        {"of": of} | {key: float(np.mean([row[key] for row in rows if row["of"] == of])) for key in figures}
        for of in dict.fromkeys(row["of"] for row in rows)
    ]
    shown.table(
        means,
        "of: {of} | error: {error:.4f} | spread: {spread:.4f} | within 1: {within 1:.0%} | "
        "within 2: {within 2:.0%} | rank correlation: {rank:.2f}",
    )
    return shown


if __name__ == "__main__":
    main()
