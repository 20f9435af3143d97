"""Virtual heads through two scanners, for tests of the evaluators."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers.brains import canonical_scan, with_voxels
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.recipe import Recipe
from mrharmony.simulate.scanner import load_scanners
from mrharmony.space.grid import Grid

SCANNER_A, SCANNER_B = (load_scanners()[name] for name in ("mprage-1.5t", "mprage-3t"))

TWO_SITES = Recipe(
    name="tiny",
    description="Two sites.",
    scanners=("mprage-3t", "spgr-1.5t"),
    training_subjects=3,
    test_subjects=3,
    zoom=4.0,
)  # one for all tests that need such scans, so that these are prepared once


def travelling(two_sites: Path, folder: Path, count: int) -> Path:
    """Write a data set of the first heads of `TWO_SITES` that both scanners saw, as sub-001 and so on.

    All that its table says of them is how large their ventricles are. Returns the folder.
    """
    with (two_sites / "participants.tsv").open() as table:
        people = [row for row in csv.DictReader(table, delimiter="\t") if row["split"] == "test"]
    rows = ["participant_id\tventricle_scale"]
    for number, person in enumerate(people[:count], 1):
        old, new = person["participant_id"], f"sub-{number:03}"
        for file in two_sites.rglob(f"{old}/**/anat/*"):
            copy = folder / file.relative_to(two_sites).as_posix().replace(old, new)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        rows.append(f"{new}\t{person['ventricle_scale']}")
    (folder / "participants.tsv").write_text("\n".join([*rows, ""]))
    return folder


def through(transform: BilateralGrid, brain: CanonicalBrain) -> CanonicalBrain:
    """The brain through a transform of its canonical intensities."""
    positions, inside = _positions(brain), brain.volume.voxels[brain.mask]
    voxels = np.zeros(brain.mask.shape, dtype=np.float32)
    voxels[brain.mask] = transform.apply(positions, inside)
    return with_voxels(brain, voxels)


def truth_fitted(brain: CanonicalBrain, truth: CanonicalBrain) -> CanonicalBrain:
    """The brain through the lock that was fitted to its true target scan: the ceiling."""
    contrast = truth.volume.voxels[brain.mask]
    return through(fit_bilateral_grid(_positions(brain), brain.volume.voxels[brain.mask], contrast), brain)


def _positions(brain: CanonicalBrain) -> NDArray[np.floating]:
    return Grid(brain.volume.shape, brain.volume.affine).positions()[brain.mask]


@dataclass(frozen=True)
class Head:
    """An unseen person: the site they were scanned at, and the true scan at the target site B."""

    site: str
    log_factor: float
    scan: CanonicalBrain
    truth: CanonicalBrain


@dataclass(frozen=True)
class Study:
    """Site A has small ventricles, site B large ones; one training scan a person, unseen heads with truth."""

    training: dict[str, list[CanonicalBrain]]
    unseen: list[Head]


def confounded_study(training: int, unseen: int, zoom: float) -> Study:
    """Simulate a study with so many heads a site."""
    rng, grid = np.random.default_rng(5), Grid.working(zoom)
    scanners, typical = {"A": SCANNER_A, "B": SCANNER_B}, {"A": 0.7, "B": 1.8}

    def factors(site: str, count: int) -> NDArray[np.float64]:
        return typical[site] * np.exp(np.linspace(-0.4, 0.4, count))

    trained = {
        site: [
            canonical_scan(virtual_head(rng, grid, ventricle_scale=factor), scanners[site], index)
            for index, factor in enumerate(factors(site, training))
        ]
        for site in scanners
    }
    heads: list[Head] = []
    for site, scanner in scanners.items():
        for factor in factors(site, unseen):
            head = virtual_head(rng, grid, ventricle_scale=factor)
            seed = 100 + len(heads)
            scan, truth = canonical_scan(head, scanner, seed), canonical_scan(head, SCANNER_B, seed + 500)
            heads.append(Head(site, float(np.log(factor)), scan, truth))
    return Study(trained, heads)
