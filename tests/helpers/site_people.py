"""Many different people quickly: warps of the average head at 4 mm, each scanned once by the same scanner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from helpers.brains import with_voxels
from helpers.template_heads import template_anatomy
from mrharmony.core.volume import FloatArray
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale

GRID = Grid.working(4.0)
PEOPLE = 24
SITES = ["a", "b"] * (PEOPLE // 2)
SUBJECTS = [f"sub{number}" for number in range(PEOPLE)]


@cache
def average_head() -> Anatomy:
    """The template as one person's head."""
    return template_anatomy(GRID)


def person(seed: int) -> Anatomy:
    """The average head with another size, another shape and other folds."""
    rng = np.random.default_rng(seed)
    average = average_head()
    centre = np.array(GRID.shape).reshape(3, 1, 1, 1) / 2
    smooth = gaussian_filter(rng.standard_normal((3, *GRID.shape)), (0, 4, 4, 4))
    stretch = rng.normal(1.06, 0.03, (3, 1, 1, 1))
    places = centre + stretch * (np.indices(GRID.shape) - centre) + 1.2 * smooth / smooth.std()

    def warped(share: FloatArray) -> FloatArray:
        values: FloatArray = map_coordinates(share, places, order=1).astype(np.float32)
        return values

    return replace(
        average,
        tissues=np.stack([warped(tissue) for tissue in average.tissues]),
        myelination=warped(average.myelination),
        ventricles=warped(average.ventricles),
    )


@cache
def scanned(seed: int) -> tuple[CanonicalBrain, NDArray[np.uint8]]:
    """A person's scan in canonical units, and the true tissues: 1 CSF, 2 grey, 3 white matter."""
    anatomy = person(seed)
    scan = scan_head(anatomy, load_scanners()["mprage-3t"], np.random.default_rng(1000 + seed))
    mask = anatomy.brain_mask
    scale = intensity_scale(scan.voxels[mask])
    labels = np.choose(anatomy.labels(), np.array([0, 1, 2, 3, 2], dtype=np.uint8))
    return CanonicalBrain(scan.with_voxels(scan.voxels / scale), mask, scale), labels


def people() -> tuple[list[CanonicalBrain], list[NDArray[np.uint8]]]:
    """All scans and their tissues."""
    brains, labels = zip(*map(scanned, range(PEOPLE)), strict=True)
    return list(brains), list(labels)


def at_second_site(
    brains: list[CanonicalBrain], sites: list[str], change: Callable[[int, FloatArray], NDArray[np.floating]]
) -> list[CanonicalBrain]:
    """Change the scans of site b: `change` gets each one's number and its intensities."""
    return [
        with_voxels(brain, change(number, brain.volume.voxels)) if site == "b" else brain
        for number, (brain, site) in enumerate(zip(brains, sites, strict=True))
    ]
