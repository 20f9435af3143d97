"""Three tissues of a canonical brain, by a segmentation that no harmonizer uses.

A Gaussian mixture with spatial priors of the ICBM152 template, adapted to each scan's own contrast and to
what is left of its bias field: Van Leemput et al. (1999), IEEE TMI 18:897; with classes for voxels that two
tissues share: Laidlaw et al. (1998), IEEE TMI 17:74. The mixture is that of the simulator's `segment_brain`;
priors and place in the template are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from mrharmony.evaluate.template_space import match_template, tissue_priors
from mrharmony.harmonize import CanonicalBrain
from mrharmony.simulate.mixture import fit_brain_mixture, require_whole_brain, tissue_shares
from mrharmony.simulate.template import ventricle_region

TISSUE_NAMES = ("csf", "grey", "white")
_FIT_ZOOM = 4.0  # mm: every voxel in four of these is enough to know six numbers and a smooth field


@dataclass(frozen=True)
class TissueVolumes:
    """Volumes in ml; `ventricle_ml` is the part of the CSF that lies in the lateral and third ventricles."""

    csf_ml: float
    grey_ml: float
    white_ml: float
    ventricle_ml: float


@dataclass(frozen=True, eq=False)
class TissueSegmentation:
    """What each voxel of a brain holds.

    Parameters
    ----------
    labels
        Largest tissue: 0 outside, 1 CSF, 2 grey, 3 white matter; uint8, shape (i, j, k).
    volumes
        Sums of the tissues' shares, partial volumes included.
    """

    labels: NDArray[np.uint8]
    volumes: TissueVolumes


def segment_tissues(brain: CanonicalBrain) -> TissueSegmentation:
    """Segment a brain into CSF, grey and white matter.

    Parameters
    ----------
    brain
        T1w brain on an axis-aligned grid in template mm, with voxels of at most 4 mm.

    Returns
    -------
    TissueSegmentation
        On the brain's grid.

    Raises
    ------
    MrharmonyError
        If the mask does not hold a whole brain, or grey and white matter cannot be told apart.
    """
    require_whole_brain(brain.mask, voxel_ml(brain))
    box = find_objects(brain.mask.astype(np.uint8))[0]
    voxels, mask, edge_mm = brain.volume.voxels[box], brain.mask[box], brain.volume.zooms[0]
    corner = from_matvec(np.eye(3), [span.start for span in box])
    place = match_template(brain.mask, brain.volume.affine) @ corner
    priors = tissue_priors(voxels.shape, place)
    mixture = fit_brain_mixture(voxels, mask, priors, edge_mm, _FIT_ZOOM)
    shares = tissue_shares(voxels, mask, priors, mixture, edge_mm)
    labels = np.zeros(brain.mask.shape, dtype=np.uint8)
    labels[box] = np.where(mask, shares.argmax(axis=0) + 1, 0)
    ventricles = shares[0] * ventricle_region(voxels.shape, place)
    sums = [float(part.sum(dtype=np.float64)) * voxel_ml(brain) for part in (*shares, ventricles)]
    return TissueSegmentation(labels, TissueVolumes(*sums))


def voxel_ml(brain: CanonicalBrain) -> float:
    """Return the volume of one voxel of a brain's grid in ml."""
    return abs(float(np.linalg.det(brain.volume.affine[:3, :3]))) / 1000
