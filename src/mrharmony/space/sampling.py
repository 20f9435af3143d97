"""Trilinear sampling of maps at positions in template millimetres, with torch on all cores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from mrharmony.core.volume import Matrix, Scalar


def sample(maps: Tensor, affine: Matrix, positions: Tensor, padding: str = "zeros") -> Tensor:
    """Read maps at arbitrary positions, trilinearly.

    Parameters
    ----------
    maps, affine
        Shape (c, i, j, k), float32, and their voxel indices to mm.
    positions
        In mm, shape (n, 3).
    padding
        `zeros` or `border`: what lies outside of the maps.

    Returns
    -------
    Tensor
        Shape (c, n).
    """
    inverse = torch.from_numpy(np.linalg.inv(affine).astype(np.float32))
    scale = 2 / (torch.tensor(maps.shape[1:], dtype=torch.float32) - 1)
    # grid_sample takes -1..1 from the first voxel's centre to the last one's, the last axis first.
    matrix = (inverse[:3, :3] * scale[:, None]).flip(0)
    coordinates = torch.addmm((inverse[:3, 3] * scale - 1).flip(0), positions, matrix.T)
    sampled = grid_sample(
        maps[None], coordinates[None, None, None], mode="bilinear", padding_mode=padding, align_corners=True
    )
    return sampled[0, :, 0, 0]


def nearest_values(voxels: NDArray[Scalar], affine: Matrix, positions: Tensor) -> NDArray[Scalar]:
    """Read an array, shape (i, j, k), at the voxels nearest to positions in mm, shape (n, 3); returns (n,).

    `affine` leads from voxel indices to mm. Outside of the array its border goes on.
    """
    to_voxel = np.linalg.inv(affine).astype(np.float64)
    places = transform(positions, to_voxel).round().to(torch.int64).numpy().T
    limits = np.array(voxels.shape)[:, None] - 1
    return np.asarray(voxels[tuple(np.clip(places, 0, limits))])


def transform(positions: Tensor, affine: Matrix) -> Tensor:
    """Apply an affine, shape (4, 4), to positions, shape (n, 3), in float32."""
    matrix = torch.from_numpy(affine.astype(np.float32))
    return torch.addmm(matrix[:3, 3], positions, matrix[:3, :3].T)


def voxel_positions(affine: Matrix, voxels: tuple[NDArray[np.intp], ...]) -> Tensor:
    """Return the centres of voxels in mm, shape (n, 3), float32; indices along i, j, k of shape (n,) each."""
    return transform(torch.from_numpy(np.stack(voxels, axis=-1).astype(np.float32)), affine)


def grid_positions(shape: tuple[int, int, int], affine: Matrix) -> Tensor:
    """Return the centres of all voxels of a grid in mm, shape (i * j * k, 3), float32."""
    i, j, k = np.indices(shape).reshape(3, -1)
    return voxel_positions(affine, (i, j, k))
