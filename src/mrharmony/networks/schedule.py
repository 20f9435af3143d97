"""The noise schedule of a diffusion model as plain numbers, and DDIM sampling along it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mrharmony.core.findings import MrharmonyError

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

PREDICTIONS = ("epsilon", "v_prediction")
_LEAST_ALPHA = 1e-10  # α̅ that a picture can be computed from noise at; usual schedules end at 1e-9 or more


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much of the picture and of the noise there is at each training time."""

    alphas: torch.Tensor  # cumulative products, α̅ in Ho et al. 2020, shape (times,), falling from near 1
    last_alpha: float  # α̅ after the last step of sampling
    prediction: str  # of the network: `epsilon`, the noise, or `v_prediction`, v = √α̅ ε - √(1-α̅) x₀

    @classmethod
    def of(cls, scheduler: DDIMScheduler) -> NoiseSchedule:
        """Return the schedule of a DDIM scheduler of diffusers, whose model must predict noise or v."""
        prediction = scheduler.config.prediction_type
        if prediction not in PREDICTIONS:
            raise MrharmonyError(
                f"The model predicts {prediction}; choose one that predicts {' or '.join(PREDICTIONS)}."
            )
        return cls(scheduler.alphas_cumprod.double(), float(scheduler.final_alpha_cumprod), prediction)

    @property
    def is_sound(self) -> bool:
        """Whether it falls from nearly the picture to nearly noise.

        To noise alone only where v is predicted: from noise, nothing of the picture can be computed there.
        """
        first, last = float(self.alphas[0]), float(self.alphas[-1])
        least = _LEAST_ALPHA if self.prediction == "epsilon" else 0.0
        falls = bool((self.alphas.diff() <= 0).all())  # so no NaN is among them
        return falls and 0.9 < first < 1 and least <= last < 0.1

    def noisy(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Return √α̅ x₀ + √(1-α̅) ε, shape of `clean`, at one time each, shape (batch,)."""
        signal, spread = self._shares(times, clean)
        return signal * clean + spread * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Return what the network should predict, shape of `clean`."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._shares(times, clean)
        return signal * noise - spread * clean

    def step(
        self, predicted: torch.Tensor, latents: torch.Tensor, time: int, following: int | None
    ) -> torch.Tensor:
        """Go from one time to the following one, or to the end where that is None.

        DDIM with η = 0 (Song et al. 2021, equation 12), for any two times.
        """
        alpha = float(self.alphas[time])
        signal, spread = math.sqrt(alpha), math.sqrt(1 - alpha)
        if self.prediction == "epsilon":
            clean, noise = (latents - spread * predicted) / signal, predicted
        else:
            clean, noise = signal * latents - spread * predicted, signal * predicted + spread * latents
        next_alpha = self.last_alpha if following is None else float(self.alphas[following])
        return math.sqrt(next_alpha) * clean + math.sqrt(1 - next_alpha) * noise

    def descend(
        self,
        latents: torch.Tensor,
        steps: Iterable[tuple[int, int | None]],
        predict: Callable[[torch.Tensor, int], torch.Tensor],
    ) -> torch.Tensor:
        """Take latents down all steps of `steps_along`; `predict` is the network, given latents and time."""
        for time, following in steps:
            latents = self.step(predict(latents, time), latents, time, following)
        return latents

    def snr_weights(self, times: torch.Tensor, gamma: float | None) -> torch.Tensor:
        """Return the weight of each picture's squared error, shape (batch,), float32.

        min(SNR, γ) / SNR for noise, min(SNR, γ) / (SNR + 1) for v (Hang et al. 2023, 3.4); 1 for γ None.
        """
        if gamma is None:
            return torch.ones(len(times))
        alpha = self.alphas[times.cpu()]
        snr = (alpha / (1 - alpha)).clamp_min(1e-8)  # 0 where the schedule ends in pure noise
        divisor = snr if self.prediction == "epsilon" else snr + 1
        return (snr.clamp_max(gamma) / divisor).float()

    def _shares(self, times: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alphas[times.cpu()][:, None, None, None]
        return alpha.sqrt().to(like), (1 - alpha).sqrt().to(like)


def sampling_times(steps: int, strength: float, training_times: int) -> list[int]:
    """Return the times that image-to-image passes through, falling.

    The steps divide the whole schedule of `training_times` evenly, its last time among them (Lin et al. 2024,
    section 3.3); of these the last round(steps · strength) are taken, strength being the share of the
    schedule that is run: at least one unless it is 0.
    """
    spaced = [round(training_times * (steps - n) / steps) - 1 for n in range(steps)]
    count = max(math.floor(steps * strength + 0.5), 1 if strength > 0 else 0)
    return spaced[steps - count :]


def steps_along(times: Sequence[int]) -> list[tuple[int, int | None]]:
    """Return each time with the following one; the last is followed by None, the end."""
    return list(zip(times, [*times[1:], None], strict=True))
