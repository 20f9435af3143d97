"""How much of a receive field is left after correction: nothing, N4, and the one of preparation.

python benchmarks/receive_field.py BIDS_DIR OUT --domain HH [--heads 4] [--scans 3]

*Virtual*: people on the anatomies of a site that trained nothing go to every simulated scanner. The truth is
the field that the scanner put on them; an MP2RAGE's uniform image has none. *Real*: scans of every site as
they are, and with a smooth field planted on them. How much of the planted field the estimates do not tell
apart is what is left; the variation of white matter after correction stands beside it. Writes
OUT/receive_field.json and .md; OUT/brains holds prepared brains.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.prepare.bias_field import n4_bias_field
from mrharmony.prepare.pipeline import prepare_scan
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.receive_field import receive_field
from mrharmony.scans.reading import read_scan
from mrharmony.simulate.anatomy import WM, Anatomy
from mrharmony.simulate.bias import BIAS_TERMS, bias_field
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import draw_scan, render
from mrharmony.simulate.segmentation import segment_brain
from virtual_people import GRID, people, scans_in_turn

SEED = 21
SITES = ("NSK", "LA", "HH")
PLANTED = 0.12  # standard deviation of the planted log field's coefficients
SURELY_WHITE = 0.95
MP2RAGE = "mp2rage"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies the virtual people have")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--scans", type=int, default=3, help="real scans of each site")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = people(asked.bids_dir, asked.domain, range(asked.heads), asked.out / "brains", SEED)
    virtual = list(track(virtual_rows(heads), "virtual scans", len(heads) * len(load_scanners())))
    paths = [(site, path) for site in SITES for path in scans_in_turn(asked.bids_dir, site)[: asked.scans]]
    real = [real_row(site, path) for site, path in track(paths, "real scans")]
    write_json(asked.out / "receive_field.json", {"seed": SEED, "virtual": virtual, "real": real})
    write_bytes(asked.out / "receive_field.md", markdown(virtual, real).encode())


def estimates(volume: Volume, mask: BoolArray, rigid_to_template: Matrix) -> dict[str, FloatArray]:
    """Return the logarithm of the brain's field by each method, shape (n,)."""
    return {
        "nothing": np.zeros(int(mask.sum()), np.float32),
        "N4": np.log(n4_bias_field(volume, mask)[mask]),
        "ours": np.log(receive_field(volume, mask, rigid_to_template)[mask]),
    }


def virtual_rows(heads: list[Anatomy]) -> Iterator[dict[str, object]]:
    """Yield the standard deviation of what is left of the log field, for every head and scanner."""
    for number, head in enumerate(heads):
        for name, scanner in load_scanners().items():
            yield {"head": number, "scanner": name} | left_of(head, scanner, number)


def left_of(head: Anatomy, scanner: Scanner, number: int) -> dict[str, object]:
    """Return what each method leaves on a head's scan."""
    rng = np.random.default_rng([SEED, number, *scanner.name.encode()])
    draw = draw_scan(scanner, rng)
    scan = Volume(render(head, scanner, draw, rng), head.affine)
    there = np.log(bias_field(draw.bias, head.shape, head.affine))[head.brain_mask]
    truth = 0 * there if scanner.name.startswith(MP2RAGE) else there
    told = estimates(scan, head.brain_mask, np.eye(4))
    return {name: float(np.std(truth - field)) for name, field in told.items()}


def real_row(site: str, path: Path) -> dict[str, object]:
    """Return what each method leaves of a planted field, and how much white matter varies without one."""
    scan = prepare_scan(read_scan(path).volume)
    brain, mask = on_working_grid(scan)
    white = segment_brain(scan.canonical(GRID)[0], mask).tissues[WM] > SURELY_WHITE
    deep = (white & binary_erosion(mask, iterations=2))[mask]
    field = planted(mask, np.random.default_rng(SEED))
    biased = brain.with_voxels(brain.voxels * np.exp(field).astype(np.float32))
    told, again = (estimates(each, mask, np.eye(4)) for each in (brain, biased))
    left = {name: float(np.std(field[mask] - (again[name] - told[name]))) for name in told}
    corrected = {name: brain.voxels[mask][deep] / np.exp(told[name][deep]) for name in told}
    variation = {name: float(np.std(values) / np.mean(values)) for name, values in corrected.items()}
    return {"site": site, "scan": path.name, "left": left, "white": variation}


def on_working_grid(scan: PreparedScan) -> tuple[Volume, BoolArray]:
    """Return the brain as the scanner gave it, in its alignment, on the 2 mm grid."""
    flat = PreparedScan(
        scan.native,
        scan.brain_mask,
        np.ones_like(scan.bias_field),
        scan.rigid_to_template,
        scan.scale,
        scan.skull_stripped,
        (),
    )
    brain, mask = flat.canonical(GRID)
    return brain.with_voxels(np.maximum(brain.voxels, 0)), mask


def planted(mask: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return a random cubic log field, mean 0 in the brain."""
    coefficients = (PLANTED * rng.standard_normal(len(BIAS_TERMS))).astype(np.float32)
    log_field = np.log(bias_field(coefficients, GRID.shape, GRID.affine))
    return np.asarray(log_field - log_field[mask].mean())


def markdown(virtual: list[dict[str, object]], real: list[dict[str, object]]) -> str:
    """Return the report."""
    methods = ("nothing", "N4", "ours")
    lines = [
        "# What is left of a receive field",
        "",
        "- Command: `python benchmarks/receive_field.py BIDS_DIR OUT --domain HH`",
        f"- Seed {SEED}; standard deviation of the logarithm over the brain, percent",
        "",
        "| virtual scans | " + " | ".join(methods) + " |",
        "|---|" + "---:|" * len(methods),
    ]
    for name in [*load_scanners(), "all"]:
        rows = [row for row in virtual if name in ("all", row["scanner"])]
        lines.append(f"| {name} | " + " | ".join(percent([row[m] for row in rows]) for m in methods) + " |")
    lines += [
        "",
        "Real scans: what is left of a planted field, and SD / mean of deep white matter without one.",
        "",
        "| site | scans | " + " | ".join(f"left, {m}" for m in methods) + " | "
        + " | ".join(f"white matter, {m}" for m in methods) + " |",
        "|---|---:|" + "---:|" * (2 * len(methods)),
    ]  # fmt: skip
    for site in SITES:
        rows = [row for row in real if row["site"] == site]
        cells = [percent([row[kind][m] for row in rows]) for kind in ("left", "white") for m in methods]  # type: ignore[index]
        lines.append(f"| {site} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def percent(values: list[object]) -> str:
    return f"{100 * float(np.mean(np.array(values, np.float64))):.1f}"


if __name__ == "__main__":
    main()
