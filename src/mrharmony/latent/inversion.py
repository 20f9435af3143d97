"""DDIB: the noise that a scan came from under its own prompt, where sampling under another one starts.

"Dual diffusion implicit bridges for image-to-image translation" (Su et al. 2023): the deterministic sampler
runs backward under the source's prompt, then forward under the target's.
"""

from __future__ import annotations

import torch

from mrharmony.latent.guidance import SamplingSettings, guided_velocity
from mrharmony.latent.model import LatentModel
from mrharmony.latent.noise_schedule import NoiseSchedule, sampling_times
from mrharmony.latent.sampling import EncodedBrain
from mrharmony.volume import Domain


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
