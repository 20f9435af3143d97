"""Where a scan says that its voxels lie: the two forms of NIfTI, and how far they are apart."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from nibabel.affines import from_matvec

from mrharmony.volume import Matrix

FORMS_TOLERANCE_MM = 0.1
"""Forms that differ less than this anywhere in the field of view agree: it is rounding."""

SINGULAR = 1e-3
"""Smallest volume of a voxel relative to the product of its edges; below, its axes are coplanar."""


@dataclass(frozen=True)
class Geometry:
    """What a header says about position and orientation.

    Parameters
    ----------
    shape
        Voxel counts along i, j, k.
    zooms
        Voxel edge lengths in the header, before any repair.
    units
        Unit of the zooms: `mm`, `unknown`, `meter` or `micron`.
    sform, qform
        Voxel indices to world millimetres, shape (4, 4); None where not set. A form that is set but
        makes no sense is full of NaN.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    units: str
    sform: Matrix | None
    qform: Matrix | None

    @property
    def affine(self) -> Matrix | None:
        """The form that counts: the sform where it is set, otherwise the qform."""
        return self.qform if self.sform is None else self.sform

    @property
    def sound_affine(self) -> Matrix | None:
        """The same, or None where it cannot be inverted."""
        return self.affine if self.affine is not None and is_invertible(self.affine) else None


class FormDifference(NamedTuple):
    """How far two affines are apart: mm at the worst corner, degrees between axes, handedness."""

    millimetres: float
    degrees: float
    mirrored: bool


def is_invertible(affine: Matrix) -> bool:
    """Say whether an affine is finite and its axes span the space."""
    axes = affine[:3, :3]
    edges = float(np.prod(np.linalg.norm(axes, axis=0)))
    return bool(np.isfinite(affine).all()) and abs(np.linalg.det(axes)) > SINGULAR * edges > 0


def form_difference(sform: Matrix, qform: Matrix, shape: tuple[int, int, int]) -> FormDifference:
    """Compare two invertible affines over a field of view.

    Parameters
    ----------
    sform, qform
        Voxel indices to world millimetres, shape (4, 4).
    shape
        Voxel counts along i, j, k.

    Returns
    -------
    FormDifference
        The distance between the two positions of the worst corner of the field of view, the angle of
        the rotation between the two (meaningless where they mirror each other), and whether they do.
    """
    edges = [(-0.5, size - 0.5) for size in shape]
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*edges)])
    distances = np.linalg.norm(corners @ (sform - qform).T, axis=1)
    rotation = _rotation(sform) @ _rotation(qform).T
    cosine = np.clip((np.trace(rotation) - 1) / 2, -1, 1)
    return FormDifference(
        float(distances.max()), float(np.degrees(np.arccos(cosine))), bool(np.linalg.det(rotation) < 0)
    )


def _rotation(affine: Matrix) -> Matrix:
    """Return the orthogonal matrix closest to the axes of an affine (polar decomposition)."""
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    return np.asarray(left @ right)


def forms_agree(geometry: Geometry) -> bool:
    """Say whether both forms are set and sound and lie within `FORMS_TOLERANCE_MM` of each other."""
    sform, qform = geometry.sform, geometry.qform
    if sform is None or qform is None or not (is_invertible(sform) and is_invertible(qform)):
        return False
    return form_difference(sform, qform, geometry.shape).millimetres <= FORMS_TOLERANCE_MM


def assumed_ras(geometry: Geometry) -> Matrix:
    """Return the affine whose voxel axes run to the right, anterior and superior, centred on the image."""
    centre = (np.array(geometry.shape) - 1) / 2
    zooms = np.array(geometry.zooms)
    return np.asarray(from_matvec(np.diag(zooms), -zooms * centre))
