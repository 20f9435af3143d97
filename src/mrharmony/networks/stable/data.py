"""What Stable Diffusion learns from: slices of scans, each domain drawn equally often, and class pictures.

Class pictures (prior preservation, Ruiz et al. 2023) are made once by the untouched model and kept as floats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.tensors import open_tensors, save_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.networks.schedule import sampling_times, steps_along
from mrharmony.networks.settings import NO_PROMPT, DreamBoothSettings
from mrharmony.networks.slices import apply_structure_contrast, draw_structure_contrast, numpy_generator
from mrharmony.networks.stable.model import StableDiffusion
from mrharmony.networks.translation import image_noise

LEAST_SHARE = 0.25  # of the fullest slice's brain that a slice must hold to be learned from
_CLASS_PICTURE = "a class picture", "name another output, or move it away to make it again"


class InstanceBatch(NamedTuple):
    """Slices to learn from."""

    slices: torch.Tensor  # canonical intensities, shape (batch, 1, i, k)
    structures: torch.Tensor  # the same anatomy with a random contrast, same shape
    domains: tuple[str, ...]  # name of each slice's domain


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Canonical intensities of each domain's slices, shape (n, i, k), float16 or 32; all of one i and k."""

    slices: Mapping[str, NDArray[np.floating]]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        rows, columns = next(iter(self.slices.values())).shape[1:]
        return rows, columns

    def digest(self) -> str:
        """Return a name that changes with the slices."""
        digest = hashlib.sha256(repr(list(self.slices)).encode())
        for slices in self.slices.values():
            digest.update(slices.tobytes())
        return digest.hexdigest()[:16]

    def batch(self, count: int, generator: torch.Generator) -> InstanceBatch:
        """Draw slices; the same generator state gives the same batch."""
        rng = numpy_generator(generator)
        names = tuple(self.slices)
        domains = tuple(names[n] for n in rng.integers(len(names), size=count))
        chosen = [self.slices[name][rng.integers(len(self.slices[name]))] for name in domains]
        slices = torch.from_numpy(np.stack(chosen).astype(np.float32))[:, None]
        structures = apply_structure_contrast(slices, draw_structure_contrast(slices.shape, generator))
        return InstanceBatch(slices, structures, domains)


def choose_slices(brain: FloatArray, axis: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Return random slices of a canonical brain, shape (count, rows, columns).

    Only slices with a quarter of the fullest one's brain are taken: fewer than `count` where there are not so
    many.
    """
    stack = np.moveaxis(brain, axis, 0)
    brains = (stack > 0).sum(axis=(1, 2))
    filled = np.flatnonzero((brains > 0) & (brains >= LEAST_SHARE * brains.max()))
    chosen = np.sort(rng.choice(filled, min(count, len(filled)), replace=False))
    return np.ascontiguousarray(stack[chosen])


def join_domains(scans: Sequence[tuple[str, NDArray[np.floating]]]) -> SliceSet:
    """Return the slices of scans, each with its domain's name, as one set."""
    names = dict.fromkeys(name for name, _ in scans)
    return SliceSet(
        {name: np.concatenate([part for domain, part in scans if domain == name]) for name in names}
    )


def class_picture_files(
    model: StableDiffusion, size: tuple[int, int], settings: DreamBoothSettings, directory: Path, base: str
) -> list[Path]:
    """Make the class pictures that are not there yet; those of another prompt or model are replaced.

    Parameters
    ----------
    model, base
        The model before training, and what identifies it.
    size
        Rows and columns of the slices that it will learn from; the pictures get the same padded size.
    settings
        Class prompt, number, steps and guidance.
    directory
        Where the pictures are kept, one safetensors file each.
    """
    height, width = model.pictures(torch.zeros(1, 1, *size)).shape[-2:]
    recipe = {
        "base": base,
        "guidance": settings.class_guidance,
        "prompt": settings.class_prompt,
        "seed": settings.seed,
        "size": [height, width],
        "steps": settings.class_steps,
    }
    files = [directory / f"{number:05d}.safetensors" for number in range(settings.class_images)]
    missing = [number for number, file in enumerate(files) if _recipe(file) != recipe]
    for number in track(missing, "class pictures", len(files), len(files) - len(missing)):
        picture = generate_picture(model, (height, width), settings, number)
        save_tensors(files[number], {"picture": picture.numpy()}, {"recipe": recipe})
    return files


def _recipe(file: Path) -> object:
    """Return what a picture was made from; None where there is no picture yet, or a damaged one."""
    try:
        with open_tensors(file, *_CLASS_PICTURE) as picture:
            return picture.record("recipe", dict[str, Any])
    except MrharmonyError:
        return None


def load_picture(file: Path) -> torch.Tensor:
    """Read a class picture, shape (3, height, width), -1..1; raises `MrharmonyError` if it is damaged."""
    with open_tensors(file, *_CLASS_PICTURE, framework="pt") as picture:
        tensor: torch.Tensor = picture.tensor("picture")
    return tensor


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

    def predict(latents: torch.Tensor, time: int) -> torch.Tensor:
        plain = model.predict(latents, None, time, nothing)
        return plain + settings.class_guidance * (model.predict(latents, None, time, prompt) - plain)

    schedule = model.schedule
    times = sampling_times(settings.class_steps, 1.0, len(schedule.alphas))
    latents = schedule.descend(latents, steps_along(times), predict)
    picture = model.decode_pictures(latents)[0].cpu()
    if not picture.isfinite().all():
        raise MrharmonyError(
            "The base model makes class pictures that are not finite. Fetch the base again, name another, or "
            f"lower class_guidance, {settings.class_guidance:g}, in the preset."
        )
    return picture.clamp(-1, 1)
