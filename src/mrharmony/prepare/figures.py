"""What a preparation is judged by, in figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mrharmony.prepare.grid import CANONICAL_GRID
from mrharmony.prepare.mask_quality import brain_on_template, dice, millilitres, template_on_grid
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.volume import Matrix


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
    size
        Edge of the head as a multiple of the template's.
    scale
        The bias-corrected intensity that is 1 in canonical units.
    """

    brain_ml: float
    template_correlation: float
    template_dice: float
    rotation_degrees: float
    shift_mm: float
    size: float
    scale: float


def preparation_figures(prepared: PreparedScan) -> PreparationFigures:
    """Return the figures of a prepared scan."""
    native, mask = prepared.native, prepared.brain_mask
    wanted, wanted_mask = template_on_grid()
    corrected = native.with_voxels(prepared.intensities())
    brain, aligned_mask = brain_on_template(corrected, mask, prepared.posture)
    return PreparationFigures(
        brain_ml=millilitres(native, mask),
        template_correlation=float(np.corrcoef(brain.ravel(), wanted.ravel())[0, 1]),
        template_dice=dice(aligned_mask, wanted_mask),
        rotation_degrees=float(np.degrees(Rotation.from_matrix(prepared.posture[:3, :3]).magnitude())),
        shift_mm=_shift(prepared.posture),
        size=prepared.size,
        scale=prepared.scale,
    )


def _shift(posture: Matrix) -> float:
    """Return how far the head is moved at the centre of the field of view, where turning does not count."""
    centre = CANONICAL_GRID.affine @ [*(np.array(CANONICAL_GRID.shape) - 1) / 2, 1]
    return float(np.linalg.norm((np.linalg.inv(posture) @ centre - centre)[:3]))
