"""Slices as Stable Diffusion takes them: upright, three channels, -1..1, padded; floats, and exactly back.

A Stable Diffusion v1.x model as one value, and as a model of brain slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from mrharmony.networks.diffusion.schedule import NoiseSchedule
from mrharmony.networks.diffusion.translation import WHITE


def to_pictures(slices: torch.Tensor, enlarge: int, multiple: int) -> torch.Tensor:
    """Return slices as pictures.

    Parameters
    ----------
    slices
        Canonical intensities, shape (batch, 1, i, k): rows and columns are the voxel axes left in the slice.
    enlarge
        Picture pixels a voxel edge, interpolated linearly.
    multiple
        Height and width are padded with black, on both sides, up to multiples of it.

    Returns
    -------
    Shape (batch, 3, height, width), superior up; -1 is 0, 1 is 1.25 canonical units and all above.
    """
    upright = torch.rot90(slices, 1, dims=(2, 3)) / WHITE * 2 - 1
    if enlarge > 1:
        upright = F.interpolate(upright, scale_factor=enlarge, mode="bilinear", align_corners=False)
    height, width = upright.shape[-2:]
    top, bottom = _margins(height, multiple)
    left, right = _margins(width, multiple)
    padded = F.pad(upright.clamp(-1, 1), (left, right, top, bottom), value=-1.0)
    return padded.expand(-1, 3, -1, -1)


def to_slices(pictures: torch.Tensor, size: tuple[int, int], enlarge: int, multiple: int) -> torch.Tensor:
    """Return pictures as slices of canonical intensities; undoes `to_pictures`.

    Parameters
    ----------
    pictures
        Shape (batch, 3, height, width); the channels are averaged.
    size
        Rows and columns of the slices.
    enlarge, multiple
        As they were given to `to_pictures`; enlarged pixels are averaged.
    """
    width, height = (edge * enlarge for edge in size)
    top, left = _margins(height, multiple)[0], _margins(width, multiple)[0]
    grey = pictures.mean(dim=1, keepdim=True)[:, :, top : top + height, left : left + width]
    if enlarge > 1:
        grey = F.avg_pool2d(grey, enlarge)
    return torch.rot90((grey + 1) / 2 * WHITE, -1, dims=(2, 3))


def _margins(size: int, multiple: int) -> tuple[int, int]:
    missing = -size % multiple
    return missing // 2, missing - missing // 2


PIXEL_MULTIPLE = 8  # the U-Net's own halvings pad themselves


@dataclass(frozen=True)
class StableDiffusion:
    """The parts of a Stable Diffusion v1.x model; a `PictureModel`.

    Parameters
    ----------
    tokenizer, text_encoder, vae, unet, scheduler
        The parts; of the scheduler only the noise schedule is used.
    axis
        Voxel axis that the slices are perpendicular to.
    enlarge
        Picture pixels a voxel edge.
    """

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    axis: int = 1
    enlarge: int = 1

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained on."""
        return NoiseSchedule.of(self.scheduler)

    @property
    def takes_structure(self) -> bool:
        """Whether the U-Net was widened by the structure's latents."""
        return int(self.unet.config.in_channels) == 2 * int(self.vae.config.latent_channels)

    @property
    def multiple(self) -> int:
        """Pictures are padded to multiples of this many pixels."""
        return max(PIXEL_MULTIPLE, int(2 ** (len(self.vae.config.block_out_channels) - 1)))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        device: torch.device = self.unet.device
        return device

    def to(self, device: torch.device) -> StableDiffusion:
        """Move the networks; returns the model."""
        for network in (self.text_encoder, self.vae, self.unet):
            network.to(device)
        return self

    def pictures(self, slices: torch.Tensor) -> torch.Tensor:
        """Return slices (batch, 1, i, k) as pictures (batch, 3, height, width) on the model's device."""
        return to_pictures(slices.to(self.device), self.enlarge, self.multiple)

    def encode_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of pictures, the mode of the posterior."""
        latents: torch.Tensor = self.vae.encode(pictures).latent_dist.mode() * self.vae.config.scaling_factor
        return latents

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of slices, the mode of the posterior."""
        return self.encode_pictures(self.pictures(slices))

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return structure latents: not scaled, as InstructPix2Pix and its pipeline in diffusers have it."""
        return self.encode(slices) / float(self.vae.config.scaling_factor)

    def decode_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the pictures of scaled latents, not clipped."""
        pictures: torch.Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return pictures

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return canonical intensities of slices with that many rows and columns."""
        return to_slices(self.decode_pictures(latents), size, self.enlarge, self.multiple)

    def token_ids(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the prompts' token numbers, padded to the text encoder's length, shape (n, length)."""
        length = self.text_encoder.config.max_position_embeddings
        ids: torch.Tensor = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return the text encoder's last states; the position of a slice does not enter."""
        states: torch.Tensor = self.text_encoder(self.token_ids([prompt]).to(self.device))[0]
        return states.expand(len(positions), -1, -1)

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the U-Net's prediction; a widened one sees zeros where there is no structure."""
        if self.takes_structure:
            seen = torch.zeros_like(latents) if structure is None else structure
            latents = torch.cat([latents, seen], dim=1)
        predicted: torch.Tensor = self.unet(latents, time, encoder_hidden_states=tokens).sample
        return predicted
