"""Volumes: images that know where they lie in the world, and the types of their arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Matrix = NDArray[np.float64]


Scalar = TypeVar("Scalar", bound=np.generic)
Box = tuple[slice, slice, slice]


def bounding_box(mask: BoolArray) -> Box:
    """Return the smallest box that holds a mask which is not empty."""
    held = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    i, j, k = (slice(int(places[0]), int(places[-1]) + 1) for places in held)
    return i, j, k


def cropped(voxels: NDArray[Scalar], box: Box) -> NDArray[Scalar]:
    """Return the voxels of a box, in memory one after the other, the last axis first."""
    return np.ascontiguousarray(voxels[box])


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image and where it lies in the world; immutable.

    Parameters
    ----------
    voxels
        Intensities, shape (i, j, k), float32.
    affine
        Voxel indices to world millimetres (RAS+), shape (4, 4), float64.
    """

    voxels: FloatArray
    affine: Matrix

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels, dtype=np.float32).view()
        affine = np.array(self.affine, dtype=np.float64)
        if voxels.ndim != 3 or affine.shape != (4, 4):
            raise ValueError(f"expected (i, j, k) and a 4x4 affine, got {voxels.shape}, {affine.shape}")
        voxels.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts along i, j, k."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def orientation(self) -> str:
        """Axis codes such as `RAS`: the world direction in which each voxel axis grows."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def with_voxels(self, voxels: NDArray[np.generic]) -> Volume:
        """Return a volume on the same grid with other intensities, shape (i, j, k)."""
        if voxels.shape != self.shape:
            raise ValueError(f"expected voxels of shape {self.shape}, got {voxels.shape}")
        return Volume(np.asarray(voxels, dtype=np.float32), self.affine)

    def __repr__(self) -> str:
        zooms = "×".join(f"{zoom:.3g}" for zoom in self.zooms)
        shape = "×".join(str(size) for size in self.shape)
        return f"Volume({shape}, {zooms} mm, {self.orientation})"
