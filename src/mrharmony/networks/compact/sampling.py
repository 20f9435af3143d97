"""Pictures of a latent diffusion model: guidance, and sampling in one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.schedule import NoiseSchedule, sampling_times, steps_along

SLICES_AT_ONCE = 16


class PictureModel(Protocol):
    """A latent diffusion model of brain slices, which are canonical intensities (batch, 1, height, width)."""

    @property
    def axis(self) -> int:
        """Voxel axis perpendicular to the slices."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained on."""

    @property
    def takes_structure(self) -> bool:
        """Whether the denoiser was trained to see the structure of a slice."""

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents: the mode of the posterior, not a sample."""

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the latents by which the denoiser sees the structure of slices."""

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return canonical intensities of slices of that height and width."""

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return a prompt's tokens for slices at positions -1..1 along the axis, shape (batch, n, size)."""

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the network's prediction for noisy latents; structure None stands for none."""


class Condition(NamedTuple):
    """What guides the denoiser; the first axis of each tensor is the slice's."""

    structure: torch.Tensor | None  # latents, shape (n, channels, height, width); None to show none
    prompt: torch.Tensor  # tokens, shape (n, tokens, size)
    nothing: torch.Tensor  # tokens of the empty prompt, same shape


def guided(
    model: PictureModel,
    latents: torch.Tensor,
    condition: Condition,
    time: int,
    prompt_weight: float,
    input_weight: float,
) -> torch.Tensor:
    """Combine the predictions with and without prompt p and structure s; evaluate only those that count.

    InstructPix2Pix (Brooks et al. 2023, equation 3):
    v = v(-, -) + input_weight · (v(-, s) - v(-, -)) + prompt_weight · (v(p, s) - v(-, s)).
    At 1 and 1 a single evaluation v(p, s) is enough; at an input weight of 1 and without structure this is
    classifier-free guidance (Ho & Salimans 2022, equation 6).
    """
    terms = [
        (prompt_weight, condition.prompt, condition.structure),
        (input_weight - prompt_weight, condition.nothing, condition.structure),
        (1.0 - input_weight, condition.nothing, None),
    ]
    total = torch.zeros_like(latents)
    for weight, tokens, structure in terms:
        if weight != 0.0:
            total = total + weight * model.predict(latents, structure, time, tokens)
    return total


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


def slice_positions(indices: NDArray[np.int64], count: int) -> torch.Tensor:
    """Return where slices lie along the sliced axis, -1 to 1 over the field of view, shape (n,)."""
    return torch.as_tensor(2.0 * (np.asarray(indices) + 0.5) / count - 1.0, dtype=torch.float32)


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
