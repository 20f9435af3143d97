"""Tissues of a canonical brain, by a segmentation that no harmonizer uses, and volumetry made on one domain.

`segment_tissues` fits a Gaussian mixture with spatial priors of the ICBM152 template to each scan's own
contrast and remaining bias field: Van Leemput et al. (1999), IEEE TMI 18:897; with classes for voxels that
two tissues share: Laidlaw et al. (1998), IEEE TMI 17:74. The mixture is that of the simulator's
`segment_brain`; the priors and the match with the template differ.

`TargetVolumetry` applies intensity classes of the target domain to any scan, as a study trains its analysis
on one scanner. An analysis that adapts itself to each scan hardly notices a monotone curve; one made on the
target domain does, and it is what people harmonize for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, bounding_box
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.anatomy import ventricle_region
from mrharmony.simulate.segmentation import (
    PRIOR_BLUR_MM,
    fit_brain_mixture,
    priors_of,
    require_whole_brain,
    tissue_shares,
)
from mrharmony.space.template import template, template_brain_mask

TISSUE_NAMES = ("csf", "grey", "white")
_FIT_ZOOM = 4.0  # mm: one voxel in 64 at 1 mm is enough for six numbers and a smooth field
_PRIOR_ZOOM = 2  # mm


@dataclass(frozen=True)
class TissueVolumes:
    """Volumes in ml; `ventricle_ml` is the part of the CSF that lies in the lateral and third ventricles."""

    csf_ml: float
    grey_ml: float
    white_ml: float
    ventricle_ml: float


@dataclass(frozen=True, eq=False)
class TissueSegmentation:
    """What each voxel of a brain holds."""

    labels: NDArray[np.uint8]  # largest tissue: 0 outside, 1 CSF, 2 grey, 3 white matter; shape (i, j, k)
    volumes: TissueVolumes  # sums of the tissues' shares, partial volumes included


def segment_tissues(brain: CanonicalBrain) -> TissueSegmentation:
    """Segment a brain into CSF, grey and white matter, on the brain's grid.

    Parameters
    ----------
    brain
        T1w brain on an axis-aligned grid in template mm, with voxels of at most 4 mm.

    Raises
    ------
    MrharmonyError
        If the mask does not hold a whole brain, or grey and white matter cannot be distinguished.
    """
    voxel_ml = brain.volume.voxel_mm3 / 1000
    require_whole_brain(brain.mask, voxel_ml)
    box = bounding_box(brain.mask)
    voxels, mask, edge_mm = brain.volume.voxels[box], brain.mask[box], brain.volume.zooms[0]
    corner = from_matvec(np.eye(3), [span.start for span in box])
    place = match_template(brain.mask, brain.volume.affine) @ corner
    priors = tissue_priors(voxels.shape, place)
    mixture = fit_brain_mixture(voxels, mask, priors, edge_mm, _FIT_ZOOM)
    shares = tissue_shares(voxels, mask, priors, mixture, edge_mm)
    labels = np.zeros(brain.mask.shape, dtype=np.uint8)
    labels[box] = np.where(mask, shares.argmax(axis=0) + 1, 0)
    ventricles = shares[0] * ventricle_region(voxels.shape, place)
    sums = [float(part.sum(dtype=np.float64)) * voxel_ml for part in (*shares, ventricles)]
    return TissueSegmentation(labels, TissueVolumes(*sums))


@dataclass(frozen=True)
class TargetVolumetry:
    """Tissue volumes by two fixed borders between the classes of a target domain."""

    csf_border: float  # canonical intensity below which a voxel counts as CSF
    white_border: float  # canonical intensity from which a voxel counts as white matter

    @classmethod
    def fit(cls, training_brains: Iterable[CanonicalBrain]) -> TargetVolumetry:
        """Learn the borders from the target domain's own training scans, one or more.

        The classes' means and standard deviations are those of the tissues that `segment_tissues` finds,
        averaged over scans; a border lies where |s - μ| / σ of two classes is equal.
        """
        classes = np.array([_class_moments(brain) for brain in training_brains])
        if not len(classes):
            raise MrharmonyError("volumetry of a target domain needs at least one of its training scans")
        means, deviations = classes[..., 0].mean(axis=0), classes[..., 1].mean(axis=0)
        weighted = means[:-1] * deviations[1:] + means[1:] * deviations[:-1]
        csf_border, white_border = weighted / (deviations[1:] + deviations[:-1])
        return cls(float(csf_border), float(white_border))

    def measure(self, brain: CanonicalBrain) -> TissueVolumes:
        """Return the volumes of a brain in the target domain's contrast, a scan or a harmonized one.

        Ventricles are the CSF in the template's region of lateral and third ventricles.
        """
        shape, affine = brain.volume.shape, brain.volume.affine
        csf = brain.mask & (brain.volume.voxels < self.csf_border)
        white = brain.mask & (brain.volume.voxels >= self.white_border)
        ventricles = ventricle_region(shape, match_template(brain.mask, affine))[csf]
        voxel_ml = brain.volume.voxel_mm3 / 1000
        return TissueVolumes(
            float(csf.sum()) * voxel_ml,
            float((brain.mask & ~csf & ~white).sum()) * voxel_ml,
            float(white.sum()) * voxel_ml,
            float(ventricles.sum(dtype=np.float64)) * voxel_ml,
        )


def _class_moments(brain: CanonicalBrain) -> list[tuple[float, float]]:
    """Return mean and standard deviation of CSF, grey and white matter in a scan."""
    labels = segment_tissues(brain).labels
    tissues = [brain.volume.voxels[labels == label] for label in (1, 2, 3)]
    return [(float(voxels.mean()), float(voxels.std())) for voxels in tissues]


def match_template(brain_mask: BoolArray, affine: Matrix) -> Matrix:
    """Return voxel indices to template mm, so that centre and extent of the brain are the template's.

    The first and second moments of the masks along each axis agree; alignment is taken as it is. `affine`
    leads to mm in template alignment, axis-aligned; the mask is not empty.
    """
    centre, spread = _moments(brain_mask, affine)
    template_centre, template_spread = _template_moments()
    stretch = template_spread / spread
    matching = np.diag([*stretch, 1.0])
    matching[:3, 3] = template_centre - stretch * centre
    return np.asarray(matching @ affine)


def tissue_priors(shape: tuple[int, int, int], to_template: Matrix) -> FloatArray:
    """Return prior shares of CSF, grey and white matter on a grid, shape (3, i, j, k), sum 1.

    `to_template` leads from the grid's voxel indices to template mm, as from `match_template`.
    """
    return _priors(shape, tuple(map(tuple, to_template)))


@lru_cache(maxsize=16)
def _priors(shape: tuple[int, int, int], to_template: tuple[tuple[float, ...], ...]) -> FloatArray:
    """Return `tissue_priors`, kept because a head is segmented after every method."""
    maps, affine = _soft_template()
    pull = np.linalg.inv(affine) @ np.array(to_template)
    sampled = [affine_transform(tissue, pull, output_shape=shape, order=1) for tissue in maps]
    priors = priors_of(np.stack(sampled))
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
    blurred = gaussian_filter(maps, (0, *[PRIOR_BLUR_MM] * 3))[:, *every]
    affine = template().affine @ np.diag([_PRIOR_ZOOM] * 3 + [1])
    return np.ascontiguousarray(blurred), affine
