"""Whether harmonization kept the anatomy of a scan: tissues, edges and places, before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects

from mrharmony.evaluate.displacement import block_displacements
from mrharmony.evaluate.same_contrast import in_contrast_of
from mrharmony.evaluate.tissues import TISSUE_NAMES, TissueSegmentation, segment_tissues
from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError

_LEAST_ML = 1e-3
_RIM = 2  # voxels: gradients across the mask's border are the mask's, not the anatomy's


@dataclass(frozen=True)
class AnatomyScores:
    """What became of the anatomy between two scans of one head on one grid.

    Parameters
    ----------
    volume_drift_percent
        100 (V_after - V_before) / V_before by tissue: `csf`, `grey`, `white`, `ventricle`.
    dice
        2 |A ∩ B| / (|A| + |B|) of the labels by tissue: `csf`, `grey`, `white` (Dice 1945).
    edge_correspondence
        2 Σ ∇a·∇b / (Σ |∇a|² + Σ |∇b|²) over the inner brain: 1 if all edges have kept place, direction and
        height, less where they are blurred, moved, lost or new.
    displacement_mm, greatest_displacement_mm
        How far the image has moved, by blocks of the brain: median and 95th percentile.
    """

    volume_drift_percent: dict[str, float]
    dice: dict[str, float]
    edge_correspondence: float
    displacement_mm: float
    greatest_displacement_mm: float


def compare_anatomy(
    before: CanonicalBrain, after: CanonicalBrain, segmentation: TissueSegmentation | None = None
) -> AnatomyScores:
    """Compare the anatomy of a scan before and after harmonization.

    First the contrast is taken away: `after` is brought back to the contrast of `before` by the one monotone
    curve between them (`in_contrast_of`). So a scan through any strictly increasing curve scores perfectly,
    and what is left is change of anatomy, of sharpness, and curves that differ from place to place.

    Parameters
    ----------
    before, after
        The same head on the same grid; the mask of `before` is used for both.
    segmentation
        Of `before`, if at hand: `segment_tissues(before)`.

    Raises
    ------
    MrharmonyError
        If the grids differ, or a scan is no T1w brain.
    """
    if before.mask.shape != after.mask.shape or not np.allclose(before.volume.affine, after.volume.affine):
        raise MrharmonyError("anatomy is compared on one grid; bring both scans to the same grid first")
    recovered = in_contrast_of(before, after)
    first = segmentation or segment_tissues(before)
    second = segment_tissues(recovered)
    box = find_objects(before.mask.astype(np.uint8))[0]
    inner = binary_erosion(before.mask[box], iterations=_RIM)
    images = before.volume.voxels[box], recovered.volume.voxels[box]
    return AnatomyScores(
        volume_drifts(first, second),
        dice_by_tissue(first.labels, second.labels),
        edge_correspondence(*images, inner),
        *block_displacements(*images, inner, before.volume.zooms),
    )


def volume_drifts(before: TissueSegmentation, after: TissueSegmentation) -> dict[str, float]:
    """Return 100 (V_after - V_before) / V_before by tissue, and of the ventricles; 0 where both are empty."""
    first, second = asdict(before.volumes), asdict(after.volumes)
    return {
        name.removesuffix("_ml"): 100 * (second[name] - first[name]) / max(first[name], _LEAST_ML)
        for name in first
    }


def dice_by_tissue(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> dict[str, float]:
    """Return 2 |A ∩ B| / (|A| + |B|) by tissue (Dice 1945); 1 where both are empty."""
    dice = {}
    for label, name in enumerate(TISSUE_NAMES, start=1):
        one, other = first == label, second == label
        size = int(one.sum() + other.sum())
        dice[name] = 2 * int((one & other).sum()) / size if size else 1.0
    return dice


def edge_correspondence(before: FloatArray, after: FloatArray, inner: BoolArray) -> float:
    """Return 2 Σ ∇a·∇b / (Σ |∇a|² + Σ |∇b|²) over some voxels; 1 if both are flat.

    Lin's concordance (1989, Biometrics 45:255) of the gradients about zero: -1..1.

    Parameters
    ----------
    before, after
        Intensities in the same contrast, shape (i, j, k).
    inner
        Voxels that count, shape (i, j, k).
    """
    a, b = (np.stack(np.gradient(image.astype(np.float64)))[:, inner] for image in (before, after))
    strength = float((a * a).sum() + (b * b).sum())
    return 2 * float((a * b).sum()) / strength if strength else 1.0
