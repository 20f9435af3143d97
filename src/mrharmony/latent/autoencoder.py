"""The greyscale autoencoder: coronal slices to latents and back (Rombach et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mrharmony.latent.config import AutoencoderSettings

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

INTENSITY_CENTRE = 0.5  # canonical units; slices enter the networks as (x - centre) / range
INTENSITY_RANGE = 0.5


def build_autoencoder(settings: AutoencoderSettings) -> AutoencoderKL:
    """Return an untrained one-channel autoencoder; it shrinks slices by 2 ** (levels - 1)."""
    from diffusers import AutoencoderKL  # noqa: PLC0415 - takes seconds to import

    levels = len(settings.channels)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=1,
        latent_channels=settings.latent_channels,
        norm_num_groups=8,
        scaling_factor=1.0,
    )


def shrink_factor(autoencoder: AutoencoderKL) -> int:
    """Return how many slice pixels one latent pixel spans along each axis."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def encode(autoencoder: AutoencoderKL, slices: torch.Tensor) -> torch.Tensor:
    """Return the scaled latents of slices, the mode of the posterior rather than a sample.

    Parameters
    ----------
    slices
        Canonical intensities, shape (batch, 1, height, width), 0 outside the brain.

    Returns
    -------
    Latents with standard deviation near 1, shape (batch, channels, height / factor, width / factor).
    """
    posterior = autoencoder.encode((slices - INTENSITY_CENTRE) / INTENSITY_RANGE).latent_dist
    latents: torch.Tensor = posterior.mode() * autoencoder.config.scaling_factor
    return latents


def decode(autoencoder: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Return canonical intensities of scaled latents, shape (batch, 1, height, width)."""
    restored: torch.Tensor = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample
    return restored * INTENSITY_RANGE + INTENSITY_CENTRE
