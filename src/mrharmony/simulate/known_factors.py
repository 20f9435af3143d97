"""Known factors of a head: cortical thinning and white-matter lesions, exactly as large as requested.

Thinning turns the outermost cortical grey matter into CSF. Lesions are smooth blobs around the ventricles and
in deep white matter, where Wen and Sachdev 2004, NeuroImage 22:144, found them: all of 477 people of 60 to 64
years had periventricular lesions, 97 % had deep ones, and the 4 mm of white matter next to the cortex were
spared.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy
from mrharmony.simulate.warp import LATTICE_AFFINE, LATTICE_MM, LATTICE_SHAPE
from mrharmony.space.sampling import grid_positions, sample, transform, voxel_positions

HALVINGS = 40  # of the bisection in `select_amount`
MAX_THINNING = 0.5
# An ellipsoid about the cerebellum (template mm): its folds are below the resolution of every scan, so it is
# left alone.
CEREBELLUM_CENTRE_MM = np.array([0.0, -62.0, -35.0])
CEREBELLUM_RADII_MM = np.array([60.0, 36.0, 28.0])
REACH_MM = 2.0  # standard deviation of the blur that says how near CSF and white matter are
# A voxel's place within the ribbon is compared with that of the ribbon around it, so that the cortex thins
# alike everywhere, also where its folds are dense.
AROUND_MM = 6.0
CORTEX_SOFTNESS = 0.3  # in the score of `thin_cortex`, a difference of places within the ribbon, 0 to 1
MAX_LESIONS_ML = 60.0
# T1 of lesions lies between that of WM and of CSF, so that they resemble GM (its share is an assumption).
GREY_SHARE = 0.85
BLOB_MM = 3.5  # standard deviation of the blur of the random field
LESION_SOFTNESS = 0.8  # standard deviations of the random field
SPARED_MM = 4.0  # next to the cortex
CORTEX_BLUR_MM = 1.5
CAPS = 2.5  # standard deviations in favour of the wall of the ventricles
CAPS_MM = 5.0  # distance from the wall at which that is 1 / e
FADING_MM = 12.0  # one standard deviation less likely with every so much distance from the ventricles


def select_amount(
    score: NDArray[np.floating], available: NDArray[np.floating], total: float, softness: float
) -> FloatArray:
    """Take a given `total` where a score is highest, by bisection of a soft threshold of the score.

    Of what is available at each place (≥ 0, the score's shape), the share taken goes from 0 to 1 over a width
    of `softness` in the score's unit. What is taken grows everywhere with `total`.
    """
    low, high = float(score.min()) - softness, float(score.max()) + softness
    for _ in range(HALVINGS):
        level = (low + high) / 2
        taken = available * np.clip((score - level) / softness + 0.5, 0, 1)
        low, high = (level, high) if taken.sum(dtype=np.float64) > total else (low, level)
    return np.asarray(taken, dtype=np.float32)


def thin_cortex(head: Anatomy, share: float, pose: Matrix) -> Anatomy:
    """Turn a share of the cerebral cortex into CSF, from the pial side inward; all else stays.

    The share is 0..0.5 (otherwise `MrharmonyError`): a cortex of 2.5 mm becomes thinner by 2.5 mm times that.
    `pose` maps the head's millimetres to template millimetres, shape (4, 4).
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
        (pial - around)[cortical], cortex, share * float(cortex.sum(dtype=np.float64)), CORTEX_SOFTNESS
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


def random_blobs(rng: np.random.Generator) -> FloatArray:
    """Draw a smooth random field of unit deviation on the warps' lattice: where lesions tend to be."""
    noise = rng.standard_normal(LATTICE_SHAPE, dtype=np.float32)
    smooth = gaussian_filter(noise, BLOB_MM / LATTICE_MM, mode="wrap")
    return np.asarray(smooth / smooth.std())


def add_lesions(head: Anatomy, blobs: FloatArray, volume_ml: float, pose: Matrix) -> Anatomy:
    """Turn white matter into lesions of a known volume, by moving tissue from WM to cortical GM.

    Parameters
    ----------
    head
        The head before.
    blobs
        `random_blobs`: the same blobs with a larger volume give the same lesions, grown.
    volume_ml
        Of all lesions, 0..60 ml; `MrharmonyError` beyond, or if the head has too little white matter.
    pose
        The head's millimetres to those of the lattice, shape (4, 4).
    """
    if not 0 <= volume_ml <= MAX_LESIONS_ML:
        raise MrharmonyError(f"lesions_ml must lie within 0..{MAX_LESIONS_ML:g}, not {volume_ml:g}")
    if volume_ml == 0:
        return head
    from_cortex = _distance_mm(head, _cortex(head))
    white = np.where(from_cortex > SPARED_MM, head.tissues[WM], 0)
    places = np.nonzero(white > 0)
    available = white[places]
    total = volume_ml / head.voxel_ml
    if total > available.sum(dtype=np.float64):
        raise MrharmonyError(f"this head has too little deep white matter for {volume_ml:g} ml of lesions")
    positions = transform(voxel_positions(head.affine, places), pose)
    field = sample(torch.from_numpy(blobs)[None], LATTICE_AFFINE, positions, "border")[0].numpy()
    distance = _distance_mm(head, head.ventricles > 0.5)[places]
    score = field + CAPS * np.exp(-distance / CAPS_MM) - distance / FADING_MM
    score -= np.maximum(2 * SPARED_MM - from_cortex[places], 0) / SPARED_MM
    lesions = np.zeros(head.shape, dtype=np.float32)
    lesions[places] = select_amount(score, available, total, LESION_SOFTNESS)
    tissues = head.tissues.copy()
    tissues[WM] -= np.float32(GREY_SHARE) * lesions
    tissues[CORTICAL_GM] += np.float32(GREY_SHARE) * lesions
    return replace(head, tissues=tissues, lesions=lesions)


def _cortex(head: Anatomy) -> BoolArray:
    """Where cortex is; not the rim of ventricles, whose mixed voxels a segmentation may call grey."""
    blurred = gaussian_filter(head.tissues[CORTICAL_GM], CORTEX_BLUR_MM / np.array(head.zooms))
    return np.asarray(blurred > 0.5)


def _distance_mm(head: Anatomy, region: BoolArray) -> FloatArray:
    """Distance of every voxel from a region; far everywhere if the region is empty."""
    if not region.any():
        return np.full(head.shape, 1e3, dtype=np.float32)
    return np.asarray(distance_transform_edt(~region, sampling=head.zooms), dtype=np.float32)
