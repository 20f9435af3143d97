"""Voxel orders: any scan as right-anterior-superior, and back."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from mrharmony.core.volume import Volume

Scalar = TypeVar("Scalar", bound=np.generic)

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def to_ras(volume: Volume) -> Volume:
    """Return the same voxels in the order closest to RAS, with the affine that keeps them in place."""
    affine = volume.affine @ inv_ornt_aff(io_orientation(volume.affine), volume.shape)
    return Volume(array_to_ras(volume.voxels, volume), affine)


def array_to_ras(array: NDArray[Scalar], like: Volume) -> NDArray[Scalar]:
    """Reorder an array on a volume's grid as `to_ras` reorders the volume."""
    return np.ascontiguousarray(apply_orientation(array, io_orientation(like.affine)))


def array_from_ras(array: NDArray[Scalar], like: Volume) -> NDArray[Scalar]:
    """Undo `array_to_ras`: return an array in RAS order in the volume's own order."""
    back = ornt_transform(_RAS, io_orientation(like.affine))
    return np.ascontiguousarray(apply_orientation(array, back))
