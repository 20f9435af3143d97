"""Whether two scans of one head show the same anatomy: tissues, edges and places.

`compare_anatomy` first brings the second scan to the contrast of the first, so that only anatomy is left to
differ. `repeat_floor` says how much two scans on the same scanner differ, the floor under every other figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.optimize import isotonic_regression

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, bounding_box
from mrharmony.evaluate.paired import PairedScores, paired_scores
from mrharmony.evaluate.tissues import TISSUE_NAMES, TissueSegmentation, segment_tissues
from mrharmony.preparation.canonical import CanonicalBrain

_BLOCK = 8  # voxels along each edge
_BLUR = 1.0  # voxels; the linearisation holds for shifts of about a voxel
_RIDGE = 1e-6  # keeps blocks without any edge solvable; they then have not moved
_LEVELS = 512  # of the curve, each of as many voxels
_LEAST_SLOPE = 0.1  # of the curve; a loss of contrast must show rather than be undone
_END_LEVELS = 8  # levels whose slope continues the curve beyond its ends
_LEAST_ML = 1e-3  # one voxel of 1 mm: no volume is divided by less
_RIM = 2  # voxels: gradients across the mask's border are the mask's, not the anatomy's


@dataclass(frozen=True)
class AnatomyScores:
    """How the anatomy differs between two scans of one head on one grid."""

    volume_drift_percent: dict[str, float]  # 100 (V_after - V_before) / V_before by tissue, and ventricles
    dice: dict[str, float]  # 2 |A ∩ B| / (|A| + |B|) of the labels by tissue (Dice 1945)
    # 2 Σ ∇a·∇b / (Σ |∇a|² + Σ |∇b|²) over the inner brain: 1 if all edges keep place, direction and
    # height, less where they are blurred, moved, lost or new.
    edge_correspondence: float
    displacement_mm: float  # how far the image has moved: median over blocks of the brain
    displacement_95th_percentile_mm: float


@dataclass(frozen=True)
class RepeatFloor:
    """The noise floor of a scanner and of the figures themselves: means over heads scanned twice."""

    heads: int
    scores: PairedScores  # of the second scan against the first
    volume_difference_percent: dict[str, float]  # size of the volume drift by tissue, and of the ventricles
    dice: dict[str, float]
    edge_correspondence: float
    displacement_mm: float


def compare_anatomy(
    before: CanonicalBrain, after: CanonicalBrain, segmentation: TissueSegmentation | None = None
) -> AnatomyScores:
    """Compare the anatomy of a scan before and after harmonization.

    First `after` is brought back to the contrast of `before` by the one monotone curve between them
    (`in_contrast_of`). So a scan through any strictly increasing curve scores perfectly; what counts is
    change of anatomy, of sharpness, and curves that differ from place to place.

    Parameters
    ----------
    before, after
        The same head on the same grid; the mask of `before` is used for both.
    segmentation
        `segment_tissues(before)`; computed if None.

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
    box = bounding_box(before.mask)
    inner = binary_erosion(before.mask[box], iterations=_RIM)
    images = before.volume.voxels[box], recovered.volume.voxels[box]
    return AnatomyScores(
        volume_drifts(first, second),
        dice_by_tissue(first.labels, second.labels),
        edge_correspondence(*images, inner),
        *block_displacements(*images, inner, before.volume.zooms),
    )


def repeat_floor(pairs: Iterable[tuple[CanonicalBrain, CanonicalBrain]]) -> RepeatFloor:
    """Return the noise floor from pairs of scan and rescan: one head, one scanner and one grid per pair."""
    scores, anatomies = [], []
    for first, second in pairs:
        scores.append(paired_scores(second.volume.voxels, first.volume.voxels, first.mask))
        anatomies.append(compare_anatomy(first, second))
    if not scores:
        raise MrharmonyError("the noise floor needs at least one head that was scanned twice")
    drifts = [anatomy.volume_drift_percent for anatomy in anatomies]
    dices = [anatomy.dice for anatomy in anatomies]
    return RepeatFloor(
        heads=len(scores),
        scores=PairedScores(*(_mean(getattr(s, name) for s in scores) for name in ("mse", "psnr", "ssim"))),
        volume_difference_percent={name: _mean(abs(drift[name]) for drift in drifts) for name in drifts[0]},
        dice={name: _mean(dice[name] for dice in dices) for name in dices[0]},
        edge_correspondence=_mean(anatomy.edge_correspondence for anatomy in anatomies),
        displacement_mm=_mean(anatomy.displacement_mm for anatomy in anatomies),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


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
    """Return 2 Σ ∇a·∇b / (Σ |∇a|² + Σ |∇b|²) over the `inner` voxels of images in the same contrast.

    Lin's concordance (1989, Biometrics 45:255) of the gradients about zero: -1..1; 1 if both are flat.
    """
    a, b = (np.stack(np.gradient(image.astype(np.float64)))[:, inner] for image in (before, after))
    strength = float((a * a).sum() + (b * b).sum())
    return 2 * float((a * b).sum()) / strength if strength else 1.0


def in_contrast_of(reference: CanonicalBrain, scan: CanonicalBrain) -> CanonicalBrain:
    """Return m⁻¹(scan), m the curve of slope ≥ 0.1 with the least Σ (m(reference) - scan)² in the mask.

    m is the isotonic regression of the scan on the reference's intensity levels (Barlow et al. 1972,
    "Statistical Inference under Order Restrictions"), linear between the levels. It compares voxel with
    voxel, not histogram with histogram, so a change of tissue volumes is not mistaken for one of contrast.
    Both scans show one head on one grid; the mask is the reference's.
    """
    before, after = reference.volume.voxels[reference.mask], scan.volume.voxels[reference.mask]
    levels, curve = _increasing_curve(before, after)
    voxels = np.zeros(reference.mask.shape, dtype=np.float32)
    voxels[reference.mask] = np.interp(after, curve, levels)
    return CanonicalBrain(reference.volume.with_voxels(voxels), reference.mask, reference.scale)


def _increasing_curve(
    before: FloatArray, after: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the reference's levels and their values in the scan, increasing, one unit beyond each end."""
    order = np.argsort(before, kind="stable")
    starts = np.unique(np.linspace(0, len(before), _LEVELS, endpoint=False).astype(np.intp))
    counts = np.diff([*starts, len(before)])
    levels = np.add.reduceat(before[order].astype(np.float64), starts) / counts
    means = np.add.reduceat(after[order].astype(np.float64), starts) / counts
    sloped = isotonic_regression(means - _LEAST_SLOPE * levels, weights=counts).x + _LEAST_SLOPE * levels
    reach = min(_END_LEVELS, len(levels) - 1)
    start = (sloped[reach] - sloped[0]) / (levels[reach] - levels[0])
    end = (sloped[-1] - sloped[-1 - reach]) / (levels[-1] - levels[-1 - reach])
    return (
        np.concatenate([[levels[0] - 1], levels, [levels[-1] + 1]]),
        np.concatenate([[sloped[0] - start], sloped, [sloped[-1] + end]]),
    )


def block_displacements(
    before: FloatArray, after: FloatArray, inner: BoolArray, zooms: tuple[float, float, float]
) -> tuple[float, float]:
    """Return median and 95th percentile in mm over blocks of |d| in after(x) = (1 + g) before(x - d) + o.

    Least squares on the brightness constancy with changing gain g and offset o: Lucas and Kanade (1981),
    Proc. IJCAI, 674; Periaswamy and Farid (2003), IEEE TMI 22:865, equation 5, without their smoothness term.
    Accurate to about 1.5 voxels, beyond that only "large". Blocks with less than one half of `inner` voxels
    are left out, unless all are. Images in the same contrast, zooms in mm.
    """
    first, second = (gaussian_filter(image, _BLUR).astype(np.float64) for image in (before, after))
    middle = (first + second) / 2
    # Linearised: before - after = d·∇m - g m - o for each block, with m the mean of both images.
    design = _blocks(np.stack([*np.gradient(middle), middle, np.ones_like(middle)]) * inner)
    change = _blocks(((first - second) * inner)[None])[0]
    share = _blocks(inner[None].astype(np.float64))[0].mean(axis=1)
    used = share >= min(0.5, float(share.max()))
    normal = np.einsum("ubv,wbv->buw", design[:, used], design[:, used]) + _RIDGE * np.eye(5)
    pull = np.einsum("ubv,bv->bu", design[:, used], change[used])
    moves = np.linalg.solve(normal, pull[..., None])[:, :3, 0] * zooms
    median, percentile_95 = np.percentile(np.linalg.norm(moves, axis=1), (50, 95))
    return float(median), float(percentile_95)


def _blocks(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut maps of shape (c, i, j, k) into blocks, shape (c, blocks, voxels), padded with 0 at the ends."""
    padded = np.pad(maps, [(0, 0), *[(0, -size % _BLOCK) for size in maps.shape[1:]]])
    i, j, k = (size // _BLOCK for size in padded.shape[1:])
    cut = padded.reshape(len(maps), i, _BLOCK, j, _BLOCK, k, _BLOCK).transpose(0, 1, 3, 5, 2, 4, 6)
    return cut.reshape(len(maps), i * j * k, _BLOCK**3)
