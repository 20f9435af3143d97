"""Training slices: of canonical brains of real scans, and of virtual heads that are scanned for each batch.

Every slice comes with a copy of random contrast (`StructureContrast`). The denoiser sees only such copies as
structure while it learns, so at inference any scanner's scan will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.networks.slices import (
    VirtualHead,
    apply_structure_contrast,
    draw_structure_contrast,
    numpy_generator,
    shifted,
    slice_positions,
    worthwhile_slices,
)
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner

OTHER_SCANNER_SHARE = 0.6  # of the structures, seen by a random scanner instead of the image's own


@dataclass(frozen=True)
class SliceBatch:
    """A batch of coronal slices to learn from."""

    images: torch.Tensor  # what the domain's scanner saw, canonical intensities, shape (batch, 1, i, k)
    structures: torch.Tensor  # the same anatomy with a random contrast, same shape
    prompts: tuple[str, ...]  # of each image's domain
    positions: torch.Tensor  # where the slices lie along the sliced axis, -1 to 1, shape (batch,)

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
        structures = apply_structure_contrast(images, draw_structure_contrast(images.shape, generator))
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


class VirtualSlices:
    """Slices of virtual heads as known scanners see them, with structures that random scanners may have seen.

    The heads are anatomies on the working grid; a scanner's name is its prompt.
    """

    def __init__(self, heads: Sequence[Anatomy], scanners: Sequence[Scanner]) -> None:
        self.prompts = tuple(scanner.name for scanner in scanners)
        self._heads = [VirtualHead.of(head) for head in heads]
        self._scanners = tuple(scanners)

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """Draw a batch: random heads, slices and scanners."""
        rng = numpy_generator(generator)
        images, structures, prompts, places = [], [], [], []
        for _ in range(size):
            head = self._heads[rng.integers(len(self._heads))]
            scanner = self._scanners[rng.integers(len(self._scanners))]
            place = int(rng.choice(head.slices))
            image = head.scan_slice(place, scanner, rng)
            elsewhere = rng.random() < OTHER_SCANNER_SHARE
            structures.append(head.scan_slice(place, random_scanner(rng), rng) if elsewhere else image)
            images.append(image)
            prompts.append(scanner.name)
            places.append(place)
        pair = torch.from_numpy(np.stack([images, structures], axis=1))
        pair = shifted(pair, rng)
        seen, other = pair[:, :1], pair[:, 1:]
        contrasts = draw_structure_contrast(other.shape, generator)
        count = self._heads[0].anatomy.shape[1]
        return SliceBatch(
            seen,
            apply_structure_contrast(other, contrasts),
            tuple(prompts),
            slice_positions(np.array(places), count),
        )
