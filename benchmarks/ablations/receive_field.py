"""How much of a receive field is left after correction: nothing, N4, and the one of preparation.

python -m benchmarks.ablations.receive_field BIDS_DIR --domain HH [--heads 4] [--scans 3]

*Virtual*: people on the anatomies of a site that trained nothing go to every simulated scanner. The truth is
the field that the scanner put on them; an MP2RAGE's uniform image has none. *Real*: scans of every site as
they are, and with a smooth field planted on them. What is left is the part of the planted field that the two
estimates do not differ by; the variation of white matter after correction stands beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import GRID, People, scans_in_turn
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.receive_field import n4_bias_field, receive_field
from mrharmony.scans.reading import read_scan
from mrharmony.simulate.anatomy import WM
from mrharmony.simulate.bias import BIAS_TERMS, bias_field
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import draw_scan, render
from mrharmony.simulate.segmentation import segment_brain

SEED = 21
SITES = ("NSK", "LA", "HH")
PLANTED = 0.12  # standard deviation of the planted log field's coefficients
SURELY_WHITE = 0.95
MP2RAGE = "mp2rage"
METHODS = ("nothing", "N4", "ours")
Row = dict[str, Any]


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=4, scans=3)
    heads = People.of(asked.bids_dir, asked.domain, range(asked.heads), asked.brains, SEED)
    virtual = list(track(virtual_rows(heads), "virtual scans", len(heads) * len(load_scanners())))
    paths = [(site, path) for site in SITES for path in scans_in_turn(asked.bids_dir, site)[: asked.scans]]
    real = [real_row(site, path) for site, path in track(paths, "real scans")]
    record = {"seed": SEED, "virtual": virtual, "real": real}
    save(asked, report(record, asked.command), record)


def estimates(volume: Volume, mask: BoolArray) -> dict[str, FloatArray]:
    """Return the logarithm of the brain's field by each method, shape (n,)."""
    return {
        "nothing": np.zeros(int(mask.sum()), np.float32),
        "N4": np.log(n4_bias_field(volume, mask)[mask]),
        "ours": np.log(receive_field(volume, mask, np.eye(4))[mask]),
    }


def virtual_rows(heads: People) -> Iterator[Row]:
    """Yield the standard deviation of what is left of the log field, for every head and scanner."""
    for number, head in enumerate(heads):
        for name, scanner in load_scanners().items():
            rng = np.random.default_rng([SEED, number, *name.encode()])
            draw = draw_scan(scanner, rng)
            scan = Volume(render(head, scanner, draw, rng), head.affine)
            there = np.log(bias_field(draw.bias, head.shape, head.affine))[head.brain_mask]
            truth = 0 * there if name.startswith(MP2RAGE) else there
            found = estimates(scan, head.brain_mask)
            left = {method: float(np.std(truth - field)) for method, field in found.items()}
            yield {"head": number, "scanner": name, **left}


def real_row(site: str, path: Path) -> Row:
    """Return what each method leaves of a planted field, and how much white matter varies without one."""
    scan = prepare_scan(read_scan(path).volume)
    brain, mask = uncorrected(scan)
    white = segment_brain(scan.canonical(GRID)[0], mask).tissues[WM] > SURELY_WHITE
    deep = (white & binary_erosion(mask, iterations=2))[mask]
    field = planted(mask, np.random.default_rng(SEED))
    biased = brain.with_voxels(brain.voxels * np.exp(field).astype(np.float32))
    found, again = (estimates(each, mask) for each in (brain, biased))
    left = {name: float(np.std(field[mask] - (again[name] - found[name]))) for name in found}
    corrected = {name: brain.voxels[mask][deep] / np.exp(found[name][deep]) for name in found}
    variation = {name: float(np.std(values) / np.mean(values)) for name, values in corrected.items()}
    return {"site": site, "scan": path.name, "left": left, "white": variation}


def uncorrected(scan: PreparedScan) -> tuple[Volume, BoolArray]:
    """Return the brain as the scanner gave it, aligned with the template, on the 2 mm grid."""
    brain, mask = replace(scan, bias_field=np.ones_like(scan.bias_field), findings=()).canonical(GRID)
    return brain.with_voxels(np.maximum(brain.voxels, 0)), mask


def planted(mask: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Return a random cubic log field, mean 0 in the brain."""
    coefficients = (PLANTED * rng.standard_normal(len(BIAS_TERMS))).astype(np.float32)
    log_field = np.log(bias_field(coefficients, GRID.shape, GRID.affine))
    return np.asarray(log_field - log_field[mask].mean())


def report(record: Row, command: str) -> Report:
    shown = Report(
        "What is left of a receive field",
        f"Command: `{command}`",
        f"Seed {SEED}; standard deviation of the logarithm over the brain, percent",
    )
    virtual = record["virtual"]
    groups = {
        name: [row for row in virtual if name in ("all", row["scanner"])]
        for name in [*dict.fromkeys(row["scanner"] for row in virtual), "all"]
    }
    rows = [{"name": name, **percent(own, METHODS)} for name, own in groups.items()]
    shown.table(rows, f"virtual scans: {{name}} | {cells(METHODS)}", "virtual")
    shown.text("Real scans: what is left of a planted field, and SD / mean of deep white matter without one.")
    flat = [
        {"site": row["site"]}
        | {f"left, {method}": row["left"][method] for method in METHODS}
        | {f"white matter, {method}": row["white"][method] for method in METHODS}
        for row in record["real"]
    ]
    keys = [key for key in flat[0] if key != "site"]
    sites = {site: [row for row in flat if row["site"] == site] for site in SITES}
    rows = [{"site": site, "scans": len(own), **percent(own, keys)} for site, own in sites.items()]
    shown.table(rows, f"site: {{site}} | scans: {{scans}} | {cells(keys)}", "real")
    return shown


def cells(keys: Sequence[str]) -> str:
    return " | ".join(f"{key}: {{{key}:.1f}}" for key in keys)


def percent(rows: list[Row], keys: Sequence[str]) -> dict[str, float]:
    """Return means over rows in percent."""
    return {key: 100 * float(np.mean([row[key] for row in rows])) for key in keys}


if __name__ == "__main__":
    main()
