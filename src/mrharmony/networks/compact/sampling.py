"""The contrasts of a brain that the compact model gives, in one step from pure noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.schedule import sampling_times, steps_along
from mrharmony.networks.slices import slice_positions
from mrharmony.networks.translation import SLICES_AT_ONCE


@dataclass(frozen=True, eq=False)
class EncodedBrain:
    """A brain's coronal slices as the model takes them: the structure that all its contrasts share."""

    brain: Volume  # canonical, on the model's working grid, 0 outside the brain
    filled: NDArray[np.int64]  # indices of the slices that hold brain, shape (n,)
    structure: torch.Tensor  # their latents, shape (n, channels, height, width)
    positions: torch.Tensor  # where they lie along the sliced axis, -1..1, shape (n,)

    def parts(self) -> list[slice]:
        """Return which of the slices go through the networks together."""
        return [slice(n, n + SLICES_AT_ONCE) for n in range(0, len(self.filled), SLICES_AT_ONCE)]


def encode_brain(model: LatentModel, brain: Volume) -> EncodedBrain:
    """Return a brain's structure: the latents of its filled coronal slices."""
    filled: NDArray[np.int64] = np.flatnonzero((brain.voxels > 0).any(axis=(0, 2)))
    slices = torch.from_numpy(brain.voxels[:, filled, :].transpose(1, 0, 2).copy())[:, None]
    with torch.inference_mode():
        parts = [model.encode(part) for part in torch.split(slices, SLICES_AT_ONCE)]
    return EncodedBrain(brain, filled, torch.cat(parts), slice_positions(filled, brain.shape[1]))


def sample_contrast(model: LatentModel, encoded: EncodedBrain, domain: Domain, seed: int = 0) -> Volume:
    """Return a brain's contrast in a domain that the model knows; only voxels inside the brain mean anything.

    All slices start from one noise, that of the seed.
    """
    size = model.denoiser.config.sample_size
    noise = shared_noise(model.denoiser.config.out_channels, size, seed)
    voxels = np.zeros(encoded.brain.shape, np.float32)
    with torch.inference_mode():
        for part in encoded.parts():
            latents = sample_latents(model, encoded.structure[part], encoded.positions[part], domain, noise)
            decoded = model.decode(latents)[:, 0].cpu().numpy()
            voxels[:, encoded.filled[part], :] = decoded.transpose(1, 0, 2)
    return encoded.brain.with_voxels(voxels)


def shared_noise(channels: int, size: int, seed: int) -> torch.Tensor:
    """Return the one noise field that every slice starts from, shape (1, channels, size, size)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(1, channels, size, size, generator=generator)


def sample_latents(
    model: LatentModel, structure: torch.Tensor, positions: torch.Tensor, domain: Domain, noise: torch.Tensor
) -> torch.Tensor:
    """Return the latents of slices in a domain: one step from pure noise, the expected latents.

    Parameters
    ----------
    model, domain
        The compact model, and a domain that it knows.
    structure, positions
        Latents of the slices' structure, shape (n, channels, height, width), and where the slices lie along
        the sliced axis, -1 to 1, shape (n,).
    noise
        Of the shape of `structure`, or one for all slices.
    """
    schedule, tokens = model.schedule, model.embed(domain.prompt, positions)

    def predict(latents: torch.Tensor, time: int) -> torch.Tensor:
        return model.predict(latents, structure, time, tokens)

    times = sampling_times(1, 1.0, len(schedule.alphas))
    return schedule.descend(noise.to(structure).expand_as(structure), steps_along(times), predict)
