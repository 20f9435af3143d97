"""A tiny Stable Diffusion on disk, no network, and slices of two domains to teach it."""

import socket
from pathlib import Path
from typing import Never

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.tiny_stable_diffusion import tiny_pipeline, write_tokenizer
from mrharmony.networks.settings import DreamBoothSettings
from mrharmony.networks.stable.data import SliceSet
from mrharmony.networks.stable.model import StableDiffusion, load_stable_diffusion


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reaches for the network fails, and so does the test."""

    def refuse(*_: object, **__: object) -> Never:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model on disk, in diffusers' layout."""
    folder = tmp_path_factory.mktemp("stable")
    tiny_pipeline(write_tokenizer(folder / "vocabulary")).save_pretrained(folder / "base")
    return folder / "base"


@pytest.fixture
def model(base: Path) -> StableDiffusion:
    """The tiny model, opened."""
    return load_stable_diffusion(base)


@pytest.fixture(scope="session")
def slices() -> np.ndarray:
    """Eight smooth coronal slices of 38×34 voxels, no multiples of 8, canonical units, 0 around a disc."""
    rng = np.random.default_rng(0)
    i, k = np.mgrid[-1:1:38j, -1:1:34j]
    noise = np.stack([gaussian_filter(rng.standard_normal((38, 34)), 3) for _ in range(8)])
    disc = i**2 + k**2 < 0.8
    return np.where(disc, np.clip(0.6 + 4 * noise, 0.1, 1.2), 0).astype(np.float32)


@pytest.fixture(scope="session")
def data(slices: np.ndarray) -> SliceSet:
    """Four slices of each of two domains."""
    return SliceSet({"ADNI2": slices[:4].astype(np.float16), "ADNI3": 0.6 * slices[4:]})


@pytest.fixture
def settings() -> DreamBoothSettings:
    """A training of four steps."""
    return DreamBoothSettings(
        class_images=3,
        class_steps=2,
        steps=4,
        batch=2,
        learning_rate=1e-3,
        checkpoint_every=2,
        gradient_checkpointing=False,
    )
