"""The compact latent diffusion model as one value, and its directory.

A directory has diffusers' layout, `mrharmony.json` and a model card; weights are safetensors, never pickles.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, Field

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.markdown import escaped, markdown_table
from mrharmony.core.records import read_record
from mrharmony.core.tensors import open_tensors
from mrharmony.networks.card import CARD, ModelCard, read_card, write_directory
from mrharmony.networks.compact.networks import (
    build_autoencoder,
    build_denoiser,
    build_scheduler,
    decode,
    encode,
    predict_velocity,
)
from mrharmony.networks.schedule import NoiseSchedule
from mrharmony.networks.settings import TrainingSettings
from mrharmony.space.grid import Grid

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from mrharmony.networks.compact.prompts import PromptEncoder

_CONFIG = "the configuration of a part of this model", "Restore the model"


@dataclass(frozen=True)
class LatentModel:
    """Autoencoder, denoiser and prompts, with their noise schedule and card; a `PictureModel`."""

    autoencoder: AutoencoderKL
    denoiser: UNet2DConditionModel
    prompts: PromptEncoder
    scheduler: DDIMScheduler
    card: ModelCard
    axis: int = 1
    takes_structure: bool = True

    @property
    def grid(self) -> Grid:
        """The grid in template space on which this model works."""
        return Grid.working(self.card.working_zoom)

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule as plain numbers."""
        return NoiseSchedule.of(self.scheduler)

    def to(self, device: torch.device) -> LatentModel:
        """Move the networks; returns the model."""
        networks: tuple[Any, ...] = (self.autoencoder, self.denoiser, self.prompts)
        for network in networks:
            network.to(device)
        return self

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of canonical slices, the mode of the posterior."""
        return encode(self.autoencoder, slices.to(self.autoencoder.device))

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the latents of the slices' structure, which are those of the slices."""
        return self.encode(slices)

    def decode(self, latents: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return canonical intensities; all slices of the working grid have one size."""
        del size
        return decode(self.autoencoder, latents)

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return the learned tokens of a known prompt, and those of the positions."""
        device = self.denoiser.device
        rows = self.prompts.rows([prompt] * len(positions)).to(device)
        tokens: torch.Tensor = self.prompts(rows, positions.to(device))
        return tokens

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the predicted v; a structure of zeros stands for none."""
        times = torch.full((len(latents),), time, device=latents.device)
        seen = torch.zeros_like(latents) if structure is None else structure
        return predict_velocity(self.denoiser, latents, seen, times, tokens)


def save_model(model: LatentModel, directory: Path, also: Callable[[Path], None]) -> None:
    """Write a model's directory, complete or not at all.

    `also` gets the directory and writes what else belongs to the model; raises as `write_directory`.
    """

    def write(staging: Path) -> None:
        _write_parts(model, staging)
        also(staging)

    write_directory(directory, write)


def as_saved(model: LatentModel) -> LatentModel:
    """Return a copy of a model with the weights that its directory will hold."""
    networks = (model.autoencoder, model.denoiser, model.prompts)
    autoencoder, denoiser, prompts = (copy.deepcopy(network).half().float() for network in networks)
    return LatentModel(autoencoder, denoiser, prompts, model.scheduler, model.card)


def _write_parts(model: LatentModel, directory: Path) -> None:
    """Write networks in half precision (half the size; contrasts change by less than a scan's noise)."""
    for name, network in (("vae", model.autoencoder), ("unet", model.denoiser), ("prompts", model.prompts)):
        copy.deepcopy(network).half().save_pretrained(directory / name)
    model.scheduler.save_pretrained(directory / "scheduler")
    (directory / CARD).write_text(model.card.model_dump_json(indent=2) + "\n", "utf-8")
    (directory / "README.md").write_text(model_card_text(model.card), "utf-8")


def load_model(directory: Path) -> LatentModel:
    """Read a model's directory, offline.

    Raises `MrharmonyError` if it or one of its parts is missing or damaged, or it holds none.
    """
    card = read_card(directory)
    if card.dreambooth is not None:
        raise MrharmonyError(f"{directory}: holds a Stable Diffusion model. Use the method img2img.")
    if card.training is None:
        raise MrharmonyError(
            f"{directory}: holds no networks for img2img. Choose the default method, or name a model that "
            "was trained or adapted with method='img2img'."
        )
    model = _read_parts(directory, card, card.training)
    for network in (model.autoencoder, model.denoiser, model.prompts):
        network.eval().requires_grad_(False)
    return model


class _Prompts(BaseModel):
    """What is read of the prompts' configuration."""

    prompts: tuple[str, ...] = Field(min_length=1, max_length=10_000)


class _Scale(BaseModel):
    """What is read of the autoencoder's configuration."""

    scaling_factor: float = Field(gt=1e-3, lt=1e3)  # of latents, taken after the autoencoder's training


def _read_parts(directory: Path, card: ModelCard, training: TrainingSettings) -> LatentModel:
    """Build the networks that the card tells of, and fill them; nothing in a configuration chooses code."""
    from mrharmony.networks.compact.prompts import PromptEncoder  # noqa: PLC0415 - takes seconds to import

    files = {part: directory / part / "config.json" for part in ("vae", "unet", "prompts")}
    files["scheduler"] = directory / "scheduler" / "scheduler_config.json"
    records = {part: read_record(file, dict[str, Any], *_CONFIG) for part, file in files.items()}
    scale = read_record(files["vae"], _Scale, *_CONFIG).scaling_factor
    known = read_record(files["prompts"], _Prompts, *_CONFIG).prompts
    settings, channels = training.denoiser, training.autoencoder.latent_channels
    try:
        with torch.device("meta"):  # nothing is taken before the shapes are those of the files
            parts: dict[str, Any] = {
                "vae": build_autoencoder(training.autoencoder),
                "unet": build_denoiser(settings, channels, records["unet"].get("sample_size", 1)),
                "prompts": PromptEncoder(list(known), settings.prompt_tokens, settings.token_size),
            }
    except (ValueError, RuntimeError, TypeError) as error:
        raise MrharmonyError(
            f"{directory / CARD}: tells of networks that cannot be built. Restore the model."
        ) from error
    parts["vae"].register_to_config(scaling_factor=scale)
    parts["scheduler"] = build_scheduler()
    if lost := next((domain.prompt for domain in card.domains if domain.prompt not in known), None):
        raise MrharmonyError(
            f"{files['prompts']}: does not know the prompt {lost!r:.60} of the model. Restore it."
        )
    for part, file in files.items():
        _require_same(file, records[part], parts[part].config)
    for part in ("vae", "unet", "prompts"):
        _fill(parts[part], directory / part / "diffusion_pytorch_model.safetensors")
    return LatentModel(parts["vae"], parts["unet"], parts["prompts"], parts["scheduler"], card)


def _require_same(file: Path, record: dict[str, Any], config: Any) -> None:  # noqa: ANN401 - of diffusers
    """Refuse a configuration that says something else of a part than the model's card."""
    built = json.loads(json.dumps({name: value for name, value in config.items() if name[0] != "_"}))
    if other := next((name for name in built if record.get(name, built[name]) != built[name]), None):
        raise MrharmonyError(f"{file}: its {other} is not that of the model in {CARD}. Restore the model.")


def _fill(network: torch.nn.Module, path: Path) -> None:
    """Give a network of the device `meta` the weights in a file, in single precision."""
    with open_tensors(path, "the weights of this model", "restore the model", "pt") as file:
        weights = {name: tensor.float() for name, tensor in file.tensors().items()}
        network.load_state_dict(weights, assign=True)


def model_card_text(card: ModelCard) -> str:
    """Return the model card beside the weights, in Markdown."""
    rows = [(domain.name, str(domain.scans or "simulated")) for domain in card.domains]
    base = f"- Adapted from: {escaped(card.base.model)}, SHA-256 {card.base.sha256}.\n" if card.base else ""
    return (
        "# mrharmony compact model\n\n"
        "Structure-conditioned latent diffusion model for T1-weighted brain MR. Research use only.\n\n"
        f"{markdown_table(('domain', 'training scans'), rows)}\n"
        f"- Working grid: {card.working_zoom:g} mm, coronal slices of aligned, skull-stripped brains.\n"
        f"- Intensities: {card.intensity_convention}\n"
        f"- Training data: {escaped(card.training_data)}\n"
        f"- Licence: {escaped(card.licence)}\n"
        f"{base}"
        "- Limits: adult T1-weighted scans; not for children, contrast agents, other sequences, diagnosis.\n"
    )
