"""Slices of two domains' scans, of different people: what a CycleGAN learns from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrharmony.cyclegan.located import channels_of, located, to_units
from mrharmony.cyclegan.settings import CycleGanSettings
from mrharmony.latent.data import numpy_generator, shifted, worthwhile_slices
from mrharmony.volume import FloatArray

Brains = NDArray[np.float16]


class UnpairedBatch(NamedTuple):
    """Slices of both domains as the networks see them, each of shape (batch, channels, i, k)."""

    first: Tensor
    second: Tensor


class UnpairedSlices:
    """Slices of the canonical brains of two domains; every scan is drawn equally often.

    Parameters
    ----------
    first, second
        Brains on the working grid, 0 outside the brain, shape (scans, i, j, k).
    settings
        How many neighbours go together, and whether it is said where they lie.
    """

    def __init__(self, first: Brains, second: Brains, settings: CycleGanSettings) -> None:
        self._domains = tuple(_Domain(brains, settings) for brains in (first, second))
        self.shape = (channels_of(settings), first.shape[1], first.shape[3])

    def batch(self, size: int, generator: torch.Generator) -> UnpairedBatch:
        """Draw `size` slices of each domain, mirrored and moved; the same generator state, the same batch."""
        rng = numpy_generator(generator)
        return UnpairedBatch(*(domain.batch(size, rng) for domain in self._domains))


class _Domain:
    """The scans of one domain and which of their slices are worth learning from."""

    def __init__(self, brains: Brains, settings: CycleGanSettings) -> None:
        self._brains, self._reach, self._positions = brains, settings.slices // 2, settings.positions
        last = brains.shape[2] - 1 - self._reach
        found = (worthwhile_slices(brain > 0) for brain in brains)
        self._rows = [rows[(rows >= self._reach) & (rows <= last)] for rows in found]

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        drawn = [self._slices(rng) for _ in range(size)]
        slices = to_units(shifted(torch.from_numpy(np.stack([found for found, _ in drawn])), rng))
        if not self._positions:
            return slices
        return located(slices, [row for _, row in drawn], self._brains.shape[2])

    def _slices(self, rng: np.random.Generator) -> tuple[FloatArray, int]:
        scan = int(rng.integers(len(self._brains)))
        row = int(rng.choice(self._rows[scan]))
        near = self._brains[scan][:, row - self._reach : row + self._reach + 1]
        upright = np.moveaxis(near, 1, 0).astype(np.float32)
        return (upright[:, ::-1] if rng.random() < 0.5 else upright), row
