"""Anatomy: the tissues in each voxel of a head before any scanner has seen it; the average head's maps.

The maps are the ICBM152 2009 maps that nilearn ships (Fonov et al. 2011, NeuroImage 54:313); no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray, Matrix

CSF, CORTICAL_GM, WM, DEEP_GM = range(4)
LESION_LABEL = 5
# Deep grey nuclei of the right hemisphere as ellipsoids in MNI mm: centre, semi-axes, turn in the axial plane
# (degrees, anterior end toward the midline). Read off the ICBM152 T1 template; the left ones mirror them.
DEEP_NUCLEI = (
    ((11.0, -18.0, 7.0), (11.0, 17.0, 10.0), 20.0),  # thalamus
    ((13.0, 13.0, 5.0), (7.5, 12.0, 14.0), 15.0),  # head of the caudate, accumbens
    ((17.0, -6.0, 22.0), (6.0, 18.0, 8.0), 15.0),  # body of the caudate
    ((25.0, 3.0, 0.0), (9.0, 19.0, 12.0), 20.0),  # putamen
    ((19.0, -5.0, -1.0), (8.0, 11.0, 8.0), 25.0),  # pallidum
)
REGION_EDGE_MM = 2.0
# Where myelination lies above or below its mean 0.5 on both sides: weight, centre, width (MNI mm).
MYELIN_BLOBS = (
    (0.35, (30, -25, 50), (40, 22, 30)),  # central
    (0.35, (15, -85, 0), (30, 25, 30)),  # occipital
    (0.25, (0, -15, 10), (30, 35, 25)),  # core
    (-0.45, (20, 65, 0), (40, 30, 40)),  # frontal poles
    (-0.40, (42, 12, -30), (20, 25, 22)),  # temporal poles
)


@dataclass(frozen=True)
class Anatomy:
    """A head as tissue shares on a grid, skull-stripped or whole.

    Parameters
    ----------
    tissues
        Share of each voxel that is CSF, cortical GM, WM, deep GM: float32, shape (4, i, j, k),
        sum ≤ 1, all 0 outside the brain.
    myelination
        0..1, shape (i, j, k), smooth: shortens T1 of WM and cortex by a few percent where it is high.
    ventricles
        Share of each voxel that is CSF of the lateral and third ventricles, shape (i, j, k); ≤ CSF.
    affine
        Voxel indices to template (MNI152) millimetres, shape (4, 4).
    ventricle_scale, cortical_thinning
        Ventricle volume as a factor of the base anatomy's, and share of its cerebral cortex that has become
        CSF; 1 and 0 for a base anatomy itself.
    lesions
        Share of each voxel that is white-matter lesion, shape (i, j, k), or `None` without any. A lesion is
        made of tissues: mostly cortical GM, whose signal it has, and some WM (`add_lesions`).
    around
        Share of each voxel that is fluid, soft tissue, fat outside the brain: float32, shape (3, i, j, k).
        The rest is bone or air, which give no signal. `None` where the head is skull-stripped.
    """

    tissues: FloatArray
    myelination: FloatArray
    ventricles: FloatArray
    affine: Matrix
    ventricle_scale: float = 1.0
    cortical_thinning: float = 0.0
    lesions: FloatArray | None = None
    around: FloatArray | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts along i, j, k."""
        i, j, k = self.myelination.shape
        return i, j, k

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def brain_mask(self) -> BoolArray:
        """Voxels that are brain (CSF inside it included) for at least one half, shape (i, j, k)."""
        return np.asarray(self.tissues.sum(axis=0) >= 0.5)

    @property
    def filled(self) -> FloatArray:
        """Share of each voxel that gives signal, shape (i, j, k)."""
        brain: FloatArray = self.tissues.sum(axis=0)
        return brain if self.around is None else brain + self.around.sum(axis=0)

    @property
    def ventricle_volume_ml(self) -> float:
        """Volume of the lateral and third ventricles in millilitres."""
        return float(self.ventricles.sum(dtype=np.float64)) * self.voxel_ml

    @property
    def lesions_ml(self) -> float:
        """Volume of the white-matter lesions in millilitres."""
        return 0.0 if self.lesions is None else float(self.lesions.sum(dtype=np.float64)) * self.voxel_ml

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def box(self, margin_mm: float) -> tuple[slice, slice, slice]:
        """Return the slices along i, j, k with brain or whole head and a margin, as far as the grid goes."""
        (i, j, k) = find_objects((self.filled >= 0.5).astype(np.int8))[0]
        margin = round(margin_mm / self.zooms[0])
        i, j, k = (slice(max(s.start - margin, 0), s.stop + margin) for s in (i, j, k))
        return i, j, k

    def labels(self) -> NDArray[np.uint8]:
        """Largest tissue: 0 outside, 1 CSF, 2 cortical GM, 3 WM, 4 deep GM; 5 where lesion is the half."""
        largest = self.tissues.argmax(axis=0).astype(np.uint8) + np.uint8(1)
        if self.lesions is not None:
            largest[self.lesions >= 0.5] = LESION_LABEL
        return np.where(self.brain_mask, largest, np.uint8(0))

    def crop(self, *spans: slice) -> Anatomy:
        """Return the part within three slices along i, j, k (step 1), with its affine moved along."""
        corner = [span.indices(size)[0] for span, size in zip(spans, self.shape, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ corner
        return replace(
            self,
            tissues=self.tissues[:, *spans],
            myelination=self.myelination[spans],
            ventricles=self.ventricles[spans],
            affine=affine,
            lesions=None if self.lesions is None else self.lesions[spans],
            around=None if self.around is None else self.around[:, *spans],
        )


def template_maps(zoom: int = 1) -> tuple[FloatArray, Matrix]:
    """Soft ICBM152 shares of CSF, cortical GM, WM, deep GM, cropped around the brain; `zoom` is 1 or 2 mm.

    CSF is what the brain mask holds beside GM and WM; deep GM is GM within `deep_grey_region`. Returns the
    shares, float32, shape (4, i, j, k), sum 1 in the brain mask and 0 outside, and voxel indices to MNI mm.
    """
    from nilearn import datasets  # noqa: PLC0415 - takes seconds to import

    mask_image = datasets.load_mni152_brain_mask(resolution=zoom)
    box = find_objects(mask_image.get_fdata(dtype=np.float32).astype(np.int8))[0]
    mask, gm, wm = (
        np.pad(image.get_fdata(dtype=np.float32)[box], 1)
        for image in (
            mask_image,
            datasets.load_mni152_gm_template(resolution=zoom),
            datasets.load_mni152_wm_template(resolution=zoom),
        )
    )
    affine = np.asarray(mask_image.affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, :3] @ [span.start - 1 for span in box]
    excess = np.maximum(gm + wm, 1)
    gm, wm = mask * gm / excess, mask * wm / excess
    deep = deep_grey_region(gm.shape, affine)
    return np.stack([mask - gm - wm, gm * (1 - deep), wm, gm * deep]), affine


def deep_grey_region(shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Where in template space grey matter counts as deep: 0..1 with soft edges, shape (i, j, k)."""
    x, y, z = _axes(shape, affine)
    region = np.zeros(shape, dtype=np.float32)
    for centre, semi_axes, turn in DEEP_NUCLEI:
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        right, front = np.abs(x) - centre[0], y - centre[1]
        across = (c * right + s * front) / semi_axes[0]
        along = (c * front - s * right) / semi_axes[1]
        radius = np.sqrt(across**2 + along**2 + ((z - centre[2]) / semi_axes[2]) ** 2)
        edge = (1 - radius) * (4 * min(semi_axes) / REGION_EDGE_MM)
        region = np.maximum(region, 1 / (1 + np.exp(-np.clip(edge, -30, 30))))
    return region


def ventricle_region(shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Where in template space CSF is ventricular (lateral, third): 0..1 with soft edges, shape (i, j, k)."""
    x, y, z = _axes(shape, affine)
    side = np.abs(x)
    bodies = (side < 30) & (y > -52) & (y < 40) & (z > -6) & (z < 34) & (z > 0.45 * (side - 14) - 2)
    below_callosum = z < 30 - 0.0035 * (y + 8) ** 2 - 0.25 * side
    # Below the splenium the midline belongs to the quadrigeminal cistern.
    bodies = bodies & below_callosum & ((y > -26) | (side > 9))
    atria = (side > 12) & (side < 40) & (y > -60) & (y <= -26) & (z > -8) & (z < 28)
    horns = (side > 14) & (side < 34) & (y > -82) & (y <= -60) & (z > -4) & (z < 20)
    third = (side < 6) & (y > -32) & (y < 8) & (z > -14) & (z < 14)
    inside = (bodies | atria | horns | third).astype(np.float32)
    return np.asarray(gaussian_filter(inside, 1.0 / float(np.linalg.norm(affine[:3, 0]))))


def myelination_map(shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Smooth 0..1: high in central and occipital regions and the core, low in frontal and temporal poles.

    The pattern is that of R1 and of the T1w/T2w ratio (Glasser and Van Essen 2011, J Neurosci 31:11597).
    """
    x, y, z = _axes(shape, affine)
    level = np.full(shape, 0.5, dtype=np.float32)
    for weight, centre, width in MYELIN_BLOBS:
        offsets = zip((np.abs(x), y, z), centre, width, strict=True)
        across, along, up = (np.exp(-0.5 * ((axis - c) / w) ** 2) for axis, c, w in offsets)
        level += weight * across * along * up
    return np.clip(level, 0, 1)


def _axes(shape: tuple[int, int, int], affine: Matrix) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coordinates (mm) along the axes of an axis-aligned grid, shapes (i, 1, 1), (1, j, 1), (1, 1, k)."""
    x, y, z = (
        (affine[a, a] * np.arange(shape[a]) + affine[a, 3]).astype(np.float32).reshape(np.roll((-1, 1, 1), a))
        for a in range(3)
    )
    return x, y, z
