"""Training the diffusion network on virtual heads: as any scanner sees them, and as the references do.

v-prediction with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024). Half of the slices are at pure
noise, where the squared error teaches the expected latents; the others are at all noise levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.networks.diffusion.latents import LatentSpace
from mrharmony.networks.diffusion.network import (
    CHANNELS,
    NEIGHBOURS,
    DiffusionNetwork,
    slice_coordinates,
)
from mrharmony.networks.settings import Settings
from mrharmony.networks.slices import (
    VirtualHead,
    apply_structure_contrast,
    draw_structure_contrast,
    numpy_generator,
    shifted,
)
from mrharmony.networks.training import Training, clip_gradients, cosine_plan, step_generator
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.scanning import contrast, draw_scan, render
from mrharmony.space.intensity import intensity_scale

NAME = "diffusion-network"
PURE_NOISE_SHARE = 0.5  # of the slices
_PIXELS_A_HEAD = 2000  # from which the latent space is found
BIAS_LEFT = (0.0, 0.5)  # share of the log receive field that bias correction leaves behind
RANDOM_SCANNER_SHARE = 0.6  # of the inputs, seen by a random scanner; the others by a reference
RANDOM_CONTRAST_SHARE = 0.5  # of the inputs, which also get a random tone curve, bias, blur and noise
_GAIN_SD = 0.04  # of the logarithm: how exactly a prepared scan's scale is known


@dataclass(frozen=True)
class SliceBatch:
    """A batch of coronal slices to learn from.

    The truths are the slices on the reference scanners, without noise, receive field and blur.
    """

    slices: Tensor  # as a scanner saw them, between their neighbours, canonical, shape (batch, 3, i, k)
    truths: Tensor  # shape (batch, references, i, k), 0 outside the brain
    coordinates: Tensor  # where each pixel lies in the template, shape (batch, 3, i / 2, k / 2)

    def to(self, device: torch.device) -> SliceBatch:
        """Return the batch on a device."""
        return SliceBatch(*(part.to(device) for part in (self.slices, self.truths, self.coordinates)))


class VirtualSlices:
    """Slices of virtual heads, anatomies on the working grid, scanned for each batch."""

    def __init__(self, heads: Sequence[Anatomy], references: Sequence[Scanner]) -> None:
        self._heads = [_Head.of(head, references) for head in heads]
        self._references = tuple(references)

    def batch(self, size: int, generator: torch.Generator) -> SliceBatch:
        """Draw a batch of `size` slices; the same generator state gives the same batch."""
        rng = numpy_generator(generator)
        slices, truths, places = [], [], []
        for _ in range(size):
            head = self._heads[rng.integers(len(self._heads))]
            place = int(rng.choice(head.places))
            scanner = self._scanner(rng)
            slices.append(head.seen(place, scanner, rng))
            truths.append(head.truths[:, :, place].astype(np.float32))
            places.append(slice_coordinates(head.mask.shape, place))
        seen = _with_contrasts(torch.from_numpy(np.stack(slices)), generator)
        parts = shifted(torch.cat([seen, torch.from_numpy(np.stack(truths))], 1), rng)
        if rng.random() < 0.5:
            parts = parts.flip(2)
        return SliceBatch(parts[:, :NEIGHBOURS], parts[:, NEIGHBOURS:], torch.from_numpy(np.stack(places)))

    def latent_space(self) -> LatentSpace:
        """Return the latent space of the heads' contrasts on the references."""
        parts = []
        for head in self._heads:
            inside = np.flatnonzero(head.mask)
            chosen = inside[:: max(1, len(inside) // _PIXELS_A_HEAD)]
            parts.append(head.truths.reshape(len(self._references), -1)[:, chosen])
        return LatentSpace.of(np.concatenate(parts, axis=1))

    def _scanner(self, rng: np.random.Generator) -> Scanner:
        if rng.random() < RANDOM_SCANNER_SHARE:
            return random_scanner(rng)
        return self._references[rng.integers(len(self._references))]


@dataclass(frozen=True)
class _Head:
    """An anatomy, and what every batch needs of it."""

    head: VirtualHead  # on the working grid
    mask: BoolArray  # its brain, shape (i, j, k)
    places: NDArray[np.int64]  # coronal slices worth learning from, those at the border of the grid left out
    truths: NDArray[np.float16]  # canonical units, shape (references, i, j, k)

    @classmethod
    def of(cls, anatomy: Anatomy, references: Sequence[Scanner]) -> _Head:
        head, mask = VirtualHead.of(anatomy), anatomy.brain_mask
        truths = np.zeros((len(references), *mask.shape), np.float16)
        for truth, scanner in zip(truths, references, strict=True):
            signal = contrast(anatomy.tissues[:, mask], anatomy.myelination[mask], scanner)
            truth[mask] = signal / intensity_scale(signal)
        inner = head.slices[(head.slices > 0) & (head.slices < anatomy.shape[1] - 1)]
        return cls(head, mask, inner, truths)

    def seen(self, place: int, scanner: Scanner, rng: np.random.Generator) -> FloatArray:
        """Return a slice between its neighbours as a scanner sees them, canonical, shape (3, i, k)."""
        draw = draw_scan(scanner, rng)
        draw = replace(draw, bias=draw.bias * rng.uniform(*BIAS_LEFT))
        scale = (
            draw.gain * self.head.scale(scanner, draw.flip_scale) * np.exp(_GAIN_SD * rng.standard_normal())
        )
        margin = 1 + int(np.ceil(1.5 * scanner.blur_fwhm_mm[1] / self.head.anatomy.zooms[1]))
        first = max(place - margin, 0)
        slab = self.head.anatomy.crop(slice(None), slice(first, place + margin + 1), slice(None))
        near = slice(place - first - 1, place - first + 2)
        seen = render(slab, scanner, draw, rng)[:, near] * self.mask[:, place - 1 : place + 2]
        return np.asarray(np.moveaxis(seen, 1, 0) / scale, np.float32)


def _with_contrasts(slices: Tensor, generator: torch.Generator) -> Tensor:
    """Give a share of the inputs a random tone curve, bias, blur and noise, alike for neighbouring slices."""
    count, neighbours, height, width = slices.shape
    contrast = draw_structure_contrast(torch.Size((count, 1, height, width)), generator)
    given = torch.rand(count, 1, 1, 1, generator=generator) < RANDOM_CONTRAST_SHARE
    changed = torch.cat(
        [apply_structure_contrast(slices[:, n : n + 1].clamp_min(0), contrast) for n in range(neighbours)], 1
    )
    return torch.where(given, changed, slices)


class DiffusionSettings(Settings):
    """A training run of the diffusion network."""

    references: tuple[str, ...]  # simulated scanners whose contrasts the latents are decoded to
    channels: tuple[int, ...] = CHANNELS  # features of each level
    copies: int = Field(3, ge=1)  # virtual heads from each segmented anatomy
    labelled_copies: int = Field(6, ge=0)  # virtual heads from each label map
    steps: int = Field(16000, ge=1)
    batch: int = Field(32, ge=1)  # slices a step
    learning_rate: float = Field(2e-3, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    checkpoint_every: int = Field(200, ge=1)  # steps
    seed: int = 0


def train_diffusion_network(
    data: VirtualSlices,
    settings: DiffusionSettings,
    directory: Path,
    device: torch.device,
    workers: int = 0,
    start: DiffusionNetwork | None = None,
) -> DiffusionNetwork:
    """Train, or go on where an earlier run into the same directory, which holds the checkpoint, stopped.

    Parameters
    ----------
    data, settings
        Where the slices come from, and the whole configuration.
    directory, device
        Where the checkpoint is kept, and where to train.
    workers
        Processes that draw batches ahead, which does not change them; with 0 this one draws its own.
    start
        The network to fine-tune; None starts from random weights.

    Returns
    -------
    The network with averaged weights (EMA), on the CPU.

    Raises
    ------
    MrharmonyError
        If the checkpoint is damaged or of another training.
    """
    torch.manual_seed(settings.seed)
    network = start or DiffusionNetwork.empty(data.latent_space(), settings.channels)
    network.requires_grad_(True).train().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    plan = cosine_plan(settings.steps, settings.learning_rate, settings.ema_decay, settings.checkpoint_every)
    training = Training(directory / f"{NAME}.safetensors", network, optimizer, network.parameters(), plan)
    batches = DataLoader(
        _Batches(data, settings),
        batch_size=None,
        sampler=range(training.finished, settings.steps),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # which shares the heads' gigabytes
        collate_fn=lambda batch: batch,
    )
    for step, batch in zip(training.steps("training the network"), batches, strict=True):
        generator = step_generator(settings.seed, NAME + "-noise", step)
        diffusion_loss(network, batch, generator, device).backward()  # type: ignore[no-untyped-call]
        clip_gradients(network)
        training.update()
    network.requires_grad_(False).eval().cpu()
    return network


def diffusion_loss(
    network: DiffusionNetwork, batch: SliceBatch, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Return the mean squared error of the decoded velocity in the brain, canonical units squared."""
    signal, noise = draw_noise(batch.truths.shape[0], network.dimensions, batch.truths.shape[2:], generator)
    batch, signal, noise = batch.to(device), signal.to(device), noise.to(device)
    inside = (batch.truths > 0).all(dim=1, keepdim=True).float()
    alpha, sigma = (part[:, None, None, None] for part in (signal, torch.sqrt(1 - signal**2)))
    clean = network.space.encode(batch.truths) * inside
    noise = noise * inside
    velocity = network(batch.slices, batch.coordinates, alpha * clean + sigma * noise, signal)
    error = torch.einsum("bdhw,dr->brhw", velocity - (sigma * clean - alpha * noise), network.basis)
    return (error.square() * inside).sum() / (inside.sum() * network.references)


def draw_noise(
    count: int, dimensions: int, size: torch.Size, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the signal α of each slice, shape (count,), and the noise ε, shape (count, dimensions, h, w).

    α = cos(π t / 2) of a uniform time t, and 0 for the share of slices at pure noise.
    """
    times = torch.rand(count, generator=generator)
    pure = torch.rand(count, generator=generator) < PURE_NOISE_SHARE
    signal = torch.where(pure, torch.zeros(()), torch.cos(times * torch.pi / 2))
    return signal, torch.randn(count, dimensions, *size, generator=generator)


@dataclass(frozen=True)
class _Batches(Dataset[SliceBatch]):
    """The batch of every step."""

    data: VirtualSlices
    settings: DiffusionSettings

    def __getitem__(self, step: int) -> SliceBatch:
        return self.data.batch(self.settings.batch, step_generator(self.settings.seed, NAME, step))
