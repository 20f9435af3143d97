"""How prompt and structure are weighed against each other while the model samples.

Looks: what a brain would look like in a domain, sampled in a few deterministic steps.

DDIB: the noise that a scan came from under its own prompt, where sampling under another one starts.

"Dual diffusion implicit bridges for image-to-image translation" (Su et al. 2023): the deterministic sampler
runs backward under the source's prompt, then forward under the target's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.diffusion.model import LatentModel
from mrharmony.networks.diffusion.networks import decode, encode, predict_velocity
from mrharmony.networks.diffusion.schedule import NoiseSchedule, sampling_times
from mrharmony.networks.settings import NO_PROMPT, Settings

GREATEST_WEIGHT = 100.0  # the paper's guidance scale
DDIB_STEPS = 4  # the knee, in benchmarks/results/ablations/guidance


class SamplingSettings(Settings):
    """How looks are sampled.

    The two weights guide the prediction as in InstructPix2Pix (Brooks et al. 2023, equation 3):
    v = v(none, none) + input_weight * (v(none, s) - v(none, none)) + prompt_weight * (v(p, s) - v(none, s)).
    At 1 and 1 a single evaluation v(p, s) is all that it takes.
    """

    steps: int = Field(1, ge=1, le=1000)
    prompt_weight: float = Field(1.0, ge=0, le=GREATEST_WEIGHT, allow_inf_nan=False)
    input_weight: float = Field(1.0, ge=0, le=GREATEST_WEIGHT, allow_inf_nan=False)
    ddib: bool = False  # sampling starts from the scan's own noise, found by inversion, not from drawn noise
    refinements: int = Field(2, ge=0)  # of each step of the inversion
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_step_cannot_be_inverted(self) -> Self:
        if self.ddib and self.steps < 2:
            raise ValueError("DDIB takes 2 steps or more, a single one keeps nothing of where it starts")
        return self

    @classmethod
    def chosen(cls, ddib: bool, **given: object) -> Self:
        """Return the settings that are given, all others as they are best; None stands for not given.

        Raises
        ------
        MrharmonyError
            If one is out of its range.
        """
        usual = {"ddib": ddib} | ({"steps": DDIB_STEPS} if ddib else {})
        try:
            return cls.model_validate(
                usual | {name: value for name, value in given.items() if value is not None}
            )
        except ValidationError as error:
            first = error.errors()[0]
            place = " ".join(str(part).replace("_", " ") for part in first["loc"]) or "sampling"
            reason = first["msg"].removeprefix("Value error, ")
            raise MrharmonyError(f"{place}: {reason}. Give another one, or leave it out.") from error


def guided_velocity(
    model: LatentModel,
    latents: torch.Tensor,
    structure: torch.Tensor,
    positions: torch.Tensor,
    domain: Domain,
    time: int,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Combine the predictions with and without prompt and structure; evaluate only those that count.

    Parameters
    ----------
    model
        The compact model.
    latents, structure
        Noisy latents and those of the structure, shape (n, channels, height, width).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    domain
        Whose prompt is given.
    time
        Of the noise schedule.
    settings
        The two weights.
    """
    none = torch.zeros_like(structure)
    terms = [
        (settings.prompt_weight, domain.prompt, structure),
        (settings.input_weight - settings.prompt_weight, NO_PROMPT, structure),
        (1.0 - settings.input_weight, NO_PROMPT, none),
    ]
    times = torch.full((len(latents),), time, device=latents.device)
    total = torch.zeros_like(latents)
    for weight, prompt, condition in terms:
        if weight != 0.0:
            rows = model.prompts.rows([prompt] * len(latents)).to(latents.device)
            tokens = model.prompts(rows, positions.to(latents.device))
            total = total + weight * predict_velocity(model.denoiser, latents, condition, times, tokens)
    return total


SLICES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class EncodedBrain:
    """A brain's coronal slices as the model takes them: the structure that all its looks share.

    Parameters
    ----------
    brain
        Canonical brain on the model's working grid, 0 outside the brain.
    filled
        Indices of the slices that hold brain, shape (n,).
    structure
        Their latents, shape (n, channels, height, width).
    positions
        Where they lie along the sliced axis, -1..1, shape (n,).
    """

    brain: Volume
    filled: NDArray[np.int64]
    structure: torch.Tensor
    positions: torch.Tensor

    def parts(self) -> list[slice]:
        """Return which of the slices go through the networks together."""
        return [slice(n, n + SLICES_AT_ONCE) for n in range(0, len(self.filled), SLICES_AT_ONCE)]


def encode_brain(model: LatentModel, brain: Volume) -> EncodedBrain:
    """Return a brain's structure: the latents of its filled coronal slices."""
    filled: NDArray[np.int64] = np.flatnonzero((brain.voxels > 0).any(axis=(0, 2)))
    slices = torch.from_numpy(brain.voxels[:, filled, :].transpose(1, 0, 2).copy())[:, None]
    device = model.autoencoder.device
    with torch.inference_mode():
        parts = [encode(model.autoencoder, part.to(device)) for part in torch.split(slices, SLICES_AT_ONCE)]
    return EncodedBrain(brain, filled, torch.cat(parts), slice_positions(filled, brain.shape[1]))


def sample_contrast(
    model: LatentModel,
    encoded: EncodedBrain,
    domain: Domain,
    settings: SamplingSettings,
    start: torch.Tensor | None = None,
) -> Volume:
    """Return a brain's look in a domain; looks of one brain share its structure and the noise.

    Parameters
    ----------
    model
        The compact model that encoded the brain.
    encoded
        The brain's structure.
    domain
        A domain that the model knows.
    settings
        Steps, guidance weights and the seed of the noise.
    start
        The noise that each slice starts from, shape (n, channels, height, width), as `invert_brain` finds it;
        None for one drawn noise for all slices.

    Returns
    -------
    A volume on the brain's grid; only voxels inside the brain mean anything.
    """
    size = model.denoiser.config.sample_size
    drawn = shared_noise(model.denoiser.config.out_channels, size, settings.seed)
    noise = drawn.expand_as(encoded.structure) if start is None else start

    def sampled(part: slice) -> torch.Tensor:
        structure, positions = encoded.structure[part], encoded.positions[part]
        return sample_latents(model, structure, positions, domain, noise[part], settings)

    return _decode_slices(model, encoded, sampled)


def round_trip(model: LatentModel, encoded: EncodedBrain) -> Volume:
    """Return a brain as the autoencoder gives it back: as sharp as the looks are, and no sharper."""
    return _decode_slices(model, encoded, lambda part: encoded.structure[part])


def _decode_slices(
    model: LatentModel, encoded: EncodedBrain, latents: Callable[[slice], torch.Tensor]
) -> Volume:
    """Return the volume that the latents of the slices decode to, some slices at a time."""
    voxels = np.zeros(encoded.brain.shape, np.float32)
    with torch.inference_mode():
        for part in encoded.parts():
            decoded = decode(model.autoencoder, latents(part))[:, 0].cpu().numpy()
            voxels[:, encoded.filled[part], :] = decoded.transpose(1, 0, 2)
    return encoded.brain.with_voxels(voxels)


def slice_positions(indices: NDArray[np.int64], count: int) -> torch.Tensor:
    """Return where slices lie along the sliced axis, -1 to 1 over the field of view, shape (n,)."""
    return torch.as_tensor(2.0 * (np.asarray(indices) + 0.5) / count - 1.0, dtype=torch.float32)


def shared_noise(channels: int, size: int, seed: int) -> torch.Tensor:
    """Return the one noise field that every slice starts from, shape (1, channels, size, size)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(1, channels, size, size, generator=generator)


def sample_latents(
    model: LatentModel,
    structure: torch.Tensor,
    positions: torch.Tensor,
    domain: Domain,
    noise: torch.Tensor,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Run the sampler from pure noise to latents, DDIM with eta 0 (Song et al. 2021, equation 12).

    Parameters
    ----------
    model
        The compact model.
    structure
        Latents of the slices' structure, shape (n, channels, height, width).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    domain
        A domain that the model knows.
    noise
        Where the slices start, shape of `structure`, or (1, channels, height, width) for one noise for all.
    settings
        Steps and guidance weights.
    """
    schedule = NoiseSchedule.of(model.scheduler)
    times = sampling_times(settings.steps, 1.0, len(schedule.alphas))
    latents = noise.to(structure).expand_as(structure)
    for time, following in zip(times, [*times[1:], None], strict=True):
        velocity = guided_velocity(model, latents, structure, positions, domain, time, settings)
        latents = schedule.step(velocity, latents, time, following)
    return latents


def invert_brain(
    model: LatentModel, encoded: EncodedBrain, source: Domain, settings: SamplingSettings
) -> torch.Tensor:
    """Return the noise from which a brain's slices are sampled under the prompt of their own domain.

    Parameters
    ----------
    model
        The compact model that encoded the brain.
    encoded
        The brain's slices.
    source
        The domain that they come from.
    settings
        Steps, refinements and guidance weights, as the looks are sampled afterwards.

    Returns
    -------
    Shape (n, channels, height, width).
    """
    with torch.inference_mode():
        return torch.cat(
            [
                invert_latents(model, encoded.structure[part], encoded.positions[part], source, settings)
                for part in encoded.parts()
            ]
        )


def invert_latents(
    model: LatentModel,
    structure: torch.Tensor,
    positions: torch.Tensor,
    source: Domain,
    settings: SamplingSettings,
) -> torch.Tensor:
    """Run the sampler of `sample_latents` backward, from a scan's latents to noise.

    Each step back is guessed from the prediction where it begins (Song et al. 2021, section 4.3). But the
    sampler will predict where it ends, so the guess is refined as a fixed point: the step back is taken again
    with what is predicted at the guess (Pan et al. 2023, AIDI; Garibi et al. 2024, ReNoise).

    Parameters
    ----------
    model
        The compact model.
    structure
        Latents of the scan's slices, which are their structure too, shape (n, channels, height, width).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    source
        The domain that they come from.
    settings
        Steps, refinements and guidance weights.
    """
    schedule = NoiseSchedule.of(model.scheduler)
    times = sampling_times(settings.steps, 1.0, len(schedule.alphas))

    def predicted(latents: torch.Tensor, time: int) -> torch.Tensor:
        return guided_velocity(model, latents, structure, positions, source, time, settings)

    latents = structure
    for time, following in zip(times[::-1], [None, *times[:0:-1]], strict=True):
        begin = following or 0  # the scan itself, without noise, counts as the first training time
        guess = schedule.step(predicted(latents, begin), latents, begin, time)
        for _ in range(settings.refinements):
            guess = schedule.step_back(predicted(guess, time), latents, time, following)
        latents = guess
    return latents
