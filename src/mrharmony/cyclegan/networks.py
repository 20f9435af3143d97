"""The networks of a CycleGAN: generators that change coronal slices, discriminators that judge patches.

Zhu, Park, Isola and Efros 2017, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV, made small enough for one processor core.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from mrharmony.cyclegan.settings import CycleGanSettings

OUTSIDE = -1.0  # what is not brain, in the networks' units
SHUFFLE = 2  # pixels along each edge that enter as one, so that the finest level costs a quarter
_SLOPE = 0.2  # of the discriminators' leaky rectifiers


def _norm(settings: CycleGanSettings, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels) if settings.norm == "instance" else nn.Identity()


class _Block(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, settings: CycleGanSettings, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(settings, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(settings, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        changed: Tensor = features + self.convolutions(features)
        return changed


def _level(settings: CycleGanSettings, before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1)
    return nn.Sequential(convolution, _norm(settings, after), nn.ReLU())


class Generator(nn.Module):
    """Encoder and decoder from slices of one domain to the same slices in the other's look.

    Parameters
    ----------
    settings
        Channels, blocks, and whether the change or the slice itself is given.
    """

    def __init__(self, settings: CycleGanSettings) -> None:
        super().__init__()
        pixels, fine, coarse = SHUFFLE**2 * settings.slices, settings.channels, 2 * settings.channels
        self.slices, self.residual = settings.slices, settings.residual
        self.first = _level(settings, pixels, fine)
        self.down = _level(settings, fine, coarse, stride=2)
        self.blocks = nn.Sequential(*(_Block(settings, coarse) for _ in range(settings.blocks)))
        self.up = _level(settings, coarse, fine)
        self.last = nn.Conv2d(fine, pixels, 3, padding=1)
        if settings.residual:  # training then starts from slices that are left as they are
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, slices: Tensor, inside: Tensor) -> Tensor:
        """Return the slices in the other domain's look.

        Parameters
        ----------
        slices
            Neighbouring coronal slices, -1 is 0 and 1 is 1.25 canonical units, shape (batch, slices, i, k);
            i and k are multiples of 4.
        inside
            Where there is brain, boolean, same shape; elsewhere the result is -1.
        """
        fine = self.first(nn.functional.pixel_unshuffle(slices, SHUFFLE))
        coarse = self.blocks(self.down(fine))
        restored = self.up(nn.functional.interpolate(coarse, scale_factor=2.0)) + fine
        made = nn.functional.pixel_shuffle(self.last(restored), SHUFFLE)
        changed = slices + made if self.residual else made
        return torch.where(inside, changed, OUTSIDE)


class Discriminator(nn.Module):
    """PatchGAN: says of each patch whether it comes from the domain (Isola et al. 2017, section 3.2.2).

    Parameters
    ----------
    settings
        Channels, layers and normalization.
    """

    def __init__(self, settings: CycleGanSettings) -> None:
        super().__init__()
        widths = [
            settings.discriminator_channels * 2**layer for layer in range(settings.discriminator_layers)
        ]
        layers: list[nn.Module] = [
            nn.Conv2d(settings.slices, widths[0], 4, 2, padding=1),
            nn.LeakyReLU(_SLOPE),
        ]
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 4, 2, padding=1)
            layers += [convolution, _norm(settings, after), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, slices: Tensor) -> Tensor:
        """Return a score a patch, near 1 for slices of the domain and near 0 for others."""
        scores: Tensor = self.layers(slices)
        return scores
