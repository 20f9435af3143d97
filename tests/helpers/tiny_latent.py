"""A tiny latent diffusion model: the real networks and code, in sizes that train in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.volume import BoolArray
from mrharmony.networks.card import DomainCard, ModelCard
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.networks import build_scheduler
from mrharmony.networks.compact.training import train_networks
from mrharmony.networks.settings import TrainingSettings
from mrharmony.space.grid import Grid

ZOOM = 4.0


def tiny_settings(steps: int) -> TrainingSettings:
    """Return the settings of so many steps for each of the two networks."""
    return TrainingSettings.model_validate(
        {
            "working_zoom": ZOOM,
            "autoencoder": {"channels": (8, 8), "latent_channels": 4},
            "denoiser": {"channels": (16, 32), "token_size": 16},
            "autoencoder_stage": {"steps": steps, "batch": 4},
            "denoiser_stage": {"steps": steps, "batch": 4},
            "checkpoint_every": 2,
        }
    )


def axes_of(grid: Grid) -> list[NDArray[np.float64]]:
    """Return the coordinates of a grid's voxels, from -1.25 to 1.25 along each axis."""
    return [*np.meshgrid(*[np.linspace(-1.25, 1.25, n) for n in grid.shape], indexing="ij")]


def ball_on(grid: Grid) -> BoolArray:
    """Return which voxels lie in a ball in the middle of a grid."""
    inside: BoolArray = np.sum(np.square(axes_of(grid)), axis=0) < 1
    return inside


def trained_model(data: RealSlices, settings: TrainingSettings, folder: Path) -> LatentModel:
    """Train a model on slices, one thread, checkpoints in `folder`."""
    torch.set_num_threads(1)
    networks = train_networks(data, settings, folder)
    card = ModelCard(
        domains=tuple(DomainCard(name=name, prompt=name, scans=2) for name in data.prompts),
        working_zoom=settings.working_zoom,
        intensity_convention="test",
        training_data="balls",
        licence="CC0",
        training=settings,
    )
    return LatentModel(networks.autoencoder, networks.denoiser, networks.prompts, build_scheduler(), card)
