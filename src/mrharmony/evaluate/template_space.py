"""Where a brain lies in the ICBM152 template, and what the template expects there."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from mrharmony.prepare import template, template_brain_mask
from mrharmony.volume import BoolArray, FloatArray, Matrix

_PRIOR_ZOOM = 2  # mm
_PRIOR_BLUR_MM = 3.0  # a person's folds lie elsewhere than the average's
_PRIOR_FLOOR = 0.03


def match_template(brain_mask: BoolArray, affine: Matrix) -> Matrix:
    """Return voxel indices to template mm, so that centre and extent of the brain are the template's.

    The first and second moments of the masks along each axis agree; posture is taken as it is.

    Parameters
    ----------
    brain_mask
        Shape (i, j, k), not empty.
    affine
        Its voxel indices to mm in template posture, axis-aligned, shape (4, 4).
    """
    centre, spread = _moments(brain_mask, affine)
    wanted_centre, wanted_spread = _template_moments()
    stretch = wanted_spread / spread
    matching = np.diag([*stretch, 1.0])
    matching[:3, 3] = wanted_centre - stretch * centre
    return np.asarray(matching @ affine)


def tissue_priors(shape: tuple[int, int, int], to_template: Matrix) -> FloatArray:
    """Return prior shares of CSF, grey and white matter on a grid, shape (3, i, j, k), sum 1.

    Parameters
    ----------
    shape
        Of the grid.
    to_template
        Its voxel indices to template mm, from `match_template`.
    """
    return _priors(shape, tuple(map(tuple, to_template)))


@lru_cache(maxsize=16)
def _priors(shape: tuple[int, int, int], to_template: tuple[tuple[float, ...], ...]) -> FloatArray:
    """Return the priors of `tissue_priors`, kept for the heads that are segmented again and again."""
    maps, affine = _soft_template()
    pull = np.linalg.inv(affine) @ np.array(to_template)
    sampled = [affine_transform(tissue, pull, output_shape=shape, order=1) for tissue in maps]
    priors = np.stack(sampled) + np.float32(_PRIOR_FLOOR)
    # Where the template's brain has ended, a real one's may hold CSF.
    priors[0] += np.maximum(1 - priors.sum(axis=0), 0)
    priors /= priors.sum(axis=0)
    priors.flags.writeable = False
    return priors


def _moments(brain_mask: BoolArray, affine: Matrix) -> tuple[Matrix, Matrix]:
    """Return mean and standard deviation of a mask's voxels along each axis in mm, shapes (3,)."""
    centres, spreads = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = brain_mask.sum(axis=others)
        places = affine[axis, axis] * np.arange(len(counts)) + affine[axis, 3]
        centre = np.average(places, weights=counts)
        centres.append(centre)
        spreads.append(np.sqrt(np.average((places - centre) ** 2, weights=counts)))
    return np.array(centres), np.array(spreads)


@cache
def _template_moments() -> tuple[Matrix, Matrix]:
    return _moments(template_brain_mask(), template().affine)


@cache
def _soft_template() -> tuple[FloatArray, Matrix]:
    """Return blurred shares of CSF, grey and white matter of the template, and their affine."""
    brain, grey, white = template_brain_mask().astype(np.float32), template("gm"), template("wm")
    csf = np.maximum(brain - grey.voxels - white.voxels, 0)
    maps = np.stack([csf, grey.voxels * brain, white.voxels * brain])
    every = (slice(None, None, _PRIOR_ZOOM),) * 3
    blurred = gaussian_filter(maps, (0, *[_PRIOR_BLUR_MM] * 3))[:, *every]
    affine = template().affine @ np.diag([_PRIOR_ZOOM] * 3 + [1])
    return np.ascontiguousarray(blurred), affine
