"""Tissue shares of any prepared brain, so that simulated heads can have real people's anatomies.

A Gaussian mixture with spatial priors and a residual bias field (Van Leemput et al. 1999, IEEE TMI 18:897;
Ashburner and Friston 2005, NeuroImage 26:839), with classes for voxels that two tissues share (Laidlaw et al.
1998, IEEE TMI 17:74), so that the result is partial volumes rather than blobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, gaussian_filter1d
from scipy.special import ndtr

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.simulate.anatomy import (
    Anatomy,
    deep_grey_region,
    myelination_map,
    template_maps,
    ventricle_region,
)
from mrharmony.space.sampling import grid_positions, sample

ITERATIONS = 15
BIAS_BLUR_MM = 22.0
NEIGHBOUR_BLUR_MM = 1.0
NEIGHBOUR_WEIGHT = 0.7
NEIGHBOUR_ROUNDS = 2
LEAST_CONTRAST = 1.05  # white over grey matter; below, the scan is not T1-weighted
SMALLEST_BRAIN_ML = 300
# Pairs of CSF, GM, WM that share voxels, and how likely that is beside the pure classes.
MIXED_PAIRS = ((0, 1), (1, 2), (0, 2))
MIXED_WEIGHTS = (1.0, 1.0, 0.3)
FIT_ZOOM_MM = 2.0
PRIOR_BLUR_MM = 3.0  # a person's folds lie elsewhere than the average's
PRIOR_FLOOR = 0.03


@dataclass(frozen=True)
class TissueMixture:
    """The intensities of CSF, GM and WM in one scan, and its residual bias field."""

    means: NDArray[np.float64]  # intensities, shape (3,)
    deviations: NDArray[np.float64]  # their standard deviations, shape (3,)
    log_bias: FloatArray  # on the grid that the mixture was fitted on, shape (i, j, k)


def fit_mixture(voxels: FloatArray, mask: BoolArray, priors: FloatArray, zoom: float) -> TissueMixture:
    """Fit the mixture by expectation-maximisation with spatial priors.

    Intensities and mask have shape (i, j, k), prior shares of CSF, GM, WM shape (3, i, j, k); `zoom` is the
    voxel edge in mm.
    """
    inside, prior = voxels[mask], _class_priors(priors[:, mask])
    means, deviations = _first_guess(inside, priors[:, mask])
    log_bias = np.zeros(voxels.shape, dtype=np.float32)
    for _ in range(ITERATIONS):
        flat = inside * np.exp(-log_bias[mask])
        classes = _responsibilities(_densities(flat, means, deviations), prior)
        pure, weights = classes[:3], classes[:3].sum(axis=1)
        means = pure @ flat / weights
        deviations = np.sqrt([p @ (flat - m) ** 2 / w for p, m, w in zip(pure, means, weights, strict=True)])
        deviations = np.maximum(deviations, 0.02 * means[2])
        log_bias[mask] += _log_residual(flat, classes, means, mask, zoom)
    return TissueMixture(means, deviations, log_bias)


def fit_brain_mixture(
    voxels: FloatArray, mask: BoolArray, priors: FloatArray, zoom: float, fit_zoom: float
) -> TissueMixture:
    """Fit the mixture to voxels about `fit_zoom` mm apart, and interpolate its bias field to all of them.

    Takes the arguments of `fit_mixture`; `MrharmonyError` if grey and white matter cannot be told apart.
    """
    stride = max(1, round(fit_zoom / zoom))
    every = (slice(None, None, stride),) * 3
    mixture = fit_mixture(voxels[every], mask[every], priors[:, *every], stride * zoom)
    if not mixture.means[2] > LEAST_CONTRAST * mixture.means[1]:
        raise MrharmonyError("grey and white matter cannot be told apart; is this a T1-weighted brain?")
    return replace(mixture, log_bias=_refine(mixture.log_bias, stride, mask.shape))


def require_whole_brain(mask: BoolArray, voxel_ml: float) -> None:
    """Raise `MrharmonyError` if a brain mask, with voxels of `voxel_ml`, holds less than 300 ml."""
    volume_ml = float(mask.sum()) * voxel_ml
    if volume_ml < SMALLEST_BRAIN_ML:
        raise MrharmonyError(
            f"the brain mask holds {volume_ml:.0f} ml, less than any whole brain; segment a prepared brain"
        )


def tissue_shares(
    voxels: FloatArray, mask: BoolArray, priors: FloatArray, mixture: TissueMixture, zoom: float
) -> FloatArray:
    """Expected shares of CSF, GM, WM in every voxel, given its neighbours, so that noise is not anatomy.

    Takes the arguments of `fit_mixture` on any grid, and a mixture with `log_bias` there. Returns shape
    (3, i, j, k), sum 1 in the mask and 0 outside.
    """
    flat = voxels[mask] * np.exp(-mixture.log_bias[mask])
    densities = _densities(flat, mixture.means, mixture.deviations)
    shares = np.zeros((3, *voxels.shape), dtype=np.float32)
    prior = priors[:, mask]
    for previous_rounds in range(NEIGHBOUR_ROUNDS + 1):
        if previous_rounds:
            around = gaussian_filter(shares, (0, *[NEIGHBOUR_BLUR_MM / zoom] * 3))[:, mask]
            prior = priors[:, mask] * np.exp(NEIGHBOUR_WEIGHT * around)
            prior /= prior.sum(axis=0)
        classes = _responsibilities(densities, _class_priors(prior))
        shares[:, mask] = _expected_shares(flat, classes, mixture.means)
    return shares


def _refine(field: FloatArray, stride: int, shape: tuple[int, ...]) -> FloatArray:
    """Interpolate a smooth field from every `stride`-th voxel to all voxels, trilinearly."""
    matrices = [
        np.stack([np.interp(np.arange(to) / stride, np.arange(size), unit) for unit in np.eye(size)], 1)
        for size, to in zip(field.shape, shape, strict=True)
    ]
    return _along_axes(field, matrices)


@lru_cache(maxsize=64)
def _blur_matrix(size: int, sd: float) -> NDArray[np.float64]:
    """Return `gaussian_filter1d` along a line as a matrix, (size, size): faster for wide Gaussians."""
    matrix = gaussian_filter1d(np.eye(size), sd, axis=0)
    matrix.flags.writeable = False
    return np.asarray(matrix)


def _along_axes(field: FloatArray, matrices: Sequence[NDArray[np.float64]]) -> FloatArray:
    """Return the field after a matrix along each axis."""
    for axis, matrix in enumerate(matrices):
        field = np.moveaxis(np.tensordot(matrix.astype(np.float32), field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _first_guess(inside: FloatArray, priors: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medians where the priors are most certain; for CSF, a low percentile of where it is likely."""
    white = float(np.median(inside[priors[2] > 0.8 * priors[2].max()]))
    grey = float(np.median(inside[priors[1] > 0.8 * priors[1].max()]))
    dark = float(np.percentile(inside[priors[0] > 0.5 * priors[0].max()], 15))
    means = np.array([min(dark, 0.7 * grey), min(grey, 0.9 * white), white])
    return means, np.full(3, 0.15 * white)


def _class_priors(priors: FloatArray) -> FloatArray:
    """Priors of CSF, GM, WM and of the three mixed pairs, shape (6, n), sum 1."""
    mixed = [
        weight * np.sqrt(priors[a] * priors[b])
        for (a, b), weight in zip(MIXED_PAIRS, MIXED_WEIGHTS, strict=True)
    ]
    classes = np.concatenate([priors, np.stack(mixed)])
    return np.asarray(classes / classes.sum(axis=0))


def _densities(flat: FloatArray, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> FloatArray:
    """Densities of the six classes at intensities without bias, shape (6, n).

    A mixed voxel's intensity is uniform between the two means, plus noise: the density is a difference of
    normal distribution functions.
    """
    density = np.empty((6, len(flat)), dtype=np.float32)
    for tissue in range(3):
        score = (flat - means[tissue]) / deviations[tissue]
        density[tissue] = np.exp(-0.5 * score**2) / (deviations[tissue] * np.sqrt(2 * np.pi))
    for index, (a, b) in enumerate(MIXED_PAIRS, start=3):
        noise = np.sqrt(0.5 * (deviations[a] ** 2 + deviations[b] ** 2))
        steps = ndtr((flat - means[a]) / noise) - ndtr((flat - means[b]) / noise)
        density[index] = steps / max(means[b] - means[a], 1e-6)
    # Far from every mean, the nearest end still decides.
    density[0][flat < means[0]] += 1e-6
    density[2][flat > means[2]] += 1e-6
    return np.maximum(density, 1e-12)


def _responsibilities(densities: FloatArray, prior: FloatArray) -> FloatArray:
    """Posterior of the six classes, shape (6, n)."""
    joint = densities * prior
    return np.asarray(joint / joint.sum(axis=0))


def _expected_shares(flat: FloatArray, classes: FloatArray, means: NDArray[np.float64]) -> FloatArray:
    shares = classes[:3].copy()
    for index, (a, b) in enumerate(MIXED_PAIRS, start=3):
        second = np.clip((flat - means[a]) / max(means[b] - means[a], 1e-6), 0, 1)
        shares[a] += classes[index] * (1 - second)
        shares[b] += classes[index] * second
    return shares


def _log_residual(
    flat: FloatArray, classes: FloatArray, means: NDArray[np.float64], mask: BoolArray, zoom: float
) -> FloatArray:
    """Smooth log ratio of the intensities to those of pure GM and WM, in the mask, shape (n,)."""
    grey, white = classes[1], classes[2]
    weight = np.zeros(mask.shape, dtype=np.float32)
    weighted = np.zeros(mask.shape, dtype=np.float32)
    weight[mask] = grey + white
    logs = np.log(np.maximum(flat, 1e-3))
    weighted[mask] = grey * (logs - np.log(means[1])) + white * (logs - np.log(means[2]))
    blur = [_blur_matrix(size, BIAS_BLUR_MM / zoom) for size in mask.shape]
    residual = _along_axes(weighted, blur)[mask] / np.maximum(_along_axes(weight, blur)[mask], 1e-6)
    return np.asarray(residual - residual.mean())


def segment_brain(brain: Volume, brain_mask: BoolArray) -> Anatomy:
    """Tissue shares of a prepared brain, on its grid: a base for `virtual_head`.

    Parameters
    ----------
    brain
        T1w intensities on an axis-aligned RAS grid in template millimetres (rigidly aligned), as
        `PreparedScan.canonical` gives them, at 1 or 2 mm.
    brain_mask
        Same shape.

    Raises
    ------
    MrharmonyError
        If the mask does not hold a whole brain, or GM and WM cannot be told apart.
    """
    require_whole_brain(brain_mask, float(np.prod(brain.zooms)) / 1000)
    to_template = _match_boxes(brain_mask, brain.affine)
    priors = _priors(brain.shape, to_template)
    mixture = fit_brain_mixture(brain.voxels, brain_mask, priors, brain.zooms[0], FIT_ZOOM_MM)
    shares = tissue_shares(brain.voxels, brain_mask, priors, mixture, brain.zooms[0])
    return _anatomy(shares, to_template, brain.affine)


def _anatomy(shares: FloatArray, to_template: Matrix, affine: Matrix) -> Anatomy:
    """Split GM into cortex and deep nuclei, and mark the ventricles, by regions of template space."""
    csf, gm, wm = shares
    shape = csf.shape
    deep = deep_grey_region(shape, to_template)
    return Anatomy(
        np.stack([csf, gm * (1 - deep), wm, gm * deep]),
        myelination_map(shape, to_template),
        csf * ventricle_region(shape, to_template),
        affine,
    )


def _match_boxes(mask: BoolArray, affine: Matrix) -> Matrix:
    """Voxel indices to template mm, each axis stretched so that the brain fills the template brain's box."""
    box = find_objects(mask.astype(np.int8))[0]
    first = affine[:3, :3] @ [span.start for span in box] + affine[:3, 3]
    last = affine[:3, :3] @ [span.stop - 1 for span in box] + affine[:3, 3]
    low, high = _template_box()
    stretch = (high - low) / (last - first)
    matching = np.diag([*stretch, 1.0])
    matching[:3, 3] = low - stretch * first
    return np.asarray(matching @ affine)


@lru_cache(maxsize=1)
def _blurred_template() -> tuple[FloatArray, Matrix]:
    """Blurred soft shares of CSF, GM, WM at 2 mm, and their affine."""
    tissues, affine = template_maps(zoom=2)
    padded = np.pad(np.stack([tissues[0], tissues[1] + tissues[3], tissues[2]]), ((0, 0), *[(4, 4)] * 3))
    affine[:3, 3] -= affine[:3, :3] @ [4, 4, 4]
    return gaussian_filter(padded, (0, *[PRIOR_BLUR_MM / 2] * 3)), affine


def _template_box() -> tuple[Matrix, Matrix]:
    """First and last voxel centre of the template's brain along each axis, mm."""
    tissues, affine = template_maps(zoom=2)
    inner = np.array(tissues.shape[1:]) - 2
    return affine[:3, :3] @ [1, 1, 1] + affine[:3, 3], affine[:3, :3] @ inner + affine[:3, 3]


def _priors(shape: tuple[int, int, int], to_template: Matrix) -> FloatArray:
    """Prior shares of CSF, GM, WM on the grid, shape (3, i, j, k), sum 1."""
    maps, affine = _blurred_template()
    sampled = sample(torch.from_numpy(maps), affine, grid_positions(shape, to_template))
    return priors_of(sampled.numpy().reshape(3, *shape))


def priors_of(shares: FloatArray) -> FloatArray:
    """Return the priors of CSF, GM, WM, sum 1, that follow from the template's soft shares, (3, i, j, k)."""
    priors = shares + np.float32(PRIOR_FLOOR)
    # Where the template's brain has ended, a real one's may hold CSF or cortex.
    priors[0] += np.maximum(1 - priors.sum(axis=0), 0)
    return np.asarray(priors / priors.sum(axis=0))
