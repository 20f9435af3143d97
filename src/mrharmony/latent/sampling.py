"""Looks: what a brain would look like in a domain, sampled in a few deterministic steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.latent.autoencoder import decode, encode
from mrharmony.latent.guidance import SamplingSettings, guided_velocity
from mrharmony.latent.model import LatentModel
from mrharmony.latent.noise_schedule import NoiseSchedule, sampling_times
from mrharmony.volume import Domain, Volume

SLICES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class EncodedBrain:
    """A brain's coronal slices as the model takes them: the structure that all its looks share.

    Parameters
    ----------
    brain
        Canonical brain on the model's working grid, 0 outside the brain.
    filled
        Indices of the slices that hold brain, shape (n,).
    structure
        Their latents, shape (n, channels, height, width).
    positions
        Where they lie along the sliced axis, -1..1, shape (n,).
    """

    brain: Volume
    filled: NDArray[np.int64]
    structure: torch.Tensor
    positions: torch.Tensor

    def parts(self) -> list[slice]:
        """Return which of the slices go through the networks together."""
        return [slice(n, n + SLICES_AT_ONCE) for n in range(0, len(self.filled), SLICES_AT_ONCE)]


def encode_brain(model: LatentModel, brain: Volume) -> EncodedBrain:
    """Return a brain's structure: the latents of its filled coronal slices."""
    filled: NDArray[np.int64] = np.flatnonzero((brain.voxels > 0).any(axis=(0, 2)))
    slices = torch.from_numpy(brain.voxels[:, filled, :].transpose(1, 0, 2).copy())[:, None]
    device = model.autoencoder.device
    with torch.inference_mode():
        parts = [encode(model.autoencoder, part.to(device)) for part in torch.split(slices, SLICES_AT_ONCE)]
    return EncodedBrain(brain, filled, torch.cat(parts), slice_positions(filled, brain.shape[1]))


def sample_look(
    model: LatentModel,
    encoded: EncodedBrain,
    domain: Domain,
    settings: SamplingSettings,
    start: torch.Tensor | None = None,
) -> Volume:
    """Return a brain's look in a domain; looks of one brain share its structure and the noise.

    Parameters
    ----------
    model
        The compact model that encoded the brain.
    encoded
        The brain's structure.
    domain
        A domain that the model knows.
    settings
        Steps, guidance weights and the seed of the noise.
    start
        The noise that each slice starts from, shape (n, channels, height, width), as `invert_brain` finds it;
        None for one drawn noise for all slices.

    Returns
    -------
    A volume on the brain's grid; only voxels inside the brain mean anything.
    """
    size = model.denoiser.config.sample_size
    drawn = shared_noise(model.denoiser.config.out_channels, size, settings.seed)
    noise = drawn.expand_as(encoded.structure) if start is None else start

    def sampled(part: slice) -> torch.Tensor:
        structure, positions = encoded.structure[part], encoded.positions[part]
        return sample_latents(model, structure, positions, domain, noise[part], settings)

    return _decode_slices(model, encoded, sampled)


def round_trip(model: LatentModel, encoded: EncodedBrain) -> Volume:
    """Return a brain as the autoencoder gives it back: as sharp as the looks are, and no sharper."""
    return _decode_slices(model, encoded, lambda part: encoded.structure[part])


def _decode_slices(
    model: LatentModel, encoded: EncodedBrain, latents: Callable[[slice], torch.Tensor]
) -> Volume:
    """Return the volume that the latents of the slices decode to, some slices at a time."""
    voxels = np.zeros(encoded.brain.shape, np.float32)
    with torch.inference_mode():
        for part in encoded.parts():
            decoded = decode(model.autoencoder, latents(part))[:, 0].cpu().numpy()
            voxels[:, encoded.filled[part], :] = decoded.transpose(1, 0, 2)
    return encoded.brain.with_voxels(voxels)


def slice_positions(indices: NDArray[np.int64], count: int) -> torch.Tensor:
    """Return where slices lie along the sliced axis, -1 to 1 over the field of view, shape (n,)."""
    return torch.as_tensor(2.0 * (np.asarray(indices) + 0.5) / count - 1.0, dtype=torch.float32)


def shared_noise(channels: int, size: int, seed: int) -> torch.Tensor:
    """Return the one noise field that every slice starts from, shape (1, channels, size, size)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(1, channels, size, size, generator=generator)


def sample_latents(
    model: LatentModel,
    structure: torch.Tensor,
    positions: torch.Tensor,
    domain: Domain,
    noise: torch.Tensor,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Run the sampler from pure noise to latents, DDIM with eta 0 (Song et al. 2021, equation 12).

    Parameters
    ----------
    model
        The compact model.
    structure
        Latents of the slices' structure, shape (n, channels, height, width).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    domain
        A domain that the model knows.
    noise
        Where the slices start, shape of `structure`, or (1, channels, height, width) for one noise for all.
    settings
        Steps and guidance weights.
    """
    schedule = NoiseSchedule.of(model.scheduler)
    times = sampling_times(settings.steps, 1.0, len(schedule.alphas))
    latents = noise.to(structure).expand_as(structure)
    for time, following in zip(times, [*times[1:], None], strict=True):
        velocity = guided_velocity(model, latents, structure, positions, domain, time, settings)
        latents = schedule.step(velocity, latents, time, following)
    return latents
