"""The generators of a CycleGAN: from slices of one domain to the same slices in the other's look.

If the settings say so, slices come with where they lie (`located`): further channels that generators see and
hand on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from mrharmony.cyclegan.layers import SLOPE, level, norm
from mrharmony.cyclegan.located import OUTSIDE, channels_of
from mrharmony.cyclegan.settings import CycleGanSettings

SHUFFLE = 2  # pixels along each edge that enter a convolution as one: the finest level costs a quarter
CONTEXT = 4  # pixels along each edge that the surroundings of a tone are averaged over
_SURROUNDINGS = 8  # numbers that tell them


class Generator(nn.Module):
    """A network that changes slices, inside the brain only.

    Parameters
    ----------
    settings
        Which network it is, how large, and whether it gives the change or the slice itself.
    """

    def __init__(self, settings: CycleGanSettings) -> None:
        super().__init__()
        self.slices, self.positions = settings.slices, settings.positions
        self.residual = settings.residual
        kind = _Tone if settings.generator == "tone" else _Convolutional
        self.network = kind(settings)
        if settings.residual:  # training then starts from slices that are left as they are
            nn.init.zeros_(self.network.last.weight)
            nn.init.zeros_(self.network.last.bias)  # type: ignore[arg-type]

    def forward(self, slices: Tensor, inside: Tensor) -> Tensor:
        """Return the slices in the other domain's look, where they were.

        Parameters
        ----------
        slices
            Neighbouring coronal slices, -1 is 0 and 1 is 1.25 canonical units, and where they lie; shape
            (batch, channels, i, k); i and k are multiples of 4.
        inside
            Where there is brain, boolean, shape (batch, slices, i, k); elsewhere the result is -1.
        """
        before, places = slices[:, : self.slices], slices[:, self.slices :]
        made: Tensor = self.network(slices)
        changed = before + made if self.residual else made
        return torch.cat([torch.where(inside, changed, OUTSIDE), places], 1)


class _Tone(nn.Module):
    """1×1 convolutions: each pixel's change follows from its value, its place and its coarse surroundings.

    Its rectifiers leak: at rates that make it quick, others die, and nothing but a constant is left.
    """

    def __init__(self, settings: CycleGanSettings) -> None:
        super().__init__()
        inputs, width = channels_of(settings), settings.channels
        self.surroundings = nn.Sequential(
            nn.AvgPool2d(CONTEXT),
            nn.Conv2d(inputs, 2 * _SURROUNDINGS, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * _SURROUNDINGS, 2 * _SURROUNDINGS, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * _SURROUNDINGS, _SURROUNDINGS, 3, padding=1),
        )
        self.first = nn.Conv2d(inputs + _SURROUNDINGS, width, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(settings.blocks))
        self.last = nn.Conv2d(width, settings.slices, 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return what the last convolution gives, shape (batch, slices, i, k)."""
        around = interpolate(self.surroundings(slices), scale_factor=CONTEXT, mode="bilinear")
        features = leaky_relu(self.first(torch.cat([slices, around], 1)), SLOPE)
        for block in self.blocks:
            features = features + leaky_relu(block(features), SLOPE)
        made: Tensor = self.last(features)
        return made


class _Convolutional(nn.Module):
    """Encoder and decoder of 3×3 convolutions, one level down, residual blocks there (Zhu et al. 2017)."""

    def __init__(self, settings: CycleGanSettings) -> None:
        super().__init__()
        fine, coarse = settings.channels, 2 * settings.channels
        self.first = level(settings.norm, SHUFFLE**2 * channels_of(settings), fine)
        self.down = level(settings.norm, fine, coarse, stride=2)
        self.blocks = nn.Sequential(*(_Block(settings.norm, coarse) for _ in range(settings.blocks)))
        self.up = level(settings.norm, coarse, fine)
        self.last = nn.Conv2d(fine, SHUFFLE**2 * settings.slices, 3, padding=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return what the last convolution gives, shape (batch, slices, i, k)."""
        fine = self.first(pixel_unshuffle(slices, SHUFFLE))
        coarse = self.blocks(self.down(fine))
        restored = self.up(interpolate(coarse, scale_factor=2.0)) + fine
        return pixel_shuffle(self.last(restored), SHUFFLE)


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            level(kind, channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm(kind, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        changed: Tensor = features + self.convolutions(features)
        return changed
