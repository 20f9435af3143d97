"""Drift of one scan from source to output, in figures, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from mrharmony.core.volume import BoolArray, FloatArray, Volume, bounding_box, cropped
from mrharmony.domains.statistics import LANDMARKS, DomainStatistics
from mrharmony.evidence.intensities import (
    BrainIntensities,
    class_thresholds,
    histogram,
    quantiles,
    stable_order,
)
from mrharmony.evidence.structure import structure_change
from mrharmony.evidence.verdict import LIMITS, Verdict, judge
from mrharmony.preparation.prepared import PreparedScan

_STRONG_EDGES = 0.10  # the steepest tenth of the output's voxels
_RANKED_VOXELS = 200_000  # about so many are enough for ranks and edges
_BINS = 256  # of the histogram whose classes have volumes


class Evidence(BaseModel):
    """Drift from source to output inside the brain mask.

    Parameters
    ----------
    edge_correlation
        Rank correlation of the gradient magnitudes; 1 if the same edges are the strongest.
    new_edge_share
        Share of the output's strong edges (steepest tenth) where the source's gradient is below its median.
    rank_correlation
        Rank correlation of the intensities; 1 if the order of all grey values is kept.
    csf_drift, grey_drift, white_drift
        Relative change of the volume of the dark, middle and bright class, (after - before) / before, where
        the classes' borders follow the change of contrast.
    clipped_share
        Share of voxels that tie at the least or greatest output intensity but not in the source.
    new_structure, lost_structure
        Structure within a few millimetres that the source does not explain, and that the output lacks, in
        the worst thousandth of the brain; shares of the output's 90th percentile.
    mean_change
        Mean absolute difference, in canonical units.
    target_distance
        Mean absolute difference of the output's quantile function from the target's, in canonical units; None
        where there is no target to compare with.
    verdict
        `fail` if any figure passes its second threshold, `warn` if any passes its first.
    reasons
        The figures and findings that decided the verdict.
    """

    model_config = ConfigDict(frozen=True)

    edge_correlation: float
    new_edge_share: float
    rank_correlation: float
    csf_drift: float
    grey_drift: float
    white_drift: float
    clipped_share: float
    new_structure: float
    lost_structure: float
    mean_change: float
    target_distance: float | None
    verdict: Verdict
    reasons: tuple[str, ...]

    def doubted(self, reasons: Sequence[str]) -> Evidence:
        """Return the evidence with more reasons for a visual check: `warn` at least, if there are any."""
        if not reasons:
            return self
        verdict = "fail" if self.verdict == "fail" else "warn"
        return self.model_copy(update={"verdict": verdict, "reasons": (*self.reasons, *reasons)})

    def faults(self) -> str:
        """Return the figures that fail the scan, with values and thresholds, for a sentence."""
        figures = self.model_dump(include=set(LIMITS) & set(self.reasons))
        return ", ".join(LIMITS[name].fault(name, figure) for name, figure in figures.items())


def scan_evidence(scan: PreparedScan, output: Volume, scale: float, target: DomainStatistics) -> Evidence:
    """Return the evidence on a scan's output, in which `scale` is 1 canonical unit."""
    canonical = cropped(output.voxels, scan.box) / np.float32(scale)
    return evidence(scan.intensities_in_box, canonical, scan.mask_in_box, scan.native.zooms, target)


def evidence(
    source: FloatArray,
    output: FloatArray,
    mask: BoolArray,
    zooms: tuple[float, float, float],
    target: DomainStatistics | None = None,
) -> Evidence:
    """Compare source and output.

    Parameters
    ----------
    source, output
        Canonical units, shape (i, j, k).
    mask
        Brain mask, shape (i, j, k), not empty.
    zooms
        Voxel size, mm.
    target
        Statistics of the target domain, if there is one.
    """
    box = bounding_box(mask)
    source, output, mask = cropped(source, box), cropped(output, box), cropped(mask, box)
    brain = BrainIntensities.of(source, output, mask)
    edges, new_edges = _edge_figures(source, output, mask)
    new_structure, lost_structure = structure_change(brain, mask, zooms)
    drifts = _volume_drifts(brain)
    tied_before, tied_after = map(_tied_at_the_ends, (brain.rising_before, brain.rising_after))
    figures = {
        "edge_correlation": edges,
        "new_edge_share": new_edges,
        "rank_correlation": _rank_correlation(brain.before, brain.after),
        "csf_drift": float(drifts[0]),
        "grey_drift": float(drifts[1]),
        "white_drift": float(drifts[2]),
        "clipped_share": max(0.0, tied_after - tied_before),
        "new_structure": new_structure,
        "lost_structure": lost_structure,
        "mean_change": float(np.abs(brain.after - brain.before).mean()),
    }
    if target is not None:
        distance = np.abs(quantiles(brain.rising_after, LANDMARKS) - target.quantiles).mean()
        figures["target_distance"] = float(distance)
    verdict, reasons = judge(figures)
    return Evidence.model_validate(
        {"target_distance": None, **figures, "verdict": verdict, "reasons": reasons}
    )


def _edge_figures(source: FloatArray, output: FloatArray, mask: BoolArray) -> tuple[float, float]:
    """Return edge correlation and share of new edges, away from the rim that masking makes.

    A fine grid has more voxels than these figures need, so they are taken in evenly spaced planes.
    """
    inner = _eroded(mask, 3)
    inner = inner if inner.any() else mask
    planes = np.arange(0, len(inner), _stride(int(np.count_nonzero(inner))))
    seen = inner[planes]
    steep_before, steep_after = (_steepness(voxels, planes)[seen] for voxels in (source, output))
    strong = steep_after > np.quantile(steep_after, 1 - _STRONG_EDGES)
    new = strong & (steep_before < np.median(steep_before))
    return _rank_correlation(steep_before, steep_after), float(new.sum() / max(int(strong.sum()), 1))


def _steepness(voxels: FloatArray, planes: NDArray[np.intp]) -> FloatArray:
    """Return the magnitude of the gradient of a Gaussian mean, in some planes of the first axis.

    The Gaussian's standard deviation is one voxel.
    """
    gaussian = partial(ndimage.gaussian_filter1d, sigma=1, truncate=2)  # reaches two voxels
    around = np.clip(planes[:, None] + np.arange(-2, 3), 0, len(voxels) - 1)
    weights = np.stack([gaussian([0.0, 0.0, 1.0, 0.0, 0.0], order=order) for order in (0, 1)])
    mean, slope = np.tensordot(weights.astype(np.float32), voxels[around], axes=(1, 1))
    i = gaussian(gaussian(slope, axis=1), axis=2)
    j = gaussian(gaussian(mean, axis=1, order=1), axis=2)
    k = gaussian(gaussian(mean, axis=1), axis=2, order=1)
    return np.asarray(np.sqrt(i * i + j * j + k * k))


def _stride(count: int) -> int:
    """Return how many steps apart so many values may be looked at, as no more than some are needed."""
    return max(1, count // _RANKED_VOXELS)


def _rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Return Spearman's correlation over evenly spaced voxels; 1 where both are constant, else 0."""
    stride = _stride(len(first))
    first, second = first[::stride], second[::stride]
    constant = np.ptp(first) == 0, np.ptp(second) == 0
    if any(constant):
        return float(all(constant))
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: FloatArray) -> NDArray[np.float64]:
    """Return the rank of each value; equal values share the mean of theirs."""
    order = stable_order(values)
    rising = values[order]
    firsts = np.flatnonzero(np.append(True, rising[1:] != rising[:-1]))
    counts = np.diff(np.append(firsts, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(firsts + (counts + 1) / 2, counts)
    return ranks


def _eroded(mask: BoolArray, steps: int) -> BoolArray:
    """Return `scipy.ndimage.binary_erosion(mask, iterations=steps)`, in a third of the time."""
    for _ in range(steps):
        left = mask.copy()
        for axis in range(3):
            here, around = np.moveaxis(left, axis, 0), np.moveaxis(mask, axis, 0)
            here[1:] &= around[:-1]
            here[:-1] &= around[1:]
            here[[0, -1]] = False
        mask = left
    return mask


def _tied_at_the_ends(rising: FloatArray) -> float:
    """Return the share of sorted values that are equal to the least or the greatest; 1 where all are."""
    if rising[0] == rising[-1]:
        return 1.0
    least = int(np.searchsorted(rising, rising[0], side="right"))
    return (least + len(rising) - int(np.searchsorted(rising, rising[-1]))) / len(rising)


def _volume_drifts(brain: BrainIntensities) -> NDArray[np.float64]:
    """Return the relative change of the dark, middle and bright class's volume, shape (3,).

    The source's classes are parted by Otsu's two thresholds. A threshold of the output is the median
    output of the 2 % of source intensities around it, so a new contrast alone moves no volume.
    """
    rising, count = brain.rising_before, len(brain.before)
    thresholds = class_thresholds(*histogram(rising, _BINS))
    if thresholds is None:
        return np.zeros(3)
    reach = max(1, count // 100)
    dark_shares = [np.array([0.0, 0.0])]
    for threshold in thresholds:
        rank = int(np.searchsorted(rising, threshold))
        became = np.median(brain.after[brain.order[max(rank - reach, 0) : rank + reach]])
        darker = int(np.searchsorted(brain.rising_after, became))
        dark_shares.append(np.array([rank, darker]) / count)
    shares = np.diff([*dark_shares, np.array([1.0, 1.0])], axis=0)
    return np.asarray(shares[:, 1] / np.maximum(shares[:, 0], 1e-6) - 1)
