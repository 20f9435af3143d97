"""The compact model's networks and noise schedule, built from diffusers (Rombach et al. 2022).

An autoencoder takes coronal slices to latents and back; a U-Net takes the noise from latents, given the
latents of a structure and the tokens of a prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mrharmony.networks.settings import (
    DENOISER_GROUPS,
    GROUPS,
    AutoencoderSettings,
    DenoiserSettings,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

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
        norm_num_groups=GROUPS,
        scaling_factor=1.0,
    )


def shrink_factor(autoencoder: AutoencoderKL) -> int:
    """Return how many slice pixels one latent pixel spans along each axis."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


def encode(autoencoder: AutoencoderKL, slices: torch.Tensor) -> torch.Tensor:
    """Return the scaled latents of slices, the mode of the posterior rather than a sample.

    From canonical intensities, shape (batch, 1, height, width), 0 outside the brain, to latents with standard
    deviation near 1, shape (batch, channels, height / factor, width / factor).
    """
    posterior = autoencoder.encode((slices - INTENSITY_CENTRE) / INTENSITY_RANGE).latent_dist
    latents: torch.Tensor = posterior.mode() * autoencoder.config.scaling_factor
    return latents


def decode(autoencoder: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Return canonical intensities of scaled latents, shape (batch, 1, height, width)."""
    restored: torch.Tensor = autoencoder.decode(latents / autoencoder.config.scaling_factor).sample
    return restored * INTENSITY_RANGE + INTENSITY_CENTRE


def build_denoiser(
    settings: DenoiserSettings, latent_channels: int, latent_size: int
) -> UNet2DConditionModel:
    """Return an untrained U-Net whose input is [noisy latents, structure latents] along the channels.

    The form is InstructPix2Pix's (Brooks et al. 2023, section 3.2): the condition joins the first
    convolution; the prompt is attended to at every level but the finest.
    """
    from diffusers import UNet2DConditionModel  # noqa: PLC0415 - takes seconds to import

    down = ("DownBlock2D", *("CrossAttnDownBlock2D",) * (len(settings.channels) - 1))
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        down_block_types=down,
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(down)),
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        cross_attention_dim=settings.token_size,
        attention_head_dim=DENOISER_GROUPS,
        norm_num_groups=DENOISER_GROUPS,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule: v-prediction, zero terminal SNR, trailing steps.

    Zero terminal SNR (Lin et al. 2024) makes the last training time pure noise, so that sampling may start
    there; v = alpha * noise - sigma * x (Salimans & Ho 2022) stays finite at that time.
    """
    from diffusers import DDIMScheduler  # noqa: PLC0415 - takes seconds to import

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def predict_velocity(
    denoiser: UNet2DConditionModel,
    noisy: torch.Tensor,
    structure: torch.Tensor,
    times: torch.Tensor,
    tokens: torch.Tensor,
) -> torch.Tensor:
    """Return the predicted v, shape of `noisy` (batch, channels, h, w); a structure of zeros means none."""
    velocity: torch.Tensor = denoiser(
        torch.cat([noisy, structure], dim=1), times, encoder_hidden_states=tokens
    ).sample
    return velocity
