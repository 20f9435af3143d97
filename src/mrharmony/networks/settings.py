"""How diffusion models are built, trained and adapted, as frozen, validated settings; and on which device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import parse_yaml, read_text
from mrharmony.space.grid import Grid

if TYPE_CHECKING:
    import torch

NO_PROMPT = ""  # the empty prompt, learned by dropout; what classifier-free guidance starts from
AXES = ("sagittal", "coronal", "axial")
FULL_RATE, LORA_RATE = 5e-6, 1e-4  # usual learning rates of DreamBooth on Stable Diffusion

# Channels are normalized in groups, so that the width of a layer is a multiple of their number.
GROUPS, DENOISER_GROUPS = 8, 16
_LEVELS = Field(min_length=1, max_length=8)
Width = Annotated[int, Field(ge=GROUPS, le=8192, multiple_of=GROUPS)]
Widths = Annotated[tuple[Width, ...], _LEVELS]  # of a network's levels
DenoiserWidth = Annotated[int, Field(ge=DENOISER_GROUPS, le=8192, multiple_of=DENOISER_GROUPS)]
DenoiserWidths = Annotated[tuple[DenoiserWidth, ...], _LEVELS]


def _zoom(zoom: float) -> float:
    Grid.working(zoom)  # raises ValueError
    return zoom


Zoom = Annotated[float, AfterValidator(_zoom)]  # of a grid that fills the field of view, mm


class Settings(BaseModel):
    """Base of all settings: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AutoencoderSettings(Settings):
    """Shape of the greyscale autoencoder (Rombach et al. 2022, section 3.1)."""

    channels: Widths = (16, 32, 64)  # a level each; every level but the last halves the slice
    latent_channels: int = Field(8, ge=1, le=256)


class DenoiserSettings(Settings):
    """Shape of the structure-conditioned U-Net and of its prompt tokens."""

    channels: DenoiserWidths = (64, 96, 128)
    layers: int = Field(1, ge=1, le=16)  # residual blocks a level
    prompt_tokens: int = Field(4, ge=1, le=256)  # learned tokens a domain
    token_size: int = Field(64, ge=8, le=8192)


class StageSettings(Settings):
    """One stage of training."""

    steps: int = Field(ge=1)
    batch: int = Field(12, ge=1)  # slices a step
    learning_rate: float = Field(1e-3, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)


class TrainingSettings(Settings):
    """A whole training run: grid, networks, both stages, data and randomness."""

    working_zoom: Zoom = Field(2.0, ge=1.0, le=4.0)  # mm
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
    pure_noise_share: float = Field(0.5, ge=0, le=1)  # of the training times: the schedule's last one
    checkpoint_every: int = Field(200, ge=1)  # steps
    seed: int = 0

    @model_validator(mode="after")
    def _levels_fit_the_slices(self) -> Self:
        """Refuse levels that a coronal slice cannot be halved for; the coarsest latents have 2 × 2 pixels."""
        pixels, shrink = Grid.working(self.working_zoom).shape[0], 2 ** (len(self.autoencoder.channels) - 1)
        if pixels % shrink:
            raise ValueError(
                f"autoencoder.channels: slices of {pixels} pixels cannot be halved "
                f"{len(self.autoencoder.channels) - 1} times. Give fewer"
            )
        if pixels // shrink < 2 ** len(self.denoiser.channels):
            raise ValueError(
                f"denoiser.channels: latents of {pixels // shrink} pixels have no room for "
                f"{len(self.denoiser.channels)} levels. Give fewer"
            )
        return self

    @classmethod
    def preset(cls, name: str) -> Self:
        """Load a preset that ships with the package by its name, or a YAML file by its path."""
        return read_preset(cls, "mrharmony.networks.compact", name)


class AdaptationSettings(Settings):
    """How a trained compact model is taught new domains (DreamBooth, Ruiz et al. 2023)."""

    steps: int = Field(300, ge=1)
    batch: int = Field(8, ge=1)  # slices of the new domains a step, and as many class images
    learning_rate: float = Field(1e-3, gt=0)
    all_weights: bool = False  # fine-tune the whole denoiser instead of LoRA on its attention
    lora_rank: int = Field(8, ge=1)
    class_images: int = Field(20, ge=1)  # of each known prompt, more of those that new ones start from
    prior_weight: float = Field(1.0, ge=0)  # lambda of Ruiz et al. 2023, equation 2
    checkpoint_every: int = Field(50, ge=1)  # steps
    seed: int = Field(0, ge=0)


class DreamBoothSettings(Settings):
    """How Stable Diffusion is taught new domains: pictures, prompts, what is trained, and for how long."""

    volume_corrected: bool = False  # brains grown to the template's size
    axis: Literal["sagittal", "coronal", "axial"] = "coronal"  # slices perpendicular to it are the pictures
    working_zoom: Zoom = Field(1.0, ge=0.5, le=4.0)  # mm
    enlarge: int = Field(1, ge=1, le=4)  # picture pixels a voxel edge
    slices_per_scan: int = Field(10, ge=1)

    prompt: Literal["name", "token"] = "name"  # the domain's plain name, or an added token <name>
    class_prompt: str = "a brain MR image"
    prior_weight: float = Field(1.0, ge=0)  # of the class pictures' loss; 0 does without them
    class_images: int = Field(200, ge=1)
    class_steps: int = Field(50, ge=1, le=1000)
    class_guidance: float = Field(7.5, ge=0)

    method: Literal["full", "lora"] = "full"
    lora_rank: int = Field(16, ge=1)
    text_encoder: bool = False  # train it too
    structure: bool = False  # widen the U-Net by the structure's latents
    # Shares of the slices; they count only with structure, because DreamBooth itself drops nothing.
    structure_dropout: float = Field(0.05, ge=0, le=1)
    prompt_dropout: float = Field(0.05, ge=0, le=1)

    steps: int = Field(1000, ge=1)
    epochs: float | None = Field(None, gt=0)  # times that each slice is seen on average; sets the steps
    batch: int = Field(1, ge=1)  # slices a process and pass; as many class pictures come with them
    accumulation: int = Field(1, ge=1)  # passes a step
    learning_rate: float | None = Field(None, gt=0)  # 5e-6, with LoRA 1e-4
    snr_gamma: float | None = Field(5.0, gt=0)  # min-SNR weighting (Hang et al. 2023); None weighs all alike
    ema_decay: float = Field(0.999, ge=0, lt=1)  # 0 keeps no average, which spares a copy of the weights
    gradient_checkpointing: bool = True
    precision: Literal["no", "bf16", "fp16", "auto"] = "no"  # auto: bf16 on a GPU that has it
    checkpoint_every: int = Field(200, ge=1)  # steps
    validate_every: int | None = Field(500, ge=1)  # steps; None makes no validation pictures
    seed: int = Field(0, ge=0)

    def planned(self, slices: Mapping[str, int], processes: int = 1) -> Self:
        """Return the settings with the steps of `epochs`, if that is set, for so many slices of each domain.

        Domains are drawn equally often; those of the largest one are seen `epochs` times on average.
        """
        if self.epochs is None:
            return self
        drawn = self.epochs * len(slices) * max(slices.values())
        steps = math.ceil(drawn / (self.batch * self.accumulation * processes))
        return self.model_copy(update={"steps": steps})

    @property
    def rate(self) -> float:
        """The learning rate: the one that was set, or the usual one of the method."""
        return self.learning_rate or (LORA_RATE if self.method == "lora" else FULL_RATE)

    @property
    def sliced_axis(self) -> int:
        """Index of the voxel axis that the pictures are perpendicular to."""
        return AXES.index(self.axis)

    @classmethod
    def preset(cls, name: str) -> Self:
        """Load a preset that ships with the package by its name, or a YAML file by its path."""
        return read_preset(cls, "mrharmony.networks.stable", name)


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_preset(kind: type[AnySettings], package: str, name: str) -> AnySettings:
    """Return the settings of a preset in a package's folder `presets`, or those of a YAML file.

    Raises `MrharmonyError` if there is no such preset or file, or it does not hold settings of that kind.
    """
    shipped = files(package) / "presets"
    known = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir())
    if name in known:
        return parse_settings(kind, name, (shipped / f"{name}.yaml").read_text("utf-8"))
    if not Path(name).is_file():
        raise MrharmonyError(
            f"{name}: no such preset or file. Use one of {', '.join(known)}, or a YAML file."
        )
    return read_settings(kind, Path(name))


def read_settings(kind: type[AnySettings], path: Path) -> AnySettings:
    """Return the settings in a YAML file; raises `MrharmonyError` where they cannot be read or are wrong."""
    try:
        text = read_text(path)
    except ValueError as error:
        raise MrharmonyError(f"{path}: cannot be read ({error}). Name a YAML file of settings.") from error
    return parse_settings(kind, str(path), text)


def parse_settings(kind: type[AnySettings], name: str, text: str) -> AnySettings:
    """Return the settings in a YAML text called `name`; raises `MrharmonyError` where they are not valid."""
    try:
        return parse_yaml(kind, text)
    except ValueError as error:
        raise MrharmonyError(f"{name}: not a valid configuration ({error}). Correct it.") from error


def choose_device(name: str) -> torch.device:
    """Return the device of that name for networks; `auto` is a GPU where there is one.

    Raises `MrharmonyError` if the name is `cuda` and torch finds no GPU.
    """
    import torch  # noqa: PLC0415 - settings alone need no torch

    require_device(name)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def require_device(name: str) -> None:
    """Raise `MrharmonyError` if the name is `cuda` and torch finds no GPU."""
    if name != "cuda":
        return
    import torch  # noqa: PLC0415 - settings alone need no torch

    if not torch.cuda.is_available():
        raise MrharmonyError("cuda: no usable GPU on this machine. Choose the device cpu or auto.")
