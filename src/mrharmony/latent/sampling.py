"""Looks: what a brain would look like in a domain, sampled in a few deterministic steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mrharmony.latent.autoencoder import decode, encode
from mrharmony.latent.config import Settings
from mrharmony.latent.denoiser import predict_velocity
from mrharmony.latent.model import LatentModel
from mrharmony.latent.prompts import NO_PROMPT
from mrharmony.volume import Domain, Volume

SLICES_AT_ONCE = 16


class SamplingSettings(Settings):
    """How looks are sampled.

    The two weights guide the prediction as in InstructPix2Pix (Brooks et al. 2023, equation 3):
    v = v(none, none) + input_weight * (v(none, s) - v(none, none)) + prompt_weight * (v(p, s) - v(none, s)).
    At 1 and 1 a single evaluation v(p, s) is all that it takes.
    """

    steps: int = Field(1, ge=1, le=1000)
    prompt_weight: float = Field(1.0, ge=0)
    input_weight: float = Field(1.0, ge=0)
    seed: int = Field(0, ge=0)


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


def encode_brain(model: LatentModel, brain: Volume) -> EncodedBrain:
    """Return a brain's structure: the latents of its filled coronal slices."""
    filled: NDArray[np.int64] = np.flatnonzero((brain.voxels > 0).any(axis=(0, 2)))
    slices = torch.from_numpy(brain.voxels[:, filled, :].transpose(1, 0, 2).copy())[:, None]
    device = model.autoencoder.device
    with torch.inference_mode():
        parts = [encode(model.autoencoder, part.to(device)) for part in torch.split(slices, SLICES_AT_ONCE)]
    return EncodedBrain(brain, filled, torch.cat(parts), slice_positions(filled, brain.shape[1]))


def sample_look(
    model: LatentModel, encoded: EncodedBrain, domain: Domain, settings: SamplingSettings
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

    Returns
    -------
    A volume on the brain's grid; only voxels inside the brain mean anything.
    """
    size = model.denoiser.config.sample_size
    noise = shared_noise(model.denoiser.config.out_channels, size, settings.seed)
    return _decode_slices(
        model,
        encoded,
        lambda structure, positions: sample_latents(model, structure, positions, domain, noise, settings),
    )


def round_trip(model: LatentModel, encoded: EncodedBrain) -> Volume:
    """Return a brain as the autoencoder gives it back: as sharp as the looks are, and no sharper."""
    return _decode_slices(model, encoded, lambda structure, positions: structure)


def _decode_slices(
    model: LatentModel,
    encoded: EncodedBrain,
    latents: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Volume:
    """Return the volume that latents made of (structure, positions) decode to, some slices at a time."""
    voxels = np.zeros(encoded.brain.shape, np.float32)
    with torch.inference_mode():
        for start in range(0, len(encoded.filled), SLICES_AT_ONCE):
            part = slice(start, start + SLICES_AT_ONCE)
            made = latents(encoded.structure[part], encoded.positions[part])
            decoded = decode(model.autoencoder, made)[:, 0].cpu().numpy()
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
    scheduler = copy.deepcopy(model.scheduler)
    scheduler.set_timesteps(settings.steps)
    latents = noise.to(structure).expand_as(structure)
    for time in scheduler.timesteps:
        velocity = _guided_velocity(model, latents, structure, positions, domain, time, settings)
        latents = scheduler.step(velocity, time, latents, eta=0.0).prev_sample
    return latents


def _guided_velocity(
    model: LatentModel,
    latents: torch.Tensor,
    structure: torch.Tensor,
    positions: torch.Tensor,
    domain: Domain,
    time: torch.Tensor,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Combine the predictions with and without prompt and structure; evaluate only those that count."""
    none = torch.zeros_like(structure)
    terms = [
        (settings.prompt_weight, domain.prompt, structure),
        (settings.input_weight - settings.prompt_weight, NO_PROMPT, structure),
        (1.0 - settings.input_weight, NO_PROMPT, none),
    ]
    times = time.expand(len(latents)).to(latents.device)
    total = torch.zeros_like(latents)
    for weight, prompt, condition in terms:
        if weight != 0.0:
            rows = model.prompts.rows([prompt] * len(latents)).to(latents.device)
            tokens = model.prompts(rows, positions.to(latents.device))
            total = total + weight * predict_velocity(model.denoiser, latents, condition, times, tokens)
    return total
