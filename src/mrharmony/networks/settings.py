"""Everything that decides how a compact model is built and trained, as frozen, validated settings."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrharmony.core.findings import MrharmonyError

NO_PROMPT = ""  # the empty prompt, learned by dropout; what classifier-free guidance starts from


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AutoencoderSettings(Settings):
    """Shape of the greyscale autoencoder (Rombach et al. 2022, section 3.1)."""

    channels: tuple[int, ...] = (16, 32, 64)  # a level each; every level but the last halves the slice
    latent_channels: int = Field(8, ge=1)


class DenoiserSettings(Settings):
    """Shape of the structure-conditioned U-Net and of its prompt tokens."""

    channels: tuple[int, ...] = (64, 96, 128)
    layers: int = Field(1, ge=1)  # residual blocks a level
    prompt_tokens: int = Field(4, ge=1)  # learned tokens a domain
    token_size: int = Field(64, ge=8)


class StageSettings(Settings):
    """One stage of training: how long, how fast, in which portions."""

    steps: int = Field(ge=1)
    batch: int = Field(12, ge=1)  # slices a step
    learning_rate: float = Field(1e-3, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)


class TrainingSettings(Settings):
    """A whole training run: grid, networks, both stages, data and randomness."""

    working_zoom: float = Field(2.0, ge=1.0, le=4.0)  # mm
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    denoiser: DenoiserSettings = DenoiserSettings()
    autoencoder_stage: StageSettings
    denoiser_stage: StageSettings
    virtual_heads: int = Field(0, ge=0)  # simulated anatomies that join the real scans
    scanners: tuple[str, ...] = ()  # simulated scanners that virtual heads visit; all that ship if empty
    virtual_share: float = Field(0.5, ge=0, le=1)  # of the slices in a batch, where there are virtual heads
    scans_per_domain: int | None = Field(None, ge=1)  # at most so many real scans of each domain
    prompt_dropout: float = Field(0.05, ge=0, le=1)
    structure_dropout: float = Field(0.05, ge=0, le=1)
    pure_noise_share: float = Field(
        0.5, ge=0, le=1
    )  # of the training times, at the last step of the schedule
    checkpoint_every: int = Field(200, ge=1)  # steps
    seed: int = 0

    @classmethod
    def preset(cls, name: str) -> Self:
        """Load a preset that ships with the package by its name, or a YAML file by its path."""
        return read_preset(cls, "mrharmony.networks.diffusion", name)


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_preset(kind: type[AnySettings], package: str, name: str) -> AnySettings:
    """Return the settings of a preset in a package's folder `presets`, or of a YAML file.

    Raises
    ------
    MrharmonyError
        If there is no such preset or file, or it does not hold settings of that kind.
    """
    shipped = files(package) / "presets"
    known = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir())
    if name in known:
        return parse_settings(kind, name, (shipped / f"{name}.yaml").read_text("utf-8"))
    if not Path(name).is_file():
        raise MrharmonyError(
            f"{name}: no such preset or file. Use one of {', '.join(known)}, or a YAML file."
        )
    return parse_settings(kind, name, Path(name).read_text("utf-8"))


def parse_settings(kind: type[AnySettings], name: str, text: str) -> AnySettings:
    """Return the settings that a YAML text called `name` holds.

    Raises
    ------
    MrharmonyError
        If it does not hold settings of that kind.
    """
    try:
        return kind.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise MrharmonyError(f"{name}: not a valid configuration. {error}") from error


class AdaptationSettings(Settings):
    """How new domains are taught to a trained model (DreamBooth, Ruiz et al. 2023)."""

    steps: int = Field(300, ge=1)
    batch: int = Field(8, ge=1)  # slices of the new domains a step, and as many class images
    learning_rate: float = Field(1e-3, gt=0)
    all_weights: bool = False  # fine-tune the whole denoiser instead of LoRA on its attention
    lora_rank: int = Field(8, ge=1)
    class_images: int = Field(20, ge=1)  # of each known prompt, more of those that new ones start from
    prior_weight: float = Field(1.0, ge=0)  # lambda of Ruiz et al. 2023, equation 2
    checkpoint_every: int = Field(50, ge=1)  # steps
    seed: int = Field(0, ge=0)
