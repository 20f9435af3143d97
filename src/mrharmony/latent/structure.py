"""Contrast randomisation: the same anatomy as no particular scanner saw it (Billot et al. 2023, SynthSeg).

The denoiser sees only such copies as structure while it learns, so at inference any scanner's scan will do.
Drawing the randomness is apart from applying it: the same `StructureLook` replays the same copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

TONE_KNOTS = 8
TONE_RANGE = 1.4  # canonical units that the tone curve's knots span


@dataclass(frozen=True)
class StructureLook:
    """The random look of a batch of structure copies.

    Parameters
    ----------
    tone
        Values of the monotone tone curve at equidistant knots over 0..TONE_RANGE, shape (batch, knots).
    log_bias
        Coarse log receive field, shape (batch, 1, 4, 4), resampled smoothly to the slice.
    blur
        Weight of the blurred slice in the copy, 0..1, shape (batch, 1, 1, 1).
    noise
        Additive noise in canonical units, shape (batch, 1, height, width).
    """

    tone: torch.Tensor
    log_bias: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor


def draw_structure_look(shape: torch.Size, generator: torch.Generator) -> StructureLook:
    """Draw the look of a batch of slices of the given shape (batch, 1, height, width)."""
    batch = shape[0]
    steps = torch.rand(batch, TONE_KNOTS - 1, generator=generator) ** 2 + 0.05
    curve = torch.cat([torch.zeros(batch, 1), steps.cumsum(1)], dim=1)
    straight = torch.linspace(0, TONE_RANGE, TONE_KNOTS)[None]
    bend = torch.rand(batch, 1, generator=generator)
    gain = torch.exp(0.15 * torch.randn(batch, 1, generator=generator))
    tone = gain * (bend * curve / curve[:, -1:] * TONE_RANGE + (1 - bend) * straight)
    strength = 0.15 * torch.rand(batch, 1, 1, 1, generator=generator)
    noise_level = 0.04 * torch.rand(batch, 1, 1, 1, generator=generator)
    return StructureLook(
        tone=tone,
        log_bias=strength * torch.randn(batch, 1, 4, 4, generator=generator),
        blur=torch.rand(batch, 1, 1, 1, generator=generator)
        * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.5),
        noise=noise_level * torch.randn(shape, generator=generator),
    )


def apply_structure_look(slices: torch.Tensor, look: StructureLook) -> torch.Tensor:
    """Return contrast-randomised copies of slices (batch, 1, height, width); the background stays 0."""
    brain = slices > 0
    toned = _tone_curve(slices, look.tone)
    bias = F.interpolate(look.log_bias, slices.shape[-2:], mode="bicubic", align_corners=True).exp()
    biased = toned * bias
    blurred = F.avg_pool2d(biased, 3, stride=1, padding=1)
    mixed = look.blur * blurred + (1 - look.blur) * biased
    return (mixed + look.noise).clamp_min(0) * brain


def _tone_curve(slices: torch.Tensor, tone: torch.Tensor) -> torch.Tensor:
    """Apply each slice's piecewise-linear tone curve, continued linearly above its range."""
    place = slices.flatten(1) / TONE_RANGE * (TONE_KNOTS - 1)
    cell = place.floor().clamp(0, TONE_KNOTS - 2)
    low = tone.gather(1, cell.long())
    high = tone.gather(1, cell.long() + 1)
    return (low + (place - cell) * (high - low)).reshape(slices.shape)
