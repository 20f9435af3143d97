"""Label maps of whole heads (FreeSurfer's labels): reading, structures, and the brain in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, find_objects

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, Matrix
from mrharmony.scans.reading import read_labels
from mrharmony.space.resampling import to_ras

# FreeSurfer's labels, left and right: which structure they belong to.
STRUCTURES = {
    "cerebral-white-matter": (2, 41, 251, 252, 253, 254, 255),  # with the corpus callosum
    "cerebral-cortex": (3, 42),
    "lateral-ventricle": (4, 43, 5, 44, 72),  # with the inferior horn and the fifth ventricle
    "cerebellar-white-matter": (7, 46),
    "cerebellar-cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "third-ventricle": (14,),
    "fourth-ventricle": (15,),
    "brain-stem": (16,),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "outer-csf": (24,),  # up to the skull
    "lesion": (25, 57, 77, 78, 79, 80),  # of white matter mostly
    "accumbens": (26, 58),
    "ventral-diencephalon": (28, 60),
    "vessel": (30, 62),
    "choroid-plexus": (31, 63, 136, 137, 163, 164),  # the last four: in these maps, at its place
    "optic-chiasm": (85,),
}
VENTRICLES = ("lateral-ventricle", "third-ventricle")
FLUID = (*VENTRICLES, "fourth-ventricle", "outer-csf")
BRAIN = tuple(name for name in STRUCTURES if name != "outer-csf")
# FreeSurfer's labels of what lies around the brain, in the head that ships.
OUTER = {"fat": 125, "soft-tissue": 127, "bone": 129}
NOT_BRAIN_FROM = 500  # labels from here on are tissues outside the brain, found by clustering
MASK_MARGIN_MM = 2.0
# These four people are for judging only: nothing that ships may be trained, fitted or chosen on them. Their
# lateral ventricles hold 65, 27, 47 and 11 ml.
JUDGE_HEADS = ("head-05_dseg.nii.gz", "head-10_dseg.nii.gz", "head-15_dseg.nii.gz", "head-20_dseg.nii.gz")
NEEDED = ("cerebral-white-matter", "cerebral-cortex", "lateral-ventricle", "outer-csf")
LARGEST_LABEL = 2**15 - 1
COARSEST_MM = 1.5


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The structures of a whole head.

    Parameters
    ----------
    labels
        One label a voxel, shape (i, j, k), int16, in the voxel order closest to RAS.
    affine
        Voxel indices to the map's own world millimetres (RAS+), shape (4, 4).
    """

    labels: NDArray[np.int16]
    affine: Matrix

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def where(self, *structures: str) -> BoolArray:
        """Return the voxels of some of `STRUCTURES`, shape (i, j, k)."""
        return np.isin(self.labels, [label for name in structures for label in STRUCTURES[name]])

    @cached_property
    def brain_mask(self) -> BoolArray:
        """The brain with 2 mm of the fluid around it, shape (i, j, k)."""
        return self.brain_within(MASK_MARGIN_MM)

    def brain_within(self, reach_mm: float) -> BoolArray:
        """Return the brain, dilated so far into the fluid around it, holes filled, shape (i, j, k).

        What a hole holds counts as brain, whatever its label.
        """
        brain = self.where(*BRAIN)
        near = distance_transform_edt(~brain, sampling=self.zooms) <= reach_mm
        return np.asarray(binary_fill_holes(brain | (near & self.where("outer-csf"))))

    def crop(self, margin: int) -> Self:
        """Return the part around the brain with a margin of so many voxels, 4 or more."""
        box = find_objects(self.where(*BRAIN).astype(np.int8))[0]
        spans = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, n))
            for s, n in zip(box, self.labels.shape, strict=True)
        )
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [span.start for span in spans]
        return type(self)(self.labels[spans], affine)


def read_label_map(path: Path) -> LabelMap:
    """Read a whole head as a label map.

    Parameters
    ----------
    path
        A `.nii`, `.nii.gz`, `.mgh` or `.mgz` file with FreeSurfer's labels, voxels of 1.5 mm or less; labels
        from 500 on are tissues outside the brain.

    Raises
    ------
    ScanRefused
        The file is broken.
    MrharmonyError
        The values are no such labels, or a structure that every head has is missing.
    """
    volume = to_ras(read_labels(path))
    largest = float(np.abs(volume.voxels).max())
    if largest > LARGEST_LABEL or np.any(volume.voxels != np.round(volume.voxels)):
        raise MrharmonyError(f"{path}: holds no labels, which are whole numbers. Give a segmentation.")
    if max(volume.zooms) > COARSEST_MM:
        raise MrharmonyError(
            f"{path}: has voxels of {max(volume.zooms):.3g} mm. Give labels of 1.5 mm or less."
        )
    labels = LabelMap(volume.voxels.astype(np.int16), volume.affine)
    _check_structures(path, labels)
    return labels


def _check_structures(path: Path, label_map: LabelMap) -> None:
    present = {int(label) for label in np.unique(label_map.labels)}
    known = {0, *OUTER.values(), *(label for labels in STRUCTURES.values() for label in labels)}
    odd = min((label for label in present - known if label < NOT_BRAIN_FROM), default=None)
    if odd is not None:
        raise MrharmonyError(
            f"{path}: the label {odd} is not among those that are known. Give a map of FreeSurfer's labels."
        )
    missing = next((name for name in NEEDED if not present & set(STRUCTURES[name])), None)
    if missing:
        raise MrharmonyError(
            f"{path}: shows no {missing.replace('-', ' ')}. Give a whole head with FreeSurfer's labels."
        )
