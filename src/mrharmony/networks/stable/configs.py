"""What the configs of a Stable Diffusion v1.x model must say where weights do not show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import first_fault

PIPELINE = "model_index.json"  # of a directory in diffusers' layout
_LEAST_TIMES, _MOST_TIMES = 1000, 10_000  # of a schedule; up to 1000 steps may be asked of it
_REMEDY = "Fetch the file again, or name another model"

Beta = Annotated[float, Field(gt=0, lt=1)]


class _Config(BaseModel):
    """Part of a config, to the letter; what else it holds is another one's to read, and may be infinite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Schedule(_Config):
    """A scheduler's numbers; diffusers replaces the first four by another model's where they are missing."""

    beta_start: Beta
    beta_end: Beta
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
    num_train_timesteps: int = Field(ge=_LEAST_TIMES, le=_MOST_TIMES)
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    trained_betas: Annotated[list[Beta], Field(min_length=_LEAST_TIMES, max_length=_MOST_TIMES)] | None = None


class _Autoencoder(_Config):
    """What latents are multiplied by; early releases of v1.x leave it out."""

    scaling_factor: float = Field(0.18215, ge=1e-3, le=1e3)


_CONFIGS: dict[str, tuple[type[_Config], str]] = {
    "text_encoder/config.json": (_Config, "a text encoder"),
    "vae/config.json": (_Autoencoder, "an autoencoder of Stable Diffusion v1.x"),
    "unet/config.json": (_Config, "a U-Net"),
    "scheduler/scheduler_config.json": (_Schedule, "a noise schedule of Stable Diffusion v1.x"),
}


def require_configs(directory: Path) -> None:
    """Refuse a directory one of whose configs is missing, damaged or impossible, by the file's name."""
    for name, (kind, content) in _CONFIGS.items():
        file = directory / name
        require_file(file)
        record = read_json(file)
        if record is None:
            raise MrharmonyError(f"{file}: is damaged, no JSON object. {_REMEDY}.")
        try:
            kind.model_validate(record)
        except ValidationError as error:
            raise MrharmonyError(f"{file}: not {content} ({first_fault(error)}). {_REMEDY}.") from error


def require_file(file: Path) -> None:
    """Refuse a model one of whose files is missing, by the file's name."""
    if not file.is_file():
        raise MrharmonyError(f"{file}: is missing. Fetch the model again, complete.")
