"""How prompt and structure are weighed against each other while the model samples."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, ValidationError, model_validator

from mrharmony.latent.config import NO_PROMPT, Settings
from mrharmony.latent.denoiser import predict_velocity
from mrharmony.latent.model import LatentModel
from mrharmony.volume import Domain, MrharmonyError

GREATEST_WEIGHT = 100.0  # the paper's guidance scale
DDIB_STEPS = 4  # the knee, in benchmarks/results/guidance


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
