"""Volumes: images that know where they lie in the world, and the types of their arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrharmony.core.findings import MrharmonyError

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


def real_array(argument: str, values: ArrayLike) -> NDArray[Any]:
    """Return an argument as an array of real numbers, without a copy where it is one.

    Raises `MrharmonyError` where it is none, or where NumPy would drop a part of it: imaginary parts, a mask.
    """
    if np.ma.is_masked(values):
        raise MrharmonyError(f"{argument}: has masked entries. Say what they are, for instance filled(0).")
    try:
        array = np.asarray(values)
    except ValueError as failure:  # rows of different lengths
        raise MrharmonyError(f"{argument}: is no array ({failure}). Give an array of numbers.") from failure
    if array.dtype.kind not in "biuf":
        raise MrharmonyError(
            f"{argument}: holds no real numbers ({array.dtype}). Give an array of them; of complex ones "
            "the magnitudes."
        )
    return array


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image and where it lies in the world; both of its arrays are read-only.

    Parameters
    ----------
    voxels
        Intensities, shape (i, j, k), float32. An array of that type is not copied, because images are large:
        give a copy of one that you change later.
    affine
        Voxel indices to world millimetres (RAS+), shape (4, 4), float64; copied.

    Raises
    ------
    MrharmonyError
        If one of them has another shape, or no real numbers; or the affine has no inverse.
    """

    voxels: FloatArray
    affine: Matrix

    def __post_init__(self) -> None:
        voxels = np.asarray(real_array("voxels", self.voxels), dtype=np.float32).view()
        affine = np.array(real_array("affine", self.affine), dtype=np.float64)
        if voxels.ndim != 3:
            raise MrharmonyError(f"voxels: has the shape {voxels.shape}, not (i, j, k). Give one volume.")
        if not _is_affine(affine):
            raise MrharmonyError(
                "affine: is no 4×4 matrix that leads from voxels to millimetres and back. Give the affine of "
                "the image."
            )
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
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> str:
        """Axis codes such as `RAS`: the world direction in which each voxel axis grows."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def with_voxels(self, voxels: NDArray[np.generic]) -> Volume:
        """Return a volume on the same grid with other intensities, shape (i, j, k)."""
        if voxels.shape != self.shape:
            raise MrharmonyError(
                f"voxels: has the shape {voxels.shape}, the volume {self.shape}. Give as many."
            )
        return Volume(np.asarray(voxels, dtype=np.float32), self.affine)

    def __repr__(self) -> str:
        zooms = "×".join(f"{zoom:.3g}" for zoom in self.zooms)
        shape = "×".join(str(size) for size in self.shape)
        return f"Volume({shape}, {zooms} mm, {self.orientation})"


def _is_affine(matrix: Matrix) -> bool:
    """Say whether a matrix is an affine transform of space that can be reversed."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    return bool(np.allclose(matrix[3], (0, 0, 0, 1)) and np.linalg.det(matrix[:3, :3]) != 0)
