"""Chooses the lock's resolution and smoothness by cross-validation over heads.

python -m benchmarks.calibration.lock BIDS_DIR --domain HH [--heads 8]

Virtual people on real anatomies that trained nothing and test nothing go to known scanners and to a random
one, and are prepared as any scan. The lock is fitted as `diffusion` does, to the shipped model's synthesized
contrasts, with each of the settings below, and the results are compared with the true scans.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from benchmarks._shared.command import on_one_thread
from benchmarks._shared.heads import People, psnr, seen
from benchmarks._shared.records import kept
from benchmarks._shared.reports import Report, save
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import (
    CONTRAST_MODELS,
    ContrastModel,
    ScanContrasts,
    load_contrast_models,
    scan_contrasts,
)
from mrharmony.evaluate.bootstrap import bootstrap_interval
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.diffusion import RELATIVE_SHARE
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import load_scanners
from mrharmony.weights import shipped_model

SEED = 12
KNOWN = 4  # scanners of a head: each is brought to the next one
NOISE = 0.05  # canonical units, added to a source
BORDER = 4.0  # mm from the mask's border
USUAL = "5x7x5, space 0.01"  # as the lock is
PLAIN = ", plain"  # fitted from the identity on, not from a curve times a gain
Accents = Mapping[str, ContrastModel]
Record = dict[str, Any]


def variants() -> dict[str, Record]:
    """Return the settings that are compared, by name."""
    lattices = {"3x4x3": (3, 4, 3), "4x5x4": (4, 5, 4), "5x7x5": (5, 7, 5)}
    rows: dict[str, Record] = {
        f"{name}, space {smooth:g}": {"nodes": nodes, "spatial_smoothness": smooth}
        for name, nodes in lattices.items()
        for smooth in (1e-3, 1e-2, 1e-1)
    }
    return rows | {name + PLAIN: rows[name] for name in (USUAL, "3x4x3, space 0.001", "5x7x5, space 0.001")}


@dataclass(frozen=True)
class Seen:
    """A scan: its synthesized contrasts, and its brain voxels with their distance to the mask's border."""

    contrasts: ScanContrasts
    places: FloatArray  # template mm, shape (n, 3)
    inside: FloatArray  # canonical units, shape (n,)
    depth: FloatArray  # mm, shape (n,)

    @classmethod
    def of(cls, scan: PreparedScan) -> "Seen":
        mask = scan.brain_mask
        depth = distance_transform_edt(mask, scan.native.zooms)[mask].astype(np.float32)
        return cls(scan_contrasts(scan), scan.positions(mask), scan.intensities()[mask], depth)


Head = dict[str, Seen]  # by scanner; `<name>+noise` is the same scan with noise added


def main() -> None:
    asked = on_one_thread(__doc__, "bids_dir", domain=str, heads=8)
    contrast_models = load_contrast_models(shipped_model() / CONTRAST_MODELS)
    people = People.of(asked.bids_dir, asked.domain, range(asked.heads), asked.brains, SEED)
    heads = [
        scans_of(head, number, contrast_models)
        for number, head in enumerate(track(people, "heads", len(people)))
    ]
    record = {}
    for name, changes in track(variants().items(), "settings"):
        file = asked.work / "settings" / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        record[name] = kept(file, partial(result, name, changes, heads, contrast_models))
    save(asked, report(record, asked.command), record)


def scans_of(head: Anatomy, number: int, contrast_models: Accents) -> Head:
    rng = np.random.default_rng([SEED, number, 1])
    known = [scanner for name, scanner in load_scanners().items() if name in contrast_models]
    chosen = [known[place] for place in rng.permutation(len(known))[:KNOWN]]
    scans = {s.name: seen(head, s, (SEED, number)) for s in [*chosen, random_scanner(rng)]}
    noisy = {f"{name}+noise": with_noise(scan, rng) for name, scan in scans.items()}
    return {name: Seen.of(scan) for name, scan in (scans | noisy).items()}


def with_noise(scan: PreparedScan, rng: np.random.Generator) -> PreparedScan:
    noise = NOISE * scan.scale * rng.standard_normal(scan.native.shape).astype(np.float32)
    return replace(scan, native=scan.native.with_voxels(scan.native.voxels + noise))


def directions(head: Head) -> Iterator[tuple[str, str]]:
    """Yield source and target: each known scanner to the next, the random one to the first two."""
    *known, strange = [name for name in head if "+" not in name]
    yield from zip(known, [*known[1:], known[0]], strict=True)
    yield from ((strange, target) for target in known[:2])


def result(name: str, changes: Record, heads: list[Head], contrast_models: Accents) -> Record:
    """Return a setting's scores, a list of directions a head."""
    fit = Fit(contrast_models, LockSettings(**changes), plain=name.endswith(PLAIN))
    scores = [[score(head, *pair, fit) for pair in directions(head)] for head in heads]
    return {"changes": changes, "heads": scores}


@dataclass(frozen=True)
class Fit:
    """How a scan gets through the lock."""

    contrast_models: Accents
    settings: LockSettings
    plain: bool

    def __call__(self, scan: Seen, source: str, target: str) -> FloatArray:
        """Return a scan through the lock, as `diffusion` fits it; a random scanner is an unknown source."""
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
        "psnr": psnr(made, truth),
        "border": psnr(made[near], truth[near]),
        "inside": psnr(made[~near], truth[~near]),
        "noisy": psnr(noisy, truth),
        "seconds": seconds,
    }


def figure(row: Record, key: str) -> NDArray[np.float64]:
    """Return each head's mean over its directions."""
    return np.array([np.mean([scores[key] for scores in head]) for head in row["heads"]])


def cross_validated(record: Record) -> tuple[list[str], NDArray[np.float64]]:
    """Return what each head's fellows choose, and what that brings the head over the usual setting, dB."""
    names = list(record)
    table = np.stack([figure(row, "psnr") for row in record.values()])
    chosen = [int(np.delete(table, head, axis=1).mean(axis=1).argmax()) for head in range(table.shape[1])]
    gains = table[chosen, range(table.shape[1])] - table[names.index(USUAL)]
    return [names[place] for place in chosen], gains


def above_usual(gains: NDArray[np.float64]) -> list[float]:
    return list(vars(bootstrap_interval(gains, SEED)).values())


def report(record: Record, command: str) -> Report:
    chosen, gains = cross_validated(record)
    value, low, high = above_usual(gains)
    shown = Report(
        "Settings of the lock",
        f"Command: `{command}`",
        f"{len(gains)} virtual people, {len(gains) * (KNOWN + 2)} directions, seed {SEED}; shipped model",
        f"Noise added to the source: {NOISE:g} canonical units; border: {BORDER:g} mm from the mask's",
        f"Chosen by the other heads, a head each: {', '.join(chosen)}",
        f"Gain on the head left out: {value:+.2f} dB ({low:+.2f} to {high:+.2f})",
    )
    keys = ("psnr", "border", "inside", "noisy", "seconds")
    rows = [
        {"name": name, "above": above_usual(figure(row, "psnr") - figure(record[USUAL], "psnr"))}
        | {key: figure(row, key).mean() for key in keys}
        for name, row in record.items()
    ]
    shown.table(
        rows,
        f"setting: {{name}} | PSNR dB: {{psnr:.2f}} | above {USUAL}: {{above:+.2f}} | "
        "border: {border:.2f} | inside: {inside:.2f} | noisy source: {noisy:.2f} | s a scan: {seconds:.2f}",
    )
    return shown


if __name__ == "__main__":
    main()
