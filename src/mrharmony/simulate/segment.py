"""Tissue shares of any prepared brain, so that simulated heads can have real people's anatomies.

A Gaussian mixture with spatial priors and a residual bias field (Van Leemput et al. 1999, IEEE TMI 18:897;
Ashburner and Friston 2005, NeuroImage 26:839), with classes for voxels that two tissues share (Laidlaw et al.
1998, IEEE TMI 17:74), so that the result is partial volumes rather than blobs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import find_objects, gaussian_filter

from mrharmony.simulate._resample import grid_positions, sample
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.mixture import fit_brain_mixture, require_whole_brain, tissue_shares
from mrharmony.simulate.template import deep_grey_region, myelination_map, template_maps, ventricle_region
from mrharmony.volume import BoolArray, FloatArray, Matrix, Volume

FIT_ZOOM_MM = 2.0
PRIOR_BLUR_MM = 3.0
PRIOR_FLOOR = 0.03


def segment_brain(brain: Volume, brain_mask: BoolArray) -> Anatomy:
    """Tissue shares of a prepared brain.

    Parameters
    ----------
    brain
        T1w intensities on an axis-aligned RAS grid in template millimetres (rigidly aligned), as
        `PreparedScan.canonical` gives them, at 1 or 2 mm.
    brain_mask
        Same shape.

    Returns
    -------
    Anatomy
        On the same grid; a base for `virtual_head`.

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
    """Soft shares of CSF, GM, WM at 2 mm, blurred: a person's folds lie elsewhere than the average's."""
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
    priors = sampled.numpy().reshape(3, *shape) + PRIOR_FLOOR
    # Where the template's brain has ended, a real one's may hold CSF or cortex.
    priors[0] += np.maximum(1 - priors.sum(axis=0), 0)
    return np.asarray(priors / priors.sum(axis=0))
