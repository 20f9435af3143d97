"""Brains of three nested tissues, and virtual people, for the tests of the methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from helpers.brains import with_voxels
from mrharmony.core.domain import Domain
from mrharmony.core.volume import Volume
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.space.grid import Grid

GRID = Grid.working(2.0)
A, B, NEW = Domain("A", "a"), Domain("B", "b"), Domain("NEW", "new")
SCANNERS = {"A": "mprage-3t", "B": "spgr-1.5t"}


def phantom(seed: int = 0, power: float = 1.0, radius: float = 30.0) -> CanonicalBrain:
    """Make a ball of three tissues with noise, through a scanner's tone curve, on the 2 mm template grid."""
    rng = np.random.default_rng(seed)
    distance = np.linalg.norm(GRID.positions() - np.array([0, -17, 5]), axis=-1) / radius
    mask = distance < 1
    tissue = np.select([distance < 0.35, distance < 0.75], [0.25, 0.95], 0.6)
    noisy = np.clip(tissue + 0.03 * rng.standard_normal(GRID.shape), 0.01, 1.2) ** power
    return CanonicalBrain(Volume(np.where(mask, noisy, 0), GRID.affine), mask, 100.0)


def changed(
    brain: CanonicalBrain, function: Callable[[NDArray[np.float32]], NDArray[np.floating]]
) -> CanonicalBrain:
    """Return the brain with a function of its intensities in the mask."""
    return with_voxels(brain, function(brain.volume.voxels))


def prepared(brain: CanonicalBrain) -> PreparedScan:
    """Return a canonical brain as a prepared scan whose native grid is the template's."""
    native = brain.volume.with_voxels(brain.volume.voxels * np.float32(brain.scale))
    bias = np.ones(brain.mask.shape, np.float32)
    return PreparedScan(native, brain.mask, bias, np.eye(4), brain.scale, True, ())


def virtual_people(count: int) -> list[Anatomy]:
    """Return virtual heads on the 2 mm template grid, the same at each call."""
    return [_virtual_person(70 + number) for number in range(count)]


@cache
def _virtual_person(seed: int) -> Anatomy:
    return virtual_head(np.random.default_rng(seed), GRID)
