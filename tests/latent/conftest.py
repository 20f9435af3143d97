"""A tiny model and tiny brains: the real networks and code, in sizes that train in seconds."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mrharmony.networks.diffusion.data import RealSlices
from mrharmony.networks.diffusion.model import DomainCard, LatentModel, ModelCard
from mrharmony.networks.diffusion.networks import build_scheduler
from mrharmony.networks.diffusion.training import train_networks
from mrharmony.networks.settings import TrainingSettings
from mrharmony.space.grid import Grid

ZOOM = 4.0


@pytest.fixture(scope="session")
def settings() -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "working_zoom": ZOOM,
            "autoencoder": {"channels": (8, 8), "latent_channels": 4},
            "denoiser": {"channels": (16, 32), "token_size": 16},
            "autoencoder_stage": {"steps": 6, "batch": 4},
            "denoiser_stage": {"steps": 6, "batch": 4},
            "checkpoint_every": 2,
        }
    )


@pytest.fixture(scope="session")
def brains() -> np.ndarray:
    """Four smooth blobs on the working grid: two of a bright domain, two of a dark one."""
    shape = Grid.working(ZOOM).shape
    rng = np.random.default_rng(0)
    ball = _ball(shape)
    noise = [gaussian_filter(rng.standard_normal(shape), 2) for _ in range(4)]
    return np.stack(
        [
            ball * np.clip(level + 2 * n, 0.1, 1.2)
            for level, n in zip((0.9, 0.9, 0.5, 0.5), noise, strict=True)
        ]
    ).astype(np.float16)


def _ball(shape: tuple[int, int, int]) -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1.25, 1.25, n) for n in shape], indexing="ij")
    return (sum(axis**2 for axis in axes) < 1).astype(np.float32)


@pytest.fixture(scope="session")
def data(brains: np.ndarray) -> RealSlices:
    return RealSlices(brains, ["bright", "bright", "dark", "dark"])


@pytest.fixture(scope="session")
def model(
    data: RealSlices, settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> LatentModel:
    torch.set_num_threads(1)
    networks = train_networks(data, settings, tmp_path_factory.mktemp("training"))
    card = ModelCard(
        domains=tuple(DomainCard(name=name, prompt=name, scans=2) for name in data.prompts),
        working_zoom=ZOOM,
        intensity_convention="test",
        training_data="blobs",
        licence="CC0",
        training=settings,
    )
    return LatentModel(networks.autoencoder, networks.denoiser, networks.prompts, build_scheduler(), card)
