"""Volumetry as a study trains it on one scanner: intensity classes of the target domain, for any scan.

An analysis that adapts itself to each scan hardly sees what a monotone curve does. One that was made on the
target domain does, and to use such an analysis is what people harmonize for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mrharmony.evaluate.template_space import match_template
from mrharmony.evaluate.tissues import TissueVolumes, segment_tissues, voxel_ml
from mrharmony.harmonize import CanonicalBrain
from mrharmony.simulate.template import ventricle_region
from mrharmony.volume import MrharmonyError


@dataclass(frozen=True)
class TargetVolumetry:
    """Tissue volumes by two fixed borders between the classes of a target domain.

    Parameters
    ----------
    csf_border
        Canonical intensity below which a voxel counts as CSF.
    white_border
        Canonical intensity from which a voxel counts as white matter.
    """

    csf_border: float
    white_border: float

    @classmethod
    def fit(cls, training_brains: Iterable[CanonicalBrain]) -> TargetVolumetry:
        """Learn the borders from the target domain's own training scans.

        The classes' means and standard deviations are those of the tissues that `segment_tissues` finds,
        averaged over scans; a border lies where |s - μ| / σ of two classes is equal.

        Raises
        ------
        MrharmonyError
            If there is no training scan, or one cannot be segmented.
        """
        classes = np.array([_class_moments(brain) for brain in training_brains])
        if not len(classes):
            raise MrharmonyError("volumetry of a target domain needs at least one of its training scans")
        means, deviations = classes[..., 0].mean(axis=0), classes[..., 1].mean(axis=0)
        weighted = means[:-1] * deviations[1:] + means[1:] * deviations[:-1]
        csf_border, white_border = weighted / (deviations[1:] + deviations[:-1])
        return cls(float(csf_border), float(white_border))

    def measure(self, brain: CanonicalBrain) -> TissueVolumes:
        """Return the volumes in a brain in the target domain's look, scan or harmonized.

        Ventricles are the CSF in the template's region of lateral and third ventricles.
        """
        shape, affine = brain.volume.shape, brain.volume.affine
        csf = brain.mask & (brain.volume.voxels < self.csf_border)
        white = brain.mask & (brain.volume.voxels >= self.white_border)
        ventricles = ventricle_region(shape, match_template(brain.mask, affine))[csf]
        each = voxel_ml(brain)
        return TissueVolumes(
            float(csf.sum()) * each,
            float((brain.mask & ~csf & ~white).sum()) * each,
            float(white.sum()) * each,
            float(ventricles.sum(dtype=np.float64)) * each,
        )


def _class_moments(brain: CanonicalBrain) -> list[tuple[float, float]]:
    """Return mean and standard deviation of CSF, grey and white matter in a scan."""
    labels = segment_tissues(brain).labels
    tissues = [brain.volume.voxels[labels == label] for label in (1, 2, 3)]
    return [(float(voxels.mean()), float(voxels.std())) for voxels in tissues]
