"""What a look without any error would bring, and what only the truth itself brings.

python benchmarks/perfect_look.py BIDS_DIR OUT --domain HH

Virtual people on anatomies that trained nothing and test nothing go to the six scanners of the cohorts and
are prepared; the first fit the contrast models and the regional curves, the last are harmonized in all directions.
*Perfect look*: what the target would have seen of the very head in that session, without noise and receive
field, through the lock: no harmonizer can know more of head and scanner. *Session's shading*: the same after
the lock was fitted from it to the true scan, so that it has what correction left of that session's receive
field. *Truth*: the lock fitted to the true scan. Writes OUT/perfect_look.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import Domain, FloatArray
from mrharmony.domains.contrast import fit_contrast_models
from mrharmony.domains.statistics import fit_statistics
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.synthesis import LOCK, SynthesisHarmonizer
from mrharmony.methods.tone_curves import ClassicalHarmonizer
from mrharmony.prepare.canonical import brain_on_grid
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import draw_scan, render
from mrharmony.space.intensity import intensity_scale
from virtual_people import people, ratio, seen

SEED = 6
SCANNERS = ("mprage-3t", "mprage-3t-soft", "spgr-1.5t", "mprage-1.5t", "spgr-3t", "irspgr-3t")
FITTING, TESTED = 4, 3  # heads
ROWS = ("nothing", "regional", "ours", "perfect look", "session's shading", "truth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies are used")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = people(asked.bids_dir, asked.domain, range(FITTING + TESTED), asked.out / "brains", SEED)
    scanners = load_scanners()
    scans = [
        {name: seen(head, scanners[name], (SEED, number)) for name in SCANNERS}
        for number, head in enumerate(track(heads, "heads"))
    ]
    brains = {name: [brain_on_grid(scan[name]) for scan in scans[:FITTING]] for name in SCANNERS}
    statistics = fit_statistics(brains)
    ours = SynthesisHarmonizer(statistics, fit_contrast_models(brains))
    regional = ClassicalHarmonizer("regional", statistics, "brain")
    rows = []
    for number in track(range(FITTING, FITTING + TESTED), "harmonizing"):
        perfect = {name: perfect_look(heads[number], scanners[name], (SEED, number)) for name in SCANNERS}
        for source, target in permutations(SCANNERS, 2):
            scores = judged(
                ours,
                regional,
                scans[number][source],
                scans[number][target],
                perfect[target],
                (source, target),
            )
            rows.append({"head": number, "source": source, "target": target, "psnr": scores})
    write_json(asked.out / "perfect_look.json", {"seed": SEED, "rows": rows})
    write_bytes(asked.out / "perfect_look.md", markdown([row["psnr"] for row in rows]).encode())


def perfect_look(head: Anatomy, scanner: Scanner, seed: Sequence[int]) -> FloatArray:
    """Return the scan that `seen` returns, canonical units, without its noise and its receive field."""
    draw = draw_scan(scanner, np.random.default_rng([*seed, *scanner.name.encode()]))
    even = replace(draw, bias=np.zeros_like(draw.bias))
    quiet = scanner.model_copy(update={"noise": 0.0})
    contrast = render(head, quiet, even, np.random.default_rng(0))[head.brain_mask]
    return np.asarray(contrast / intensity_scale(contrast), np.float32)


def judged(
    ours: SynthesisHarmonizer,
    regional: ClassicalHarmonizer,
    scan: PreparedScan,
    truth: PreparedScan,
    perfect: FloatArray,
    direction: tuple[str, str],
) -> dict[str, float]:
    """Return the PSNR of every row for one scan."""
    mask, (source, target) = scan.brain_mask, (Domain(name, name) for name in direction)
    places, inside, wanted = scan.positions(mask), scan.intensities(mask), truth.intensities(mask)
    shaded = fit_bilateral_grid(places, perfect, wanted).apply(places, perfect)
    made = {
        "nothing": inside,
        "regional": regional.intensities(scan, source, target)[mask],
        "ours": ours.transform(scan, source, target).apply(places, inside),
        "perfect look": fit_lock(places, inside, perfect, LOCK).apply(places, inside),
        "session's shading": fit_lock(places, inside, shaded, LOCK).apply(places, inside),
        "truth": fit_lock(places, inside, wanted, LOCK).apply(places, inside),
    }
    return {name: ratio(values, wanted) for name, values in made.items()}


def markdown(scores: list[dict[str, float]]) -> str:
    """Return the report."""
    lines = [
        "# What a look without error would bring",
        "",
        "- Command: `python benchmarks/perfect_look.py BIDS_DIR OUT --domain HH`",
        f"- {TESTED} heads, {len(scores)} directions and heads, seed {SEED}; {FITTING} heads fitted",
        "",
        "| look | PSNR, dB |",
        "|---|---:|",
    ]
    lines += [f"| {name} | {np.mean([score[name] for score in scores]):.2f} |" for name in ROWS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
