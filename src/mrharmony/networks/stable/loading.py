"""Stable Diffusion directories in diffusers' layout: opened, checked, written. Safetensors only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from mrharmony.core.atomic import write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.diffusion.model import CARD, ModelCard, read_card
from mrharmony.networks.diffusion.schedule import NoiseSchedule
from mrharmony.networks.stable.model import StableDiffusion

NETWORKS: dict[str, Any] = {
    "text_encoder": CLIPTextModel,
    "vae": AutoencoderKL,
    "unet": UNet2DConditionModel,
}
_PARTS = (*NETWORKS, "tokenizer", "scheduler")
_WANTED = [
    "model_index.json",
    *(f"{part}/*.{kind}" for part in _PARTS for kind in ("json", "txt")),
    "text_encoder/model.safetensors",
    *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("vae", "unet")),
]


def load_stable_diffusion(source: str | Path, network: bool = False) -> StableDiffusion:
    """Open a Stable Diffusion v1.x model.

    Parameters
    ----------
    source
        A directory in diffusers' layout, or the id of a Hub repository such as `owner/name`.
    network
        Whether a repository may be downloaded; without, only what an earlier download left is used. For a
        directory no network is ever touched.

    Raises
    ------
    MrharmonyError
        If the model is not there, not complete, not safe to load, or not of this family.
    """
    directory = resolve_source(source, network)
    _require_parts(directory)
    try:
        model = _open_parts(directory)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MrharmonyError(
            f"{directory}: the model is incomplete or damaged ({reason}). Fetch it anew."
        ) from error
    _require_family(directory, model)
    return model


def _open_parts(directory: Path) -> StableDiffusion:
    options = {"local_files_only": True}
    with _quiet():
        networks = {
            name: kind.from_pretrained(
                directory / name, use_safetensors=True, torch_dtype=torch.float32, **options
            )
            for name, kind in NETWORKS.items()
        }
        tokenizer = CLIPTokenizer.from_pretrained(directory / "tokenizer", **options)
        # Trailing steps: what v1.5 comes with asks for a time after the last one at 1000 steps.
        scheduler = DDIMScheduler.from_pretrained(
            directory / "scheduler", timestep_spacing="trailing", clip_sample=False, **options
        )
    for part in networks.values():
        part.eval().requires_grad_(False)
    return StableDiffusion(tokenizer, scheduler=scheduler, **networks)


def load_adapted(directory: Path) -> tuple[StableDiffusion, ModelCard]:
    """Open a model that DreamBooth training wrote, with its card.

    Raises
    ------
    MrharmonyError
        If the directory holds no such model.
    """
    card = read_card(directory)
    if card.dreambooth is None:
        raise MrharmonyError(
            f"{directory}: holds no Stable Diffusion model. Make one: mrharmony adapt BIDS_DIR --base DIR."
        )
    model = load_stable_diffusion(directory)
    return replace(model, axis=card.dreambooth.sliced_axis, enlarge=card.dreambooth.enlarge), card


def save_stable_diffusion(model: StableDiffusion, directory: Path) -> None:
    """Write a model in diffusers' layout, float32, so that diffusers opens it without us.

    A widened U-Net makes it an InstructPix2Pix pipeline there.
    """
    kind = "InstructPix2Pix" if model.takes_structure else ""
    parts = {
        "scheduler": model.scheduler,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        "unet": model.unet,
        "vae": model.vae,
    }
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{kind}Pipeline",
        "_diffusers_version": version("diffusers"),
        "requires_safety_checker": False,
        **{part: [None, None] for part in ("feature_extractor", "image_encoder", "safety_checker")},
        **{name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()},
    }
    with _quiet():
        for name, part in parts.items():
            part.save_pretrained(directory / name)
    write_json(directory / "model_index.json", index)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own bars and remarks away from the terminal."""
    loudness = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip((diffusers_logging, transformers_logging), loudness, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def resolve_source(source: str | Path, network: bool = False) -> Path:
    """Return the directory of a source: itself, or where the Hub's cache holds the repository.

    Raises
    ------
    MrharmonyError
        If there is no such directory or repository, or it may not be downloaded.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_file():
        raise MrharmonyError(
            f"{path}: is a single file. Convert it to a directory in diffusers' layout and name that."
        )
    try:
        return Path(snapshot_download(str(source), allow_patterns=_WANTED, local_files_only=not network))
    except HFValidationError as error:
        raise MrharmonyError(f"{source}: no such directory. Name a Stable Diffusion directory.") from error
    except LocalEntryNotFoundError as error:
        raise MrharmonyError(
            f"{source}: neither a directory nor in the local Hub cache, and nothing is downloaded here. "
            "Name a directory in diffusers' layout, or allow the download where there is a network."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise MrharmonyError(
            f"{source}: cannot be downloaded ({type(error).__name__}). Check its name and the network."
        ) from error


def _require_parts(directory: Path) -> None:
    for part in _PARTS:
        folder = directory / part
        if not folder.is_dir():
            raise MrharmonyError(
                f"{directory}: no Stable Diffusion v1 model in diffusers' layout, {part} is missing. "
                "Name the directory that holds model_index.json."
            )
        if part in NETWORKS and not any(folder.glob("*.safetensors")):
            raise MrharmonyError(
                f"{folder}: holds no safetensors; pickled weights can run code and are not loaded. "
                "Save the model with safe_serialization=True."
            )


def _require_family(directory: Path, model: StableDiffusion) -> None:
    """Refuse parts that do not fit each other, as those of SDXL or of an inpainting model."""
    NoiseSchedule.of(model.scheduler)
    latents, sees = model.vae.config.latent_channels, model.unet.config.in_channels
    text, attends = model.text_encoder.config.hidden_size, model.unet.config.cross_attention_dim
    if (directory / "text_encoder_2").exists() or text != attends or model.vae.config.in_channels != 3:
        raise MrharmonyError(
            f"{directory}: text encoder and U-Net are not those of Stable Diffusion v1.x. Name such a model."
        )
    if sees != latents and not model.takes_structure:
        raise MrharmonyError(
            f"{directory}: its U-Net takes {sees} channels, not {latents} or {2 * latents}. "
            "Name a text-to-image model, not one for inpainting or depth."
        )
    if model.takes_structure and not (directory / CARD).is_file() and not _is_instruct(directory):
        raise MrharmonyError(f"{directory}: has a widened U-Net of unknown meaning. Name another model.")


def _is_instruct(directory: Path) -> bool:
    index = directory / "model_index.json"
    return index.is_file() and "InstructPix2Pix" in index.read_text("utf-8")
