"""Where training slices come from: canonical brains of real scans, and virtual heads scanned on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.latent.sampling import slice_positions
from mrharmony.latent.structure import apply_structure_look, draw_structure_look

MAX_SHIFT = 3  # voxels by which training slices are moved in their plane, either way
SMALLEST_SLICE = 100  # brain voxels that make a slice worth learning from


@dataclass(frozen=True)
class SliceBatch:
    """A batch of coronal slices to learn from.

    Parameters
    ----------
    images
        What the domain's scanner saw, canonical intensities, shape (batch, 1, i, k).
    structures
        The same anatomy with a random contrast, same shape.
    prompts
        The prompt of each image's domain.
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (batch,).
    """

    images: torch.Tensor
    structures: torch.Tensor
    prompts: tuple[str, ...]
    positions: torch.Tensor

    def to(self, device: torch.device) -> SliceBatch:
        """Return the batch on a device."""
        images, structures = self.images.to(device), self.structures.to(device)
        return SliceBatch(images, structures, self.prompts, self.positions.to(device))


class SliceData(Protocol):
    """A source of training batches: the same generator state gives the same batch."""

    prompts: tuple[str, ...]

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """Draw a batch of `size` slices."""


class RealSlices:
    """Slices of the canonical brains of real scans; every domain is drawn equally often.

    Parameters
    ----------
    brains
        Canonical brains on the working grid, 0 outside the brain, shape (scans, i, j, k), float16.
    domains
        The prompt of each scan's domain, length scans.
    """

    def __init__(self, brains: NDArray[np.float16], domains: Sequence[str]) -> None:
        self.prompts = tuple(dict.fromkeys(domains))
        self._brains = brains
        self._scans = {p: [n for n, domain in enumerate(domains) if domain == p] for p in self.prompts}
        self._slices = [worthwhile_slices(brain > 0) for brain in brains]

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """Draw a batch; the structures are contrast-randomised copies of the images."""
        rng = numpy_generator(generator)
        prompts = tuple(self.prompts[n] for n in rng.integers(len(self.prompts), size=size))
        scans = [int(rng.choice(self._scans[prompt])) for prompt in prompts]
        places = np.array([rng.choice(self._slices[scan]) for scan in scans])
        slices = np.stack([self._brains[s, :, y, :] for s, y in zip(scans, places, strict=True)])
        images = shifted(torch.from_numpy(slices.astype(np.float32))[:, None], rng)
        structures = apply_structure_look(images, draw_structure_look(images.shape, generator))
        return SliceBatch(images, structures, prompts, slice_positions(places, self._brains.shape[2]))


class MixedSlices:
    """Two sources in one batch, the first with the given share."""

    def __init__(self, first: SliceData, second: SliceData, first_share: float) -> None:
        self.prompts = tuple(dict.fromkeys([*first.prompts, *second.prompts]))
        self._first, self._second, self._share = first, second, first_share

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """Draw the batch's share from each source."""
        count = round(size * self._share)
        one, two = self._first.batch(count, generator), self._second.batch(size - count, generator)
        return SliceBatch(
            torch.cat([one.images, two.images]),
            torch.cat([one.structures, two.structures]),
            one.prompts + two.prompts,
            torch.cat([one.positions, two.positions]),
        )


def worthwhile_slices(brain_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the indices of the coronal slices of a mask (i, j, k) that hold enough brain."""
    return np.flatnonzero(brain_mask.sum(axis=(0, 2)) >= SMALLEST_SLICE)


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """Return a NumPy generator seeded by the next number of a torch generator."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))


def shifted(slices: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move all slices of a batch by the same random whole number of voxels."""
    down, right = (int(n) for n in rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=2))
    return torch.roll(slices, (down, right), dims=(2, 3))
