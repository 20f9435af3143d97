"""What a preparation is judged by, in figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from mrharmony.prepare.grid import Grid
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.resample import resample_brain
from mrharmony.prepare.template import template, template_brain_mask
from mrharmony.volume import BoolArray, Matrix, Volume

_GRID = Grid.working(4.0)  # compares shapes, not folds


@dataclass(frozen=True)
class PreparationFigures:
    """How a prepared scan compares with the template, and how it lay.

    Parameters
    ----------
    brain_ml
        Volume of the brain mask, ml.
    template_correlation, template_dice
        Pearson correlation with the template's brain on a 4 mm grid, background included, and overlap of the
        masks there, 2 |A ∩ B| / (|A| + |B|); both of the brain grown to the template's volume, at most 1.
    rotation_degrees, shift_mm
        How the head was turned, and how far the template's centre lay from its place.
    scale
        The bias-corrected intensity that is 1 in canonical units.
    """

    brain_ml: float
    template_correlation: float
    template_dice: float
    rotation_degrees: float
    shift_mm: float
    scale: float


def preparation_figures(prepared: PreparedScan) -> PreparationFigures:
    """Return the figures of a prepared scan."""
    brain_ml = _millilitres(prepared.native, prepared.brain_mask)
    growth = (_millilitres(template(), template_brain_mask()) / brain_ml) ** (1 / 3)
    wanted, wanted_mask = _template_brain()
    brain, mask = replace(prepared, posture=_grown(prepared.posture, growth)).canonical(_GRID)
    return PreparationFigures(
        brain_ml=brain_ml,
        template_correlation=float(np.corrcoef(brain.voxels.ravel(), wanted.voxels.ravel())[0, 1]),
        template_dice=float(2 * (mask & wanted_mask).sum() / (mask.sum() + wanted_mask.sum())),
        rotation_degrees=float(np.degrees(Rotation.from_matrix(prepared.posture[:3, :3]).magnitude())),
        shift_mm=_shift(prepared.posture),
        scale=prepared.scale,
    )


def _shift(posture: Matrix) -> float:
    """Return how far the head is moved at the centre of the field of view, where turning does not count."""
    centre = _GRID.affine @ [*(np.array(_GRID.shape) - 1) / 2, 1]
    return float(np.linalg.norm((np.linalg.inv(posture) @ centre - centre)[:3]))


def _millilitres(volume: Volume, brain_mask: BoolArray) -> float:
    return float(brain_mask.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000)


def _grown(posture: Matrix, growth: float) -> Matrix:
    """Return a posture that also scales, about the centre of the template's brain."""
    _, mask = _template_brain()
    centre = apply_affine(_GRID.affine, np.argwhere(mask).mean(axis=0))
    grown: Matrix = from_matvec(np.eye(3) * growth, centre * (1 - growth)) @ posture
    return grown


@cache
def _template_brain() -> tuple[Volume, BoolArray]:
    voxels, mask = resample_brain(template(), template_brain_mask(), _GRID.shape, _GRID.affine)
    return Volume(voxels, _GRID.affine), mask
