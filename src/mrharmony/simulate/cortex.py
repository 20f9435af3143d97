"""Cortical thinning as a known factor: the outermost cortical grey matter becomes CSF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from mrharmony.simulate._levels import select_amount
from mrharmony.simulate._resample import grid_positions
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy
from mrharmony.volume import BoolArray, FloatArray, Matrix, MrharmonyError

MAX_THINNING = 0.5
# An ellipsoid about the cerebellum (template mm): its folds are below the resolution of every scan, so it is
# left alone.
CEREBELLUM_CENTRE_MM = np.array([0.0, -62.0, -35.0])
CEREBELLUM_RADII_MM = np.array([60.0, 36.0, 28.0])
REACH_MM = 2.0
# A voxel's place within the ribbon is compared with that of the ribbon around it, so that the cortex thins
# alike everywhere, also where its folds are dense.
AROUND_MM = 6.0
SOFTNESS = 0.3


def thin_cortex(head: Anatomy, share: float, pose: Matrix) -> Anatomy:
    """Turn a share of the cerebral cortex into CSF, from the pial side inward.

    Parameters
    ----------
    head
        The head before.
    share
        Of its cerebral cortex, 0..0.5. A cortex 2.5 mm thick is thinner by 2.5 mm times the share.
    pose
        The head's millimetres to template millimetres, shape (4, 4).

    Returns
    -------
    Anatomy
        The same head with less cortex and more CSF; brain mask, WM, deep GM and ventricles are as before.

    Raises
    ------
    MrharmonyError
        If the share is out of range.
    """
    if not 0 <= share <= MAX_THINNING:
        raise MrharmonyError(f"cortical_thinning must lie within 0..{MAX_THINNING:g}, not {share:g}")
    if share == 0:
        return head
    deviation = REACH_MM / np.array(head.zooms)
    outer = gaussian_filter(
        head.tissues[CSF] - head.ventricles + 1 - head.tissues.sum(axis=0), deviation, mode="nearest"
    )
    inner = gaussian_filter(head.tissues[WM] + head.tissues[DEEP_GM], deviation, mode="nearest")
    tissues = head.tissues.copy()
    cortical = (tissues[CORTICAL_GM] > 0) & ~_cerebellum(head, pose)
    cortex = tissues[CORTICAL_GM, cortical]
    pial = outer / np.maximum(outer + inner, 1e-6)
    around = _mean_around(pial, tissues[CORTICAL_GM], AROUND_MM / np.array(head.zooms))
    lost = select_amount(
        (pial - around)[cortical], cortex, share * float(cortex.sum(dtype=np.float64)), SOFTNESS
    )
    tissues[CORTICAL_GM, cortical] -= lost
    tissues[CSF, cortical] += lost
    return replace(head, tissues=tissues, cortical_thinning=share)


def _cerebellum(head: Anatomy, pose: Matrix) -> BoolArray:
    positions = grid_positions(head.shape, pose @ head.affine).numpy().reshape(*head.shape, 3)
    inside = ((positions - CEREBELLUM_CENTRE_MM) / CEREBELLUM_RADII_MM) ** 2
    return np.asarray(inside.sum(axis=-1) < 1)


def _mean_around(values: FloatArray, weights: FloatArray, deviation: Matrix) -> FloatArray:
    total = gaussian_filter(weights, deviation)
    return np.asarray(gaussian_filter(values * weights, deviation) / np.maximum(total, 1e-6))
