"""Slices as Stable Diffusion takes them: upright, three channels, -1..1, padded; floats, and exactly back."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mrharmony.latent.translation import WHITE


def to_pictures(slices: torch.Tensor, enlarge: int, multiple: int) -> torch.Tensor:
    """Return slices as pictures.

    Parameters
    ----------
    slices
        Canonical intensities, shape (batch, 1, i, k): rows and columns are the voxel axes left in the slice.
    enlarge
        Picture pixels a voxel edge, interpolated linearly.
    multiple
        Height and width are padded with black, on both sides, up to multiples of it.

    Returns
    -------
    Shape (batch, 3, height, width), superior up; -1 is 0, 1 is 1.25 canonical units and all above.
    """
    upright = torch.rot90(slices, 1, dims=(2, 3)) / WHITE * 2 - 1
    if enlarge > 1:
        upright = F.interpolate(upright, scale_factor=enlarge, mode="bilinear", align_corners=False)
    height, width = upright.shape[-2:]
    top, bottom = _margins(height, multiple)
    left, right = _margins(width, multiple)
    padded = F.pad(upright.clamp(-1, 1), (left, right, top, bottom), value=-1.0)
    return padded.expand(-1, 3, -1, -1)


def to_slices(pictures: torch.Tensor, size: tuple[int, int], enlarge: int, multiple: int) -> torch.Tensor:
    """Return pictures as slices of canonical intensities; undoes `to_pictures`.

    Parameters
    ----------
    pictures
        Shape (batch, 3, height, width); the channels are averaged.
    size
        Rows and columns of the slices.
    enlarge, multiple
        As they were given to `to_pictures`; enlarged pixels are averaged.
    """
    width, height = (edge * enlarge for edge in size)
    top, left = _margins(height, multiple)[0], _margins(width, multiple)[0]
    grey = pictures.mean(dim=1, keepdim=True)[:, :, top : top + height, left : left + width]
    if enlarge > 1:
        grey = F.avg_pool2d(grey, enlarge)
    return torch.rot90((grey + 1) / 2 * WHITE, -1, dims=(2, 3))


def _margins(size: int, multiple: int) -> tuple[int, int]:
    missing = -size % multiple
    return missing // 2, missing - missing // 2
