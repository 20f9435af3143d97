"""A CycleGAN's settings, generators and discriminators (Zhu et al. 2017; Isola et al. 2017).

The networks see neighbouring coronal slices in units of their own. If the settings say so, further channels
say where each pixel lies in the head (`located`); generators return these channels unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from mrharmony.networks.settings import Settings, read_preset
from mrharmony.space.intensity import WHITE

OUTSIDE = -1.0  # what is not brain, in the networks' units
_PLACES = 3  # channels that say where a pixel lies
SLOPE = 0.2  # of leaky rectifiers
SHUFFLE = 2  # pixels along each edge that enter a convolution as one: the finest level costs a quarter
CONTEXT = 4  # pixels along each edge that the surroundings of a tone are averaged over
_SURROUNDINGS = 8  # features of the surroundings


class CycleGanSettings(Settings):
    """A training run for one pair of domains; docs/evidence/cyclegan.md says how the defaults were chosen."""

    slices: Literal[1, 3] = 3  # neighbouring coronal slices that are translated together
    positions: bool = False  # the networks see where in the head each pixel lies
    generator: Literal["tone", "convolutional"] = "tone"  # 1×1 convolutions and coarse surroundings, or 3×3
    channels: int = Field(32, ge=2, le=8192)  # of the generators' finest level
    # Residual blocks of a generator; of the convolutional one at the coarse level.
    blocks: int = Field(1, ge=0, le=64)
    residual: bool = True  # the generators give a change of the slice, not the slice
    norm: Literal["instance", "none"] = "none"
    discriminator_channels: int = Field(16, ge=2, le=8192)
    # Layers that halve the slice: 1 sees 10 pixels, 2 see 18, 3 see 38; after 5, 2 × 2 pixels are left.
    discriminator_layers: int = Field(3, ge=1, le=5)
    cycle_weight: float = Field(10.0, ge=0)
    identity_weight: float = Field(0.0, ge=0)
    steps: int = Field(3200, ge=1)
    batch: int = Field(4, ge=1)  # slices of each domain a step
    learning_rate: float = Field(2e-3, gt=0)
    beta2: float = Field(0.99, ge=0, lt=1)  # of Adam: the decay of its second moments
    decay_share: float = Field(0.5, ge=0, le=1)  # of the steps, in which the rate falls linearly to 0
    ema_decay: float = Field(0.998, ge=0, lt=1)
    pool: int = Field(0, ge=0)  # generated slices that the discriminators remember
    checkpoint_every: int = Field(100, ge=1)  # steps
    seed: int = Field(0, ge=0)

    @classmethod
    def preset(cls, name: str) -> Self:
        """Return a preset that ships with the package (`published`), or the settings in a YAML file."""
        return read_preset(cls, "mrharmony.networks.cyclegan", name)


def to_units(intensities: Tensor) -> Tensor:
    """Return canonical intensities in the networks' units: -1 is 0, 1 is 1.25 canonical units."""
    return intensities * (2 / WHITE) + OUTSIDE


def from_units(slices: Tensor) -> Tensor:
    """Return slices as canonical intensities, none below 0; undoes `to_units`."""
    return ((slices - OUTSIDE) * (WHITE / 2)).clamp_min(0)


def channels_of(settings: CycleGanSettings) -> int:
    """Return how many channels the networks see: neighbouring slices, and where they lie."""
    return settings.slices + _PLACES * settings.positions


def located(slices: Tensor, rows: Sequence[int], length: int) -> Tensor:
    """Return slices (batch, slices, i, k) with three more channels, which say where each pixel lies.

    They are distance from the midplane, 0 to 1, height and place along the head, -1 to 1. `rows` are the
    middle slices' rows of the grid, of `length` rows in all.
    """
    width, height = slices.shape[2:]
    across = torch.linspace(-1, 1, width).abs()[:, None].expand(width, height)
    up = torch.linspace(-1, 1, height).expand(width, height)
    along = torch.tensor([2 * row / (length - 1) - 1 for row in rows]).view(-1, 1, 1)
    along = along.expand(-1, width, height)
    places = torch.stack([across.expand_as(along), up.expand_as(along), along], 1)
    return torch.cat([slices, places], 1)


def norm(kind: str, channels: int) -> nn.Module:
    """Return instance normalization, or nothing.

    Instance normalization takes each channel's mean and contrast away, and with them much of what sets
    scanners apart.
    """
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


def level(kind: str, before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Return a 3×3 convolution, normalized and rectified."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), norm(kind, after), nn.ReLU())


class Generator(nn.Module):
    """A network that changes slices, inside the brain only."""

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
        """Return the slices with the other domain's contrast, each in its place.

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

    Its rectifiers leak: at the high learning rate that training uses, plain ones die and leave a constant.
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


class Discriminator(nn.Module):
    """PatchGAN: scores each patch by whether it comes from the domain (Isola et al. 2017, section 3.2.2)."""

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
