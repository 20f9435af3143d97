"""The discriminators of a CycleGAN."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from mrharmony.cyclegan.layers import SLOPE, norm
from mrharmony.cyclegan.located import channels_of
from mrharmony.cyclegan.settings import CycleGanSettings


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
            nn.Conv2d(channels_of(settings), widths[0], 4, 2, padding=1),
            nn.LeakyReLU(SLOPE),
        ]
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 4, 2, padding=1)
            layers += [convolution, norm(settings.norm, after), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, slices: Tensor) -> Tensor:
        """Return a score a patch, near 1 for slices of the domain and near 0 for others."""
        scores: Tensor = self.layers(slices)
        return scores
