"""The diffusion network: from a slice as any scanner saw it to its physical latents, expected or sampled.

A U-Net (Ronneberger et al. 2015). Trained on random physics, it learns which tissue is where, whatever the
contrast, as SynthSR does (Iglesias et al. 2021, NeuroImage 237:118206). Noisy latents and the noise level
enter in proportion to the signal α that they hold, so that at pure noise (α = 0, the zero terminal SNR of Lin
et al. 2024) they enter not at all, and one evaluation gives the expected latents.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from mrharmony.core.hashing import file_sha256
from mrharmony.core.tensors import open_tensors, save_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.networks.diffusion.latents import LatentSpace
from mrharmony.networks.settings import GROUPS, Widths
from mrharmony.weights import shipped_network_folder

NEIGHBOURS = 3  # slices that the network sees: the one in question between its neighbours
COORDINATES = 3  # where each pixel lies in the template, -1..1 along right, anterior, superior
CHANNELS = (48, 96, 144, 192)  # a level each; every level but the first halves the picture
SHUFFLE = 2  # pixels along each edge that enter as one, so that the finest level costs a quarter
_LEVEL_FEATURES = 32  # of the noise level
INTENSITY_CENTRE, INTENSITY_SPREAD = 0.6, 0.3  # of canonical brains: brings intensities to about mean 0, sd 1
NETWORK = "network.safetensors"
_CONTENT, _REMEDY = "a diffusion network", "install the package again"


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016), the first modulated (Perez et al. 2018)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, after),
        )
        self.shortcut = nn.Conv2d(before, after, 1)
        self.modulation = nn.Linear(_LEVEL_FEATURES, 2 * after, bias=False)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, features: Tensor, level: Tensor | None) -> Tensor:
        """Return features of the same height and width; `level` are those of the noise level, if any."""
        first, norm, *rest = self.convolutions
        inner = norm(first(features))
        if level is not None:
            scale, shift = self.modulation(level)[:, :, None, None].chunk(2, dim=1)
            inner = inner * (1 + scale) + shift
        for part in rest:
            inner = part(inner)
        return nn.functional.silu(inner + self.shortcut(features))


class DiffusionNetwork(nn.Module):
    """U-Net from one scanner's slices, and noisy latents, to the direction in which clean latents lie.

    Parameters
    ----------
    references, dimensions
        How many reference scanners the latents are decoded to, and how many latents a pixel has.
    channels
        Features of each level.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, references: int, dimensions: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        self.references, self.dimensions, self.channels = references, dimensions, channels
        pixels = SHUFFLE**2
        self.first = nn.Conv2d(NEIGHBOURS * pixels + COORDINATES, channels[0], 3, padding=1)
        self.noisy = nn.Conv2d(dimensions * pixels, channels[0], 3, padding=1, bias=False)
        nn.init.zeros_(self.noisy.weight)
        self.level = nn.Sequential(nn.Linear(2, _LEVEL_FEATURES), nn.SiLU())
        pairs = list(zip((channels[0], *channels), channels, strict=False))
        self.down = nn.ModuleList(_Block(before, after) for before, after in pairs)
        self.up = nn.ModuleList(
            _Block(deep + shallow, shallow)
            for deep, shallow in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(channels[0], dimensions * pixels, 1)
        self.register_buffer("mean", torch.zeros(references))
        self.register_buffer("basis", torch.zeros(dimensions, references))

    @classmethod
    def empty(cls, space: LatentSpace, channels: tuple[int, ...] = CHANNELS) -> Self:
        """Return an untrained network with the latents of a space."""
        dimensions, references = space.basis.shape
        network = cls(references, dimensions, channels)
        network.mean, network.basis = space
        return network

    @property
    def space(self) -> LatentSpace:
        """The latents' encoder and decoder."""
        return LatentSpace(self.mean, self.basis)

    def forward(
        self, slices: Tensor, coordinates: Tensor, noisy: Tensor | None = None, signal: Tensor | None = None
    ) -> Tensor:
        """Return u = σ z₀ - α ε, so that z₀ = α z_t + σ u; at pure noise the expected latents themselves.

        It is the velocity of Salimans and Ho (2022), with the other sign. Shape (batch, dimensions, h, w).

        Parameters
        ----------
        slices
            Canonical intensities of the slice between its neighbours, shape (batch, 3, h, w); h and w are
            multiples of 16. Where there is no brain, 0.
        coordinates
            Shape (batch, 3, h / 2, w / 2).
        noisy, signal
            z_t = α z₀ + σ ε, shape (batch, dimensions, h, w), and α, shape (batch,), with σ² = 1 - α²; None
            at pure noise.
        """
        inside = (slices != 0).to(slices.dtype)
        standard = (slices - INTENSITY_CENTRE) / INTENSITY_SPREAD * inside
        features = self.first(torch.cat([nn.functional.pixel_unshuffle(standard, SHUFFLE), coordinates], 1))
        level = None
        if noisy is not None and signal is not None:
            share = signal[:, None]
            level = share * self.level(torch.cat([share, torch.sqrt(1 - share**2)], 1))
            given = nn.functional.pixel_unshuffle(noisy * share[:, :, None, None], SHUFFLE)
            features = features + self.noisy(given)
        levels = []
        for number, block in enumerate(self.down):
            features = block(nn.functional.avg_pool2d(features, 2) if number else features, level)
            levels.append(features)
        for block, finer in zip(self.up, levels[-2::-1], strict=True):
            wide = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([wide, finer], 1), level)
        return nn.functional.pixel_shuffle(self.last(features), SHUFFLE)


def slice_coordinates(shape: tuple[int, int, int], place: int) -> FloatArray:
    """Return where the pixels of coronal slice `place` of a grid lie, -1..1, shape (3, i / 2, k / 2).

    The working grid is centred on the template, so the first runs from left to right.
    """
    i, j, k = shape
    right, superior = (np.linspace(-1, 1, size // SHUFFLE, dtype=np.float32) for size in (i, k))
    anterior = np.float32(2 * place / (j - 1) - 1)
    grid = np.meshgrid(right, anterior, superior, indexing="ij")
    return np.stack([part[:, 0] for part in grid]).astype(np.float32)


def save_network(network: DiffusionNetwork, directory: Path, references: tuple[str, ...]) -> None:
    """Write a trained network in half precision, with the names of its reference scanners."""
    tensors = {name: tensor.half().numpy() for name, tensor in network.state_dict().items()}
    tensors |= {"mean": network.mean.numpy(), "basis": network.basis.numpy()}
    records = {"references": references, "dimensions": network.dimensions, "channels": network.channels}
    save_tensors(directory / NETWORK, tensors, records)


def load_network(directory: Path) -> DiffusionNetwork:
    """Read what `save_network` wrote, in single precision; raises `MrharmonyError` where it is damaged."""
    with open_tensors(directory / NETWORK, _CONTENT, _REMEDY, "pt") as file:
        references, dimensions = file.record("references", tuple[str, ...]), file.record("dimensions", int)
        with torch.device("meta"):  # nothing is taken before the shapes are those of the file
            network = DiffusionNetwork(len(references), dimensions, file.record("channels", Widths))
        weights = {name: tensor.float() for name, tensor in file.tensors().items()}
        network.load_state_dict(weights, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third quicker on a CPU
    return network.requires_grad_(False).eval()


@cache
def shipped_network() -> DiffusionNetwork:
    """Return the shipped network; read once."""
    return load_network(shipped_network_folder())


@cache
def network_hash() -> str:
    """Return the SHA-256 of the shipped network's file, hexadecimal."""
    return file_sha256(shipped_network_folder() / NETWORK)


def reference_names() -> tuple[str, ...]:
    """Return the names of the shipped network's reference scanners."""
    with open_tensors(shipped_network_folder() / NETWORK, _CONTENT, _REMEDY) as file:
        return file.record("references", tuple[str, ...])
