"""Slices of brains and of virtual heads, as networks learn from them; and copies of random contrast.

A copy of random contrast is the same anatomy as no particular scanner saw it (Billot et al. 2023, SynthSeg).
Randomness is drawn apart from its use: a `StructureContrast` replays the same copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mrharmony.core.volume import FloatArray
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.scanning import contrast, draw_scan, render
from mrharmony.space.intensity import intensity_scale

TONE_KNOTS = 8
TONE_RANGE = 1.4  # canonical units that the tone curve's knots span
MAX_SHIFT = 3  # voxels by which training slices are moved in their plane, either way
SMALLEST_SLICE = 100  # brain voxels that make a slice worth learning from
SCALE_VOXELS = 4000  # brain voxels from which a virtual scan's intensity scale is taken
BIAS_LEFT = 0.25  # share of the log receive field that bias correction leaves behind


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


def slice_positions(indices: NDArray[np.int64], count: int) -> torch.Tensor:
    """Return where slices lie along the sliced axis, -1 to 1 over the field of view, shape (n,)."""
    return torch.as_tensor(2.0 * (np.asarray(indices) + 0.5) / count - 1.0, dtype=torch.float32)


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
