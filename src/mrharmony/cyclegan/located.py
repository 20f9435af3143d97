"""Slices as the networks see them: neighbours in their own units, and where each pixel lies in the head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrharmony.cyclegan.settings import CycleGanSettings
from mrharmony.latent.translation import WHITE

OUTSIDE = -1.0  # what is not brain, in the networks' units
_PLACES = 3  # channels that say where a pixel lies


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
    """Return slices with three channels more: distance from the midplane, height, and place along the head.

    Parameters
    ----------
    slices
        Shape (batch, slices, i, k).
    rows
        Which row of the grid each middle slice is, length batch.
    length
        How many rows the grid has.

    Returns
    -------
    Shape (batch, slices + 3, i, k); the further channels run from -1 to 1, the distance from 0 to 1.
    """
    width, height = slices.shape[2:]
    across = torch.linspace(-1, 1, width).abs()[:, None].expand(width, height)
    up = torch.linspace(-1, 1, height).expand(width, height)
    along = torch.tensor([2 * row / (length - 1) - 1 for row in rows]).view(-1, 1, 1)
    along = along.expand(-1, width, height)
    places = torch.stack([across.expand_as(along), up.expand_as(along), along], 1)
    return torch.cat([slices, places], 1)
