"""Training slices: of canonical brains of real scans, and of virtual heads that are scanned for each batch.

Every slice comes with a copy of random contrast, the same anatomy as no particular scanner saw it (Billot et
al. 2023, SynthSeg). The denoiser sees only such copies as structure while it learns, so at inference any
scanner's scan will do. Randomness is drawn apart from its use: a `StructureContrast` replays the same copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mrharmony.core.volume import FloatArray
from mrharmony.networks.compact.sampling import slice_positions
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.scanning import contrast, draw_scan, render
from mrharmony.space.intensity import intensity_scale

TONE_KNOTS = 8
TONE_RANGE = 1.4  # canonical units that the tone curve's knots span
MAX_SHIFT = 3  # voxels by which training slices are moved in their plane, either way
SMALLEST_SLICE = 100  # brain voxels that make a slice worth learning from
SCALE_VOXELS = 4000  # brain voxels from which a virtual scan's intensity scale is taken
BIAS_LEFT = 0.25  # share of the log receive field that bias correction leaves behind
OTHER_SCANNER_SHARE = 0.6  # of the structures, seen by a random scanner instead of the image's own


@dataclass(frozen=True)
class StructureContrast:
    """The random contrast of a batch of structure copies."""

    tone: torch.Tensor  # monotone curve at equidistant knots over 0..TONE_RANGE, shape (batch, knots)
    log_bias: torch.Tensor  # coarse log receive field, shape (batch, 1, 4, 4); resampled to the slice
    blur: torch.Tensor  # weight of the blurred slice in the copy, 0..1, shape (batch, 1, 1, 1)
    noise: torch.Tensor  # additive, in canonical units, shape (batch, 1, height, width)


def draw_structure_contrast(shape: torch.Size, generator: torch.Generator) -> StructureContrast:
    """Draw the random contrast of a batch of slices of the given shape (batch, 1, height, width)."""
    batch = shape[0]
    steps = torch.rand(batch, TONE_KNOTS - 1, generator=generator) ** 2 + 0.05
    curve = torch.cat([torch.zeros(batch, 1), steps.cumsum(1)], dim=1)
    straight = torch.linspace(0, TONE_RANGE, TONE_KNOTS)[None]
    bend = torch.rand(batch, 1, generator=generator)
    gain = torch.exp(0.15 * torch.randn(batch, 1, generator=generator))
    tone = gain * (bend * curve / curve[:, -1:] * TONE_RANGE + (1 - bend) * straight)
    strength = 0.15 * torch.rand(batch, 1, 1, 1, generator=generator)
    noise_level = 0.04 * torch.rand(batch, 1, 1, 1, generator=generator)
    return StructureContrast(
        tone=tone,
        log_bias=strength * torch.randn(batch, 1, 4, 4, generator=generator),
        blur=torch.rand(batch, 1, 1, 1, generator=generator)
        * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.5),
        noise=noise_level * torch.randn(shape, generator=generator),
    )


def apply_structure_contrast(slices: torch.Tensor, contrast: StructureContrast) -> torch.Tensor:
    """Return contrast-randomised copies of slices (batch, 1, height, width); the background stays 0."""
    brain = slices > 0
    toned = _tone_curve(slices, contrast.tone)
    bias = F.interpolate(contrast.log_bias, slices.shape[-2:], mode="bicubic", align_corners=True).exp()
    biased = toned * bias
    blurred = F.avg_pool2d(biased, 3, stride=1, padding=1)
    mixed = contrast.blur * blurred + (1 - contrast.blur) * biased
    return (mixed + contrast.noise).clamp_min(0) * brain


def _tone_curve(slices: torch.Tensor, tone: torch.Tensor) -> torch.Tensor:
    """Apply each slice's piecewise-linear tone curve, continued linearly above its range."""
    place = slices.flatten(1) / TONE_RANGE * (TONE_KNOTS - 1)
    cell = place.floor().clamp(0, TONE_KNOTS - 2)
    low = tone.gather(1, cell.long())
    high = tone.gather(1, cell.long() + 1)
    return (low + (place - cell) * (high - low)).reshape(slices.shape)


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


@dataclass(frozen=True)
class VirtualHead:
    """An anatomy, and what every batch needs of it."""

    anatomy: Anatomy  # the head on the working grid
    slices: np.ndarray  # coronal ones worth learning from
    sample: np.ndarray  # flat indices of brain voxels, for the intensity scale

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
