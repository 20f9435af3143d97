"""Regular grids in template millimetres, on which canonical brains live."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrharmony.core.volume import FloatArray, Matrix

# 160 × 224 × 160 mm (Ikegami et al.), centred on the template's brain: left-right on the midline, so that
# reversing the first axis mirrors the brain exactly; along the other axes with equal room on both sides.
_EXTENT = (160, 224, 160)
CENTRE = (0.0, -17.0, 5.0)


@dataclass(frozen=True)
class Grid:
    """An axis-aligned RAS grid in MNI152 millimetres.

    Parameters
    ----------
    shape
        Voxel counts along right, anterior, superior.
    affine
        Voxel indices to template millimetres, shape (4, 4): positive diagonal and an origin.
    """

    shape: tuple[int, int, int]
    affine: Matrix

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        zooms = np.diag(affine)[:3]
        if affine.shape != (4, 4) or np.any(affine[:3, :3] != np.diag(zooms)) or np.any(zooms <= 0):
            raise ValueError("a grid's affine is 4x4 with a positive diagonal and no rotation")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @classmethod
    def working(cls, zoom: float) -> Grid:
        """Return a grid over the canonical field of view with voxels of another size.

        Parameters
        ----------
        zoom
            Voxel edge in mm, a divisor of 160 and 224 (otherwise `ValueError`): 1, 2, 4, 0.5, … A voxel of
            the grid at 2 mm covers exactly 2×2×2 voxels of the canonical grid.
        """
        counts = np.array(_EXTENT) / zoom if zoom > 0 else np.zeros(3)
        if counts.min() < 1 or not np.allclose(counts, np.round(counts)):
            raise ValueError(f"voxels of {zoom} mm do not fill the field of view of {_EXTENT} mm")
        i, j, k = (int(count) for count in np.round(counts))
        affine = np.diag([zoom, zoom, zoom, 1.0])
        affine[:3, 3] = np.array(CENTRE) - np.array(_EXTENT) / 2 + zoom / 2
        return cls((i, j, k), affine)

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm."""
        i, j, k = np.diag(self.affine)[:3]
        return float(i), float(j), float(k)

    def positions(self) -> FloatArray:
        """Return the template millimetres of all voxel centres, shape (i, j, k, 3)."""
        axes = [self.affine[a, a] * np.arange(self.shape[a]) + self.affine[a, 3] for a in range(3)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)

    def voxel_of(self, positions: FloatArray) -> FloatArray:
        """Return fractional voxel indices of template positions in mm, both shape (..., 3)."""
        voxels = (np.asarray(positions, np.float64) - self.affine[:3, 3]) / np.diag(self.affine)[:3]
        return voxels.astype(np.float32)


CANONICAL_GRID = Grid.working(1.0)  # of canonical brains: 160×224×160 voxels of 1 mm
