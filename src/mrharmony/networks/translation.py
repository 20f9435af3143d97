"""Image-to-image with a latent diffusion model.

Noise is added to a scan's slices and taken away again under another domain's prompt. Floats all the way: no
picture format, no rounding to 8 bits, no resizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from pydantic import Field
from skimage.metrics import structural_similarity

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.networks.schedule import NoiseSchedule, sampling_times, steps_along
from mrharmony.networks.settings import NO_PROMPT, Settings, read_settings
from mrharmony.networks.slices import slice_positions
from mrharmony.space.intensity import WHITE

SLICES_AT_ONCE = 16
Select = Literal["mean", "best-ssim", "all"]


class PictureModel(Protocol):
    """A latent diffusion model of brain slices, which are canonical intensities (batch, 1, height, width)."""

    @property
    def axis(self) -> int:
        """Voxel axis perpendicular to the slices."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained on."""

    @property
    def takes_structure(self) -> bool:
        """Whether the denoiser was trained to see the structure of a slice."""

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents: the mode of the posterior, not a sample."""

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the latents by which the denoiser sees the structure of slices."""

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return canonical intensities of slices of that height and width."""

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return a prompt's tokens for slices at positions -1..1 along the axis, shape (batch, n, size)."""

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the network's prediction for noisy latents; structure None stands for none."""


class Condition(NamedTuple):
    """What guides the denoiser; the first axis of each tensor is the slice's."""

    structure: torch.Tensor | None  # latents, shape (n, channels, height, width); None to show none
    prompt: torch.Tensor  # tokens, shape (n, tokens, size)
    nothing: torch.Tensor  # tokens of the empty prompt, same shape


def guided(
    model: PictureModel,
    latents: torch.Tensor,
    condition: Condition,
    time: int,
    prompt_weight: float,
    input_weight: float,
) -> torch.Tensor:
    """Combine the predictions with and without prompt p and structure s; evaluate only those that count.

    InstructPix2Pix (Brooks et al. 2023, equation 3):
    v = v(-, -) + input_weight · (v(-, s) - v(-, -)) + prompt_weight · (v(p, s) - v(-, s)).
    At 1 and 1 a single evaluation v(p, s) is enough; at an input weight of 1 and without structure this is
    classifier-free guidance (Ho & Salimans 2022, equation 6).
    """
    terms = [
        (prompt_weight, condition.prompt, condition.structure),
        (input_weight - prompt_weight, condition.nothing, condition.structure),
        (1.0 - input_weight, condition.nothing, None),
    ]
    total = torch.zeros_like(latents)
    for weight, tokens, structure in terms:
        if weight != 0.0:
            total = total + weight * model.predict(latents, structure, time, tokens)
    return total


class TranslationSettings(Settings):
    """How slices are translated; the names are diffusers' where the paper uses them."""

    strength: float = Field(0.8, ge=0, le=1)  # share of the noise schedule; 0 is the autoencoder's round trip
    num_inference_steps: int = Field(50, ge=1, le=1000)  # of the whole schedule, before strength
    guidance_scale: float = Field(7.5, ge=0)
    input_weight: float | None = Field(None, ge=0)  # of the structure; None shows none, as in the paper
    num_images_per_prompt: int = Field(1, ge=1)
    select: Select = "mean"
    seed: int = Field(0, ge=0)

    @classmethod
    def paper(cls, select: Select = "mean") -> Self:
        """Return Table 1 of Ikegami et al.; the paper is silent on the strength, 0.8 is our assumption."""
        return cls(
            strength=0.8,
            num_inference_steps=1000,
            guidance_scale=100.0,
            num_images_per_prompt=100,
            select=select,
            seed=2500,
        )


def read_translation(name: str) -> TranslationSettings:
    """Return the settings of the paper (`paper`), or those in a YAML file."""
    if name == "paper":
        return TranslationSettings.paper()
    if not Path(name).is_file():
        raise MrharmonyError(f"{name}: no such file. Say `paper`, or name a YAML file of settings.")
    return read_settings(TranslationSettings, Path(name))


def translate_brain(
    model: PictureModel, brain: Volume, prompt: str, settings: TranslationSettings
) -> tuple[Volume, ...]:
    """Return a canonical brain as a domain's scanner may have seen it, slice by slice.

    Image n of every slice starts from the same noise, that of seed + n.

    Parameters
    ----------
    model
        The latent diffusion model.
    brain
        Canonical brain on the model's working grid, 0 outside the brain.
    prompt
        Of the target domain.
    settings
        Strength, steps, weights, number of images, selection and seed.

    Returns
    -------
    The selected images: one, or all of them. What the model paints outside the brain stays; slices without
    brain stay empty.

    Raises
    ------
    MrharmonyError
        If there is no brain, or an input weight for a model that was trained without structure.
    """
    stack = np.moveaxis(brain.voxels, model.axis, 0)
    filled = np.flatnonzero((stack > 0).any(axis=(1, 2)))
    slices = torch.from_numpy(np.ascontiguousarray(stack[filled]))[:, None]
    images = translate_slices(model, slices, slice_positions(filled, len(stack)), prompt, settings)
    chosen = select_images(images[:, :, 0].numpy(), slices[:, 0].numpy(), settings.select)
    volumes = []
    for image in chosen:
        voxels = np.zeros_like(stack)
        voxels[filled] = image
        volumes.append(brain.with_voxels(np.moveaxis(voxels, 0, model.axis)))
    return tuple(volumes)


@torch.inference_mode()
def translate_slices(
    model: PictureModel,
    slices: torch.Tensor,
    positions: torch.Tensor,
    prompt: str,
    settings: TranslationSettings,
) -> torch.Tensor:
    """Return all images of slices: canonical intensities ≥ 0 on the CPU, shape (images, n, 1, height, width).

    Parameters
    ----------
    model, prompt, settings
        As for `translate_brain`; nothing is selected.
    slices
        Canonical intensities, shape (n, 1, height, width).
    positions
        Where they lie along the sliced axis, -1..1, shape (n,).
    """
    if len(slices) == 0:
        raise MrharmonyError("No brain in this volume to translate; look at its brain mask.")
    if settings.input_weight is not None and not model.takes_structure:
        raise MrharmonyError(
            "This model was trained without structure. Leave the input weight out, or train with it."
        )
    parts = torch.split(slices, SLICES_AT_ONCE)
    encoded = torch.cat([model.encode(part) for part in parts])
    structure = None
    if settings.input_weight is not None:
        structure = torch.cat([model.structure(part) for part in parts])
    condition = Condition(structure, model.embed(prompt, positions), model.embed(NO_PROMPT, positions))
    height, width = slices.shape[-2:]
    images = torch.empty(settings.num_images_per_prompt, *slices.shape)
    pairs = [(n, s) for n in range(settings.num_images_per_prompt) for s in range(len(slices))]
    for start in range(0, len(pairs), SLICES_AT_ONCE):
        numbers, places = (list(side) for side in zip(*pairs[start : start + SLICES_AT_ONCE], strict=True))
        chosen = Condition(*(None if part is None else part[places] for part in condition))  # type: ignore[arg-type]
        latents = _translate(model, encoded[places], chosen, numbers, settings)
        images[numbers, places] = model.decode(latents, (height, width)).clamp_min(0).cpu()
    return images


def _translate(
    model: PictureModel,
    latents: torch.Tensor,
    condition: Condition,
    numbers: Sequence[int],
    settings: TranslationSettings,
) -> torch.Tensor:
    """Return the latents of a slice each, translated to the images of the given numbers."""
    schedule = model.schedule
    times = sampling_times(settings.num_inference_steps, settings.strength, len(schedule.alphas))
    if not times:
        return latents
    noise = image_noise(latents.shape[1:], settings.seed, numbers).to(latents)
    noisy = schedule.noisy(latents, noise, torch.full((len(latents),), times[0]))
    input_weight = 1.0 if settings.input_weight is None else settings.input_weight

    def predict(latents: torch.Tensor, time: int) -> torch.Tensor:
        return guided(model, latents, condition, time, settings.guidance_scale, input_weight)

    return schedule.descend(noisy, track(steps_along(times), "translating"), predict)


def image_noise(shape: torch.Size, seed: int, numbers: Sequence[int]) -> torch.Tensor:
    """Return each image's own noise, shape (images, *shape): of seed + its number, whatever the batch."""
    drawn = {n: torch.randn(shape, generator=torch.Generator().manual_seed(seed + n)) for n in set(numbers)}
    return torch.stack([drawn[n] for n in numbers])


def select_images(images: FloatArray, source: FloatArray, select: Select) -> FloatArray:
    """Return the mean of images, the one most like the source, or all: shape (1 or images, n, height, width).

    `best-ssim` takes the image whose SSIM with the source, averaged over the slices, is greatest: slices of
    one image share their noise, so they stay together. Images and source are in canonical units, the source
    of shape (n, height, width).
    """
    if select == "all":
        return images
    if select == "mean":
        return np.asarray(images.mean(axis=0, keepdims=True))
    scores = [
        np.mean([structural_similarity(a, b, data_range=WHITE) for a, b in zip(image, source, strict=True)])
        for image in images
    ]
    best = int(np.argmax(scores))
    return images[best : best + 1]
