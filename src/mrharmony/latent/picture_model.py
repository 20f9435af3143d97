"""What image-to-image needs of a latent diffusion model, and the compact model in that form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from mrharmony.latent.autoencoder import decode, encode
from mrharmony.latent.denoiser import predict_velocity
from mrharmony.latent.model import LatentModel
from mrharmony.latent.noise_schedule import NoiseSchedule


class PictureModel(Protocol):
    """A latent diffusion model of brain slices; these are canonical intensities (batch, 1, height, width)."""

    @property
    def axis(self) -> int:
        """Voxel axis that the slices are perpendicular to."""

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


@dataclass(frozen=True)
class CompactPictures:
    """The compact model as a `PictureModel`: the paper's way, on our networks."""

    model: LatentModel
    axis: int = 1
    takes_structure: bool = True

    @property
    def schedule(self) -> NoiseSchedule:
        """The compact model's noise schedule."""
        return NoiseSchedule.of(self.model.scheduler)

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents, the mode of the posterior."""
        return encode(self.model.autoencoder, slices.to(self.model.autoencoder.device))

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the structure's latents; they are those of the slice."""
        return self.encode(slices)

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return canonical intensities; the compact model takes slices of one size only."""
        del size
        return decode(self.model.autoencoder, latents)

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return the learned tokens of a known prompt, and those of the positions."""
        device = self.model.denoiser.device
        rows = self.model.prompts.rows([prompt] * len(positions)).to(device)
        tokens: torch.Tensor = self.model.prompts(rows, positions.to(device))
        return tokens

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the predicted v."""
        times = torch.full((len(latents),), time, device=latents.device)
        seen = torch.zeros_like(latents) if structure is None else structure
        return predict_velocity(self.model.denoiser, latents, seen, times, tokens)
