"""Opening a model and a method once, for all the scans that follow."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args

import torch

from mrharmony import __version__
from mrharmony.cohort.harmonizing import HarmonizeJob
from mrharmony.harmonize import (
    ACCENTS,
    SYNTHESIS,
    ClassicalHarmonizer,
    ClassicalMethod,
    DiffusionHarmonizer,
    Extent,
    Harmonizer,
    LockSettings,
    load_method,
    load_statistics,
    load_synthesis,
)
from mrharmony.latent import STATISTICS, LatentModel, SamplingSettings, load_model, model_hash, read_card
from mrharmony.volume import MrharmonyError
from mrharmony.weights import shipped_model

LIBRARIES = ("torch", "diffusers", "nibabel", "antspyx", "deepbet", "numpy", "scipy")


def open_job(  # noqa: PLR0913 - everything that the command line lets choose
    model: Path | None,
    method: str,
    source: str | None,
    target: str,
    *,
    seed: int = 0,
    extent: Extent = "brain",
    device: str = "auto",
    assume_ras: bool = False,
) -> HarmonizeJob:
    """Return the job that harmonizes scans from `source` to `target` with a model's method.

    Raises
    ------
    MrharmonyError
        If the model, a domain or the device is not to be had.
    """
    directory = model or shipped_model()
    card = read_card(directory)
    domains = card.domain(source) if source else None, card.domain(target)
    harmonizer = open_method(directory, method, seed, extent, device)
    provenance = {
        "Model": directory.name,
        "ModelSHA256": model_hash(directory),
        "Seed": seed,
        "GeneratedBy": [{"Name": "mrharmony", "Version": __version__}],
        "Versions": {library: version(library) for library in LIBRARIES},
    }
    return HarmonizeJob(harmonizer, *domains, provenance, assume_ras)


def open_method(
    directory: Path, method: str, seed: int = 0, extent: Extent = "brain", device: str = "auto"
) -> Harmonizer:
    """Return a method, ready to use, with what it needs of a model directory."""
    if method == "diffusion":
        model = move_model(load_model(directory), choose_device(device))
        statistics = load_statistics(directory / STATISTICS)
        return DiffusionHarmonizer(model, statistics, SamplingSettings(seed=seed), LockSettings(), extent)
    if method in get_args(ClassicalMethod):
        return ClassicalHarmonizer(
            cast(ClassicalMethod, method), load_statistics(directory / STATISTICS), extent
        )
    if method == SYNTHESIS and (directory / ACCENTS).is_file():
        return load_synthesis(directory, load_statistics(directory / STATISTICS), extent)
    if extent != "brain" and method != SYNTHESIS:
        raise MrharmonyError(f"{method}: knows only the brain. Leave --extent {extent} out.")
    if not (directory / f"{method}.safetensors").is_file():
        raise MrharmonyError(
            f"{directory}: {method} is not fitted here. Fit it on your data: "
            f"mrharmony train BIDS_DIR --method {method} --output DIR, then --model DIR."
        )
    return load_method(method, directory)


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
