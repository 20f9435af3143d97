"""Anatomy: which tissue fills each voxel of a head, before any scanner has seen it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import BoolArray, FloatArray, Matrix

CSF, CORTICAL_GM, WM, DEEP_GM = range(4)
LESION_LABEL = 5


@dataclass(frozen=True)
class Anatomy:
    """A skull-stripped head as tissue shares on a grid.

    Parameters
    ----------
    tissues
        Share of each voxel that is CSF, cortical GM, WM, deep GM: float32, shape (4, i, j, k),
        sum ≤ 1, all 0 outside the brain.
    myelination
        0..1, shape (i, j, k), smooth: shortens T1 of WM and cortex by a few percent where it is high.
    ventricles
        Share of each voxel that is CSF of the lateral and third ventricles, shape (i, j, k); ≤ CSF.
    affine
        Voxel indices to template (MNI152) millimetres, shape (4, 4).
    ventricle_scale
        Ventricle volume as a factor of the base anatomy's; 1 for a base anatomy itself.
    cortical_thinning
        Share of the base anatomy's cerebral cortex that has become CSF.
    lesions
        Share of each voxel that is white-matter lesion, shape (i, j, k), or `None` without any. A lesion is
        made of tissues: mostly cortical GM, whose signal it has, and some WM (`lesions.py`).
    """

    tissues: FloatArray
    myelination: FloatArray
    ventricles: FloatArray
    affine: Matrix
    ventricle_scale: float = 1.0
    cortical_thinning: float = 0.0
    lesions: FloatArray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts along i, j, k."""
        i, j, k = self.myelination.shape
        return i, j, k

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def brain_mask(self) -> BoolArray:
        """Voxels that are brain (CSF inside it included) for at least one half, shape (i, j, k)."""
        return np.asarray(self.tissues.sum(axis=0) >= 0.5)

    @property
    def ventricle_volume_ml(self) -> float:
        """Volume of the lateral and third ventricles in millilitres."""
        return float(self.ventricles.sum(dtype=np.float64)) * self.voxel_ml

    @property
    def lesions_ml(self) -> float:
        """Volume of the white-matter lesions in millilitres."""
        return 0.0 if self.lesions is None else float(self.lesions.sum(dtype=np.float64)) * self.voxel_ml

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def labels(self) -> NDArray[np.uint8]:
        """Largest tissue: 0 outside, 1 CSF, 2 cortical GM, 3 WM, 4 deep GM; 5 where lesion is the half."""
        largest = self.tissues.argmax(axis=0).astype(np.uint8) + np.uint8(1)
        if self.lesions is not None:
            largest[self.lesions >= 0.5] = LESION_LABEL
        return np.where(self.brain_mask, largest, np.uint8(0))

    def crop(self, *spans: slice) -> Anatomy:
        """Return the part within three slices along i, j, k (step 1), with its affine moved along."""
        corner = [span.indices(size)[0] for span, size in zip(spans, self.shape, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ corner
        return replace(
            self,
            tissues=self.tissues[:, *spans],
            myelination=self.myelination[spans],
            ventricles=self.ventricles[spans],
            affine=affine,
            lesions=None if self.lesions is None else self.lesions[spans],
        )
