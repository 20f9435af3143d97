"""Uncertainty map: how far each harmonized intensity moves over several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.preparation.canonical import brain_intensities, on_brain
from mrharmony.preparation.prepared import PreparedScan

SEEDS = 4


@runtime_checkable
class SeededHarmonizer(Protocol):
    """A method whose transform of a scan depends on a seed, or can be made to."""

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> Iterable[BilateralGrid]:
        """Return a transform of the scan's canonical intensities for each seed."""


def spread(
    method: SeededHarmonizer, scan: PreparedScan, source: Domain | None, target: Domain, seed: int = 0
) -> FloatArray:
    """Return the standard deviation of the harmonized intensities over `SEEDS` seeds from `seed` on.

    Canonical units, native grid, shape (i, j, k); 0 outside the brain, and everywhere if source = target.
    Source and target are as in `Harmonizer.harmonize`.
    """
    positions, intensities = scan.positions(scan.brain_mask), brain_intensities(scan)
    transforms = method.transforms(scan, source, target, range(seed, seed + SEEDS))
    results = np.stack([transform.apply(positions, intensities) for transform in transforms])
    return on_brain(scan, results.std(axis=0, ddof=1))
