"""A tiny model and tiny brains: the real networks and code, in sizes that train in seconds."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.tiny_latent import ZOOM, ball_on, tiny_settings, trained_model
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.settings import TrainingSettings
from mrharmony.space.grid import Grid


@pytest.fixture(scope="session")
def settings() -> TrainingSettings:
    """Six steps for each network, a checkpoint after every second."""
    return tiny_settings(steps=6)


@pytest.fixture(scope="session")
def brains() -> np.ndarray:
    """Four smooth blobs on the working grid: two of a bright domain, two of a dark one."""
    grid = Grid.working(ZOOM)
    rng = np.random.default_rng(0)
    ball = ball_on(grid).astype(np.float32)
    noise = [gaussian_filter(rng.standard_normal(grid.shape), 2) for _ in range(4)]
    return np.stack(
        [
            ball * np.clip(level + 2 * n, 0.1, 1.2)
            for level, n in zip((0.9, 0.9, 0.5, 0.5), noise, strict=True)
        ]
    ).astype(np.float16)


@pytest.fixture(scope="session")
def data(brains: np.ndarray) -> RealSlices:
    """The slices of the blobs."""
    return RealSlices(brains, ["bright", "bright", "dark", "dark"])


@pytest.fixture(scope="session")
def model(
    data: RealSlices, settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> LatentModel:
    """A model of the two domains."""
    return trained_model(data, settings, tmp_path_factory.mktemp("training"))
