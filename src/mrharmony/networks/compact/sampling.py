"""Contrasts sampled by a latent diffusion model: guidance, deterministic sampling, inversion (DDIB)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.schedule import NoiseSchedule, sampling_times, steps_along
from mrharmony.networks.settings import NO_PROMPT, Settings

GREATEST_WEIGHT = 100.0  # the paper's guidance scale
DDIB_STEPS = 4  # more gain little (benchmarks/results/ablations/guidance.md)
SLICES_AT_ONCE = 16


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


class SamplingSettings(Settings):
    """How contrasts are sampled; the two weights are those of `guided`."""

    steps: int = Field(1, ge=1, le=1000)
    prompt_weight: float = Field(1.0, ge=0, le=GREATEST_WEIGHT, allow_inf_nan=False)
    input_weight: float = Field(1.0, ge=0, le=GREATEST_WEIGHT, allow_inf_nan=False)
    ddib: bool = False  # sampling starts from the scan's own noise, found by inversion, not from drawn noise
    refinements: int = Field(2, ge=0)  # of each step of the inversion
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_step_cannot_be_inverted(self) -> Self:
        if self.ddib and self.steps < 2:
            raise ValueError("DDIB takes 2 steps or more, because a single one forgets where it starts")
        return self

    @classmethod
    def chosen(cls, ddib: bool, **given: object) -> Self:
        """Return the given settings, and the best value of each that is not given or None.

        Raises `MrharmonyError` if one is out of its range.
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


def prediction(
    model: LatentModel,
    structure: torch.Tensor,
    positions: torch.Tensor,
    domain: Domain,
    settings: SamplingSettings,
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """Return what the model predicts for slices under a domain's prompt, as a function of latents and time.

    Parameters
    ----------
    model, domain, settings
        The compact model, a domain that it knows, and the two weights.
    structure
        Latents of the slices' structure, shape (n, channels, height, width).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    """
    condition = Condition(structure, model.embed(domain.prompt, positions), model.embed(NO_PROMPT, positions))
    weights = settings.prompt_weight, settings.input_weight
    return lambda latents, time: guided(model, latents, condition, time, *weights)


@dataclass(frozen=True, eq=False)
class EncodedBrain:
    """A brain's coronal slices as the model takes them: the structure that all its contrasts share."""

    brain: Volume  # canonical, on the model's working grid, 0 outside the brain
    filled: NDArray[np.int64]  # indices of the slices that hold brain, shape (n,)
    structure: torch.Tensor  # their latents, shape (n, channels, height, width)
    positions: torch.Tensor  # where they lie along the sliced axis, -1..1, shape (n,)

    def parts(self) -> list[slice]:
        """Return which of the slices go through the networks together."""
        return [slice(n, n + SLICES_AT_ONCE) for n in range(0, len(self.filled), SLICES_AT_ONCE)]


def encode_brain(model: LatentModel, brain: Volume) -> EncodedBrain:
    """Return a brain's structure: the latents of its filled coronal slices."""
    filled: NDArray[np.int64] = np.flatnonzero((brain.voxels > 0).any(axis=(0, 2)))
    slices = torch.from_numpy(brain.voxels[:, filled, :].transpose(1, 0, 2).copy())[:, None]
    with torch.inference_mode():
        parts = [model.encode(part) for part in torch.split(slices, SLICES_AT_ONCE)]
    return EncodedBrain(brain, filled, torch.cat(parts), slice_positions(filled, brain.shape[1]))


def sample_contrast(
    model: LatentModel,
    encoded: EncodedBrain,
    domain: Domain,
    settings: SamplingSettings,
    start: torch.Tensor | None = None,
) -> Volume:
    """Return a brain's contrast in a domain; contrasts of one brain share its structure and the noise.

    Only voxels inside the brain mean anything.

    Parameters
    ----------
    model, encoded
        The compact model, and the structure of the brain that it encoded.
    domain
        A domain that the model knows.
    settings
        Steps, guidance weights and the seed of the noise.
    start
        The noise that each slice starts from, shape (n, channels, height, width), as `invert_brain` finds it;
        None for one drawn noise for all slices.
    """
    size = model.denoiser.config.sample_size
    drawn = shared_noise(model.denoiser.config.out_channels, size, settings.seed)
    noise = drawn.expand_as(encoded.structure) if start is None else start

    def sampled(part: slice) -> torch.Tensor:
        structure, positions = encoded.structure[part], encoded.positions[part]
        return sample_latents(model, structure, positions, domain, noise[part], settings)

    return _decode_slices(model, encoded, sampled)


def round_trip(model: LatentModel, encoded: EncodedBrain) -> Volume:
    """Return a brain as the autoencoder gives it back: as sharp as sampled contrasts are, and no sharper."""
    return _decode_slices(model, encoded, lambda part: encoded.structure[part])


def _decode_slices(
    model: LatentModel, encoded: EncodedBrain, latents: Callable[[slice], torch.Tensor]
) -> Volume:
    """Return the volume that the latents of the slices decode to, some slices at a time."""
    voxels = np.zeros(encoded.brain.shape, np.float32)
    with torch.inference_mode():
        for part in encoded.parts():
            decoded = model.decode(latents(part))[:, 0].cpu().numpy()
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
    """Run the sampler from pure noise to latents, DDIM with η = 0 (Song et al. 2021, equation 12).

    The arguments are those of `prediction`; the noise has the shape of `structure`, or (1, channels, height,
    width) for one noise for all slices.
    """
    schedule = model.schedule
    times = sampling_times(settings.steps, 1.0, len(schedule.alphas))
    predict = prediction(model, structure, positions, domain, settings)
    return schedule.descend(noise.to(structure).expand_as(structure), steps_along(times), predict)


def invert_brain(
    model: LatentModel, encoded: EncodedBrain, source: Domain, settings: SamplingSettings
) -> torch.Tensor:
    """Return the noise from which a brain's slices are sampled under the prompt of their own domain.

    Dual diffusion implicit bridges (DDIB, Su et al. 2023) sample from this noise under another prompt: the
    deterministic sampler runs backward under the source's prompt, then forward under the target's. The
    settings are those of the later sampling. Shape (n, channels, height, width).
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
    """Run the sampler of `sample_latents` backward, from a scan's latents, its own structure, to noise.

    Each step back is guessed from the prediction where it begins (Song et al. 2021, section 4.3). But the
    sampler will predict where it ends, so the guess is refined as a fixed point: the step back is repeated
    with the prediction at the guess (Pan et al. 2023, AIDI; Garibi et al. 2024, ReNoise).
    """
    schedule = model.schedule
    times = sampling_times(settings.steps, 1.0, len(schedule.alphas))
    predict = prediction(model, structure, positions, source, settings)
    latents = structure
    for time, following in reversed(steps_along(times)):
        begin = following or 0  # the scan itself, without noise, counts as the first training time
        guess = schedule.step(predict(latents, begin), latents, begin, time)
        for _ in range(settings.refinements):
            guess = schedule.step_back(predict(guess, time), latents, time, following)
        latents = guess
    return latents
