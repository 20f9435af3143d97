"""Prior preservation: pictures of the class, made once by the untouched model and kept as floats."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mrharmony.latent.config import NO_PROMPT
from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.latent.noise_schedule import sampling_times
from mrharmony.latent.stable.model import StableDiffusion
from mrharmony.latent.translation import image_noise
from mrharmony.progress import track
from mrharmony.scans.atomic import staged


def class_picture_files(
    model: StableDiffusion, size: tuple[int, int], settings: DreamBoothSettings, directory: Path, base: str
) -> list[Path]:
    """Make the class pictures that are not there yet.

    Parameters
    ----------
    model
        The model before training.
    size
        Rows and columns of the slices that it will learn from; the pictures get the same padded size.
    settings
        Class prompt, number, steps and guidance.
    directory
        Where they are kept, one safetensors file each; a file of another prompt or model is made anew.
    base
        What identifies the model.
    """
    height, width = model.pictures(torch.zeros(1, 1, *size)).shape[-2:]
    recipe = {
        "base": base,
        "prompt": settings.class_prompt,
        "size": [height, width],
        "steps": settings.class_steps,
        "guidance": settings.class_guidance,
        "seed": settings.seed,
    }
    note = json.dumps(recipe, sort_keys=True)
    files = [directory / f"{number:05d}.safetensors" for number in range(settings.class_images)]
    missing = [number for number, file in enumerate(files) if _note(file) != note]
    for number in track(missing, "class pictures", len(files), len(files) - len(missing)):
        picture = generate_picture(model, (height, width), settings, number)
        content = save({"picture": picture}, metadata={"recipe": note})
        with staged(files[number]) as file:
            file.fill(lambda stream, content=content: stream.write(content))  # type: ignore[misc]
            file.commit()
    return files


def load_picture(file: Path) -> torch.Tensor:
    """Read a class picture, shape (3, height, width), -1..1."""
    with safe_open(file, framework="pt") as archive:
        picture: torch.Tensor = archive.get_tensor("picture")
    return picture


@torch.inference_mode()
def generate_picture(
    model: StableDiffusion, size: tuple[int, int], settings: DreamBoothSettings, number: int
) -> torch.Tensor:
    """Return a picture of the class prompt from pure noise, shape (3, height, width), -1..1, float32.

    Picture `number` has its own noise, that of the seed + its number.
    """
    factor = 2 ** (len(model.vae.config.block_out_channels) - 1)
    shape = torch.Size((model.vae.config.latent_channels, size[0] // factor, size[1] // factor))
    latents = image_noise(shape, settings.seed, [number]).to(model.device)
    prompt, nothing = (model.embed(text, torch.zeros(1)) for text in (settings.class_prompt, NO_PROMPT))
    schedule = model.schedule
    times = sampling_times(settings.class_steps, 1.0, len(schedule.alphas))
    for time, following in zip(times, [*times[1:], None], strict=True):
        plain = model.predict(latents, None, time, nothing)
        guided = plain + settings.class_guidance * (model.predict(latents, None, time, prompt) - plain)
        latents = schedule.step(guided, latents, time, following)
    return model.decode_pictures(latents)[0].clamp(-1, 1).cpu().contiguous()


def _note(file: Path) -> str | None:
    try:
        with safe_open(file, framework="pt") as archive:
            note: str | None = (archive.metadata() or {}).get("recipe")
    except (OSError, SafetensorError):
        return None
    return note
