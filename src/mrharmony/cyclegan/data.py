"""Slices of two domains' scans, of different people: what a CycleGAN learns from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrharmony.cyclegan.networks import OUTSIDE
from mrharmony.latent.data import numpy_generator, shifted, worthwhile_slices
from mrharmony.latent.translation import WHITE
from mrharmony.volume import FloatArray

Brains = NDArray[np.float16]


class UnpairedBatch(NamedTuple):
    """Slices of both domains in the networks' units, each of shape (batch, slices, i, k)."""

    first: Tensor
    second: Tensor


class UnpairedSlices:
    """Slices of the canonical brains of two domains; every scan is drawn equally often.

    Parameters
    ----------
    first, second
        Brains on the working grid, 0 outside the brain, shape (scans, i, j, k).
    slices
        How many neighbours go together.
    """

    def __init__(self, first: Brains, second: Brains, slices: int) -> None:
        self._domains = tuple(_Domain(brains, slices) for brains in (first, second))
        self.shape = (slices, first.shape[1], first.shape[3])

    def batch(self, size: int, generator: torch.Generator) -> UnpairedBatch:
        """Draw `size` slices of each domain, mirrored and moved; the same generator state, the same batch."""
        rng = numpy_generator(generator)
        return UnpairedBatch(*(domain.batch(size, rng) for domain in self._domains))


class _Domain:
    """The scans of one domain and which of their slices are worth learning from."""

    def __init__(self, brains: Brains, slices: int) -> None:
        self._brains, self._reach = brains, slices // 2
        last = brains.shape[2] - 1 - self._reach
        found = (worthwhile_slices(brain > 0) for brain in brains)
        self._places = [places[(places >= self._reach) & (places <= last)] for places in found]

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        drawn = [self._slices(rng) for _ in range(size)]
        return to_units(shifted(torch.from_numpy(np.stack(drawn)), rng))

    def _slices(self, rng: np.random.Generator) -> FloatArray:
        scan = int(rng.integers(len(self._brains)))
        place = int(rng.choice(self._places[scan]))
        near = self._brains[scan][:, place - self._reach : place + self._reach + 1]
        upright = np.moveaxis(near, 1, 0).astype(np.float32)
        return upright[:, ::-1] if rng.random() < 0.5 else upright


def to_units(intensities: Tensor) -> Tensor:
    """Return canonical intensities in the networks' units: -1 is 0, 1 is 1.25 canonical units."""
    return intensities * (2 / WHITE) + OUTSIDE


def from_units(slices: Tensor) -> Tensor:
    """Return slices as canonical intensities, none below 0; undoes `to_units`."""
    return ((slices - OUTSIDE) * (WHITE / 2)).clamp_min(0)
