"""Where networks run."""

from __future__ import annotations

from typing import Any

import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.diffusion.model import LatentModel


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise MrharmonyError("cuda: no usable GPU on this machine. Say --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def move_model(model: LatentModel, device: torch.device) -> LatentModel:
    """Put a model's networks on a device; returns the model."""
    networks: tuple[Any, ...] = (model.autoencoder, model.denoiser, model.prompts)
    for network in networks:
        network.to(device)
    return model
