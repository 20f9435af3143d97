"""Chooses the lock's resolution and smoothness by cross-validation over heads.

python benchmarks/lock_settings.py BIDS_DIR OUT --domain HH [--heads 8]

Virtual people on real anatomies that trained nothing and test nothing go to known scanners and to a random
one, and are prepared as any scan. The lock is fitted as `synthesis` does, to the shipped model's looks, with
each of the settings below, and the results are compared with the true scans. OUT/heads and OUT/settings hold
what is finished, so that the run can be stopped and called again; then OUT/lock.json and .md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from mrharmony.core.atomic import write_arrays, write_bytes, write_json
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import ContrastModel, ScanContrasts, load_contrast_models, scan_contrasts
from mrharmony.evaluate.bootstrap import bootstrap_interval
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.synthesis import RELATIVE_SHARE
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners
from mrharmony.weights import shipped_model
from virtual_people import people, ratio, seen

SEED = 12
KNOWN = 4  # scanners of a head: each is brought to the next one
NOISE = 0.05  # canonical units, added to a source
BORDER = 4.0  # mm from the mask's border
USUAL = "5x7x5, space 0.01"  # as the lock is
PLAIN = ", plain"  # fitted from the identity on, not from a curve times a gain


def variants() -> dict[str, dict[str, Any]]:
    """Return the settings that are compared, by name."""
    lattices = {"3x4x3": (3, 4, 3), "4x5x4": (4, 5, 4), "5x7x5": (5, 7, 5)}
    rows: dict[str, dict[str, Any]] = {
        f"{name}, space {smooth:g}": {"nodes": nodes, "spatial_smoothness": smooth}
        for name, nodes in lattices.items()
        for smooth in (1e-3, 1e-2, 1e-1)
    }
    return rows | {name + PLAIN: rows[name] for name in (USUAL, "3x4x3, space 0.001", "5x7x5, space 0.001")}


@dataclass(frozen=True)
class Seen:
    """A scan: its looks, and its own brain voxels with their distance to the mask's border."""

    contrasts: ScanContrasts
    places: FloatArray  # template mm, shape (n, 3)
    inside: FloatArray  # canonical units, shape (n,)
    depth: FloatArray  # mm, shape (n,)

    @classmethod
    def of(cls, scan: PreparedScan) -> Seen:
        mask = scan.brain_mask
        depth = distance_transform_edt(mask, scan.native.zooms)[mask].astype(np.float32)
        return cls(scan_contrasts(scan), scan.positions(mask), scan.intensities()[mask], depth)


Head = dict[str, Seen]  # by scanner; `<name>+noise` is the same scan with noise added


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--domain", required=True, help="site whose anatomies are used")
    parser.add_argument("--heads", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    contrast_models = load_contrast_models(shipped_model())
    heads = make_heads(asked.bids_dir, asked.domain, asked.heads, asked.out, contrast_models)
    results = {
        name: result(name, changes, heads, contrast_models, asked.out) for name, changes in variants().items()
    }
    write_json(asked.out / "lock.json", results)
    write_bytes(asked.out / "lock.md", markdown(results, asked.heads).encode())


def make_heads(
    bids_dir: Path, domain: str, count: int, out: Path, contrast_models: Mapping[str, ContrastModel]
) -> list[Head]:
    """Return the heads' scans, from files where they are there."""
    files = [out / "heads" / f"{number:02d}.npz" for number in range(count)]
    if not all(file.is_file() for file in files):
        everyone = people(bids_dir, domain, range(count), out / "brains", SEED)
        for number, file in track(list(enumerate(files)), "heads", count):
            if not file.is_file():
                write_head(file, scans_of(everyone[number], number, contrast_models))
    return [read_head(file) for file in files]


def scans_of(head: Anatomy, number: int, contrast_models: Mapping[str, ContrastModel]) -> Head:
    rng = np.random.default_rng([SEED, number, 1])
    known = [scanner for name, scanner in load_scanners().items() if name in contrast_models]
    chosen = [known[place] for place in rng.permutation(len(known))[:KNOWN]]
    scans = {s.name: seen(head, s, (SEED, number)) for s in [*chosen, random_scanner(rng)]}
    noisy = {f"{name}+noise": with_noise(scan, rng) for name, scan in scans.items()}
    return {name: Seen.of(scan) for name, scan in (scans | noisy).items()}


def with_noise(scan: PreparedScan, rng: np.random.Generator) -> PreparedScan:
    noise = NOISE * scan.scale * rng.standard_normal(scan.native.shape).astype(np.float32)
    return replace(scan, native=scan.native.with_voxels(scan.native.voxels + noise))


def write_head(file: Path, head: Head) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = ((name, (*scan.contrasts, scan.places, scan.inside, scan.depth)) for name, scan in head.items())
    write_arrays(file, {f"{name}/{n}": array for name, arrays in parts for n, array in enumerate(arrays)})


def read_head(file: Path) -> Head:
    with np.load(file) as arrays:
        names = dict.fromkeys(key.split("/")[0] for key in arrays)
        found = {name: [arrays[f"{name}/{n}"] for n in range(6)] for name in names}
    return {name: Seen(ScanContrasts(*parts[:3]), *parts[3:]) for name, parts in found.items()}


def directions(head: Head) -> Iterator[tuple[str, str]]:
    """Yield source and target: each known scanner to the next, the random one to the first two."""
    *known, strange = [name for name in head if "+" not in name]
    yield from zip(known, [*known[1:], known[0]], strict=True)
    yield from ((strange, target) for target in known[:2])


def result(
    name: str,
    changes: Mapping[str, Any],
    heads: list[Head],
    contrast_models: Mapping[str, ContrastModel],
    out: Path,
) -> dict[str, Any]:
    """Return a setting's scores, a list of directions a head, from its file where that is there."""
    file = out / "settings" / f"{name.replace(', ', '-').replace(' ', '-')}.json"
    if not file.is_file():
        fit = Fit(contrast_models, LockSettings(**changes), plain=name.endswith(PLAIN))
        scores = [[score(head, *pair, fit) for pair in directions(head)] for head in heads]
        write_json(file, {"changes": dict(changes), "heads": scores})
        print(name, *(round(float(figure(scores, key).mean()), 3) for key in scores[0][0]), flush=True)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


@dataclass(frozen=True)
class Fit:
    """How a scan gets through the lock."""

    contrast_models: Mapping[str, ContrastModel]
    settings: LockSettings
    plain: bool

    def __call__(self, scan: Seen, source: str, target: str) -> FloatArray:
        """Return a scan through the lock, as `synthesis` fits it; a random scanner is an unknown source."""
        contrasts = scan.contrasts
        wanted = self.contrast_models[target].contrast(contrasts)
        transform = self._fitted(contrasts.positions, contrasts.intensities, wanted)
        if source in self.contrast_models:
            relative = self._fitted(
                contrasts.positions, self.contrast_models[source].contrast(contrasts), wanted
            )
            transform = transform.blend(relative, RELATIVE_SHARE)
        return transform.apply(scan.places, scan.inside)

    def _fitted(self, positions: FloatArray, before: FloatArray, after: FloatArray) -> BilateralGrid:
        if self.plain:
            return fit_bilateral_grid(positions, before, after, settings=self.settings)
        return fit_lock(positions, before, after, self.settings)


def score(head: Head, source: str, target: str, fit: Fit) -> dict[str, float]:
    """Return PSNR in dB: everywhere, near the mask's border, inside, and with noise in the source."""
    begin, truth = time.process_time(), head[target].inside
    made = fit(head[source], source, target)
    seconds = time.process_time() - begin
    near = head[source].depth <= BORDER
    noisy = fit(head[f"{source}+noise"], source, target)
    return {
        "psnr": ratio(made, truth),
        "border": ratio(made[near], truth[near]),
        "inside": ratio(made[~near], truth[~near]),
        "noisy": ratio(noisy, truth),
        "seconds": seconds,
    }


def figure(heads: list[list[dict[str, float]]], key: str) -> np.ndarray:
    """Return each head's mean over its directions."""
    return np.array([np.mean([row[key] for row in rows]) for rows in heads])


def cross_validated(results: Mapping[str, dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Return what each head's fellows choose, and what that brings the head over the usual setting, dB."""
    names = list(results)
    table = np.stack([figure(results[name]["heads"], "psnr") for name in names])
    chosen = [int(np.delete(table, head, axis=1).mean(axis=1).argmax()) for head in range(table.shape[1])]
    gains = table[chosen, range(table.shape[1])] - table[names.index(USUAL)]
    return [names[place] for place in chosen], gains


def markdown(results: Mapping[str, dict[str, Any]], heads: int) -> str:
    """Return the report."""
    chosen, gains = cross_validated(results)
    gain = bootstrap_interval(gains, SEED)
    lines = [
        "# Settings of the lock",
        "",
        f"- Command: `python benchmarks/lock_settings.py BIDS_DIR OUT --domain HH --heads {heads}`",
        f"- {heads} virtual people, {heads * (KNOWN + 2)} directions, seed {SEED}; shipped model",
        f"- Noise added to the source: {NOISE:g} canonical units; border: {BORDER:g} mm from the mask's",
        f"- Chosen by the other heads, a head each: {', '.join(chosen)}",
        f"- Gain on the head left out: {gain.value:+.2f} dB ({gain.low:+.2f} to {gain.high:+.2f})",
        "",
        "| setting | PSNR dB | above 5x7x5, 0.01 | border | inside | noisy source | s a scan |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(_row(name, row["heads"], results[USUAL]["heads"]) for name, row in results.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, heads: list[list[dict[str, float]]], usual: list[list[dict[str, float]]]) -> str:
    above = bootstrap_interval(figure(heads, "psnr") - figure(usual, "psnr"), SEED)
    psnr, border, inside, noisy, seconds = (
        float(figure(heads, key).mean()) for key in ("psnr", "border", "inside", "noisy", "seconds")
    )
    return (
        f"| {name} | {psnr:.2f} | {above.value:+.2f} ({above.low:+.2f} to {above.high:+.2f}) | "
        f"{border:.2f} | {inside:.2f} | {noisy:.2f} | {seconds:.2f} |"
    )


if __name__ == "__main__":
    main()
