"""Training slices of virtual heads: each batch is scanned afresh, by known scanners and by random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrharmony.latent.data import SliceBatch, numpy_generator, shifted, worthwhile_slices
from mrharmony.latent.sampling import slice_positions
from mrharmony.latent.structure import apply_structure_look, draw_structure_look
from mrharmony.prepare import intensity_scale
from mrharmony.simulate import Anatomy, Scanner, contrast, draw_scan, random_scanner, render
from mrharmony.volume import FloatArray

SCALE_VOXELS = 4000  # brain voxels from which a virtual scan's intensity scale is taken
BIAS_LEFT = 0.25  # share of the log receive field that bias correction leaves behind
OTHER_SCANNER_SHARE = 0.6  # of the structures, seen by a random scanner instead of the image's own


@dataclass(frozen=True)
class VirtualHead:
    """An anatomy with what a batch needs of it again and again.

    Parameters
    ----------
    anatomy
        The head on the working grid.
    slices
        Coronal slices worth learning from.
    sample
        Flat indices of brain voxels, for the intensity scale.
    """

    anatomy: Anatomy
    slices: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, anatomy: Anatomy) -> VirtualHead:
        """Wrap an anatomy."""
        mask = anatomy.brain_mask
        voxels = np.flatnonzero(mask)
        return cls(anatomy, worthwhile_slices(mask), voxels[:: max(1, len(voxels) // SCALE_VOXELS)])

    def scan_slice(self, place: int, scanner: Scanner, rng: np.random.Generator) -> FloatArray:
        """Scan one coronal slice and bring it to canonical units, shape (i, k)."""
        margin = int(np.ceil(1.5 * scanner.blur_fwhm_mm[1] / self.anatomy.zooms[1]))
        first = max(place - margin, 0)
        slab = self.anatomy.crop(slice(None), slice(first, place + margin + 1), slice(None))
        return self._scan(slab, scanner, rng)[0][:, place - first, :]

    def scan_whole(self, scanner: Scanner, rng: np.random.Generator) -> tuple[FloatArray, float]:
        """Scan the head; returns canonical intensities (i, j, k) and the native intensity of 1."""
        return self._scan(self.anatomy, scanner, rng)

    def scale(self, scanner: Scanner, flip_scale: float) -> float:
        """Return what a scanner of gain 1 gives for 1 canonical unit, from the sample of the brain."""
        tissues = self.anatomy.tissues.reshape(4, -1)[:, self.sample]
        myelination = self.anatomy.myelination.reshape(-1)[self.sample]
        return intensity_scale(contrast(tissues, myelination, scanner, flip_scale))

    def _scan(self, part: Anatomy, scanner: Scanner, rng: np.random.Generator) -> tuple[FloatArray, float]:
        draw = draw_scan(scanner, rng)
        draw = replace(draw, bias=draw.bias * BIAS_LEFT)
        scale = draw.gain * self.scale(scanner, draw.flip_scale)
        return render(part, scanner, draw, rng) / np.float32(scale), scale


class VirtualSlices:
    """Slices of virtual heads through known scanners, with structures that other scanners may have seen.

    Parameters
    ----------
    heads
        Anatomies on the working grid.
    scanners
        The domains; a scanner's name is its prompt.
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
        looks = draw_structure_look(other.shape, generator)
        count = self._heads[0].anatomy.shape[1]
        return SliceBatch(
            seen, apply_structure_look(other, looks), tuple(prompts), slice_positions(np.array(places), count)
        )
