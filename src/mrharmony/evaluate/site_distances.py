"""How far the scans of different sites lie apart, without any classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.evaluate.site_classifiers import Labels
from mrharmony.evaluate.site_features import site_features, slice_features
from mrharmony.evaluate.site_probe import site_labels, usable_folds
from mrharmony.evaluate.tissues import TISSUE_NAMES, segment_tissues
from mrharmony.preparation.canonical import CanonicalBrain

TissueLabels = NDArray[np.uint8]
_BIN_EDGES = np.linspace(0, 2, 401)  # canonical units; brighter voxels count as 2


@dataclass(frozen=True)
class SiteDistances:
    """Distances between the scans of two sites, averaged over all pairs of sites."""

    wasserstein: dict[str, float]  # between the sites' mean histograms of each tissue, canonical units, ≥ 0
    mmd2: float  # squared maximum mean discrepancy of `site_features`; unbiased: near 0 where sites are alike
    fid: float  # Fréchet distance of `slice_features`, ≥ 0; biased upward by few scans
    kid: float  # kernel distance of `slice_features`; unbiased


def site_distances(
    brains: Sequence[CanonicalBrain],
    sites: Sequence[str],
    subjects: Sequence[str],
    tissues: Sequence[TissueLabels] | None = None,
    features: FloatArray | None = None,
) -> SiteDistances:
    """Return the distances between sites.

    Parameters
    ----------
    brains
        Canonical brains on one grid.
    sites, subjects
        Of each scan; scans of one subject are never compared with each other in the kernel distances.
    tissues
        Labels of each scan by `segment_tissues` before harmonization, so that all methods are compared in the
        same voxels; the given scans are segmented if None.
    features
        `site_features` of each scan, shape (n, 241); computed if None.

    Raises
    ------
    MrharmonyError
        If there is one site only, a site has one subject only, or numbers of scans differ.
    """
    names, labels = site_labels(sites, subjects, len(brains))
    usable_folds(sites, subjects, 2)
    segmented = [segment_tissues(brain).labels for brain in brains] if tissues is None else tissues
    if len(segmented) != len(brains):
        raise MrharmonyError(f"{len(segmented)} tissue maps given for {len(brains)} scans; give one each.")
    _, people = np.unique(subjects, return_inverse=True)
    pairs = list(combinations(range(len(names)), 2))
    whole = np.stack([site_features(brain) for brain in brains]) if features is None else features
    slices = np.stack([slice_features(brain) for brain in brains])
    slice_sites, slice_people = (numbers.repeat(slices.shape[1]) for numbers in (labels, people))
    flat = slices.reshape(-1, slices.shape[2])
    return SiteDistances(
        wasserstein=_tissue_distances(brains, segmented, labels, pairs),
        mmd2=_mean_discrepancy(rbf_kernel(standardised(whole.astype(np.float64))), labels, people, pairs),
        fid=float(
            np.mean([frechet_distance(flat[slice_sites == a], flat[slice_sites == b]) for a, b in pairs])
        ),
        kid=_mean_discrepancy(cubic_kernel(flat), slice_sites, slice_people, pairs),
    )


def squared_discrepancy(kernel: Matrix, first: Labels, second: Labels, people: Labels) -> float:
    """Return the unbiased MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y) of Gretton et al. (2012), equation 3.

    Each mean is over the pairs of different subjects. With one scan a subject that is equation 3 (all pairs
    but x = x'); where subjects travelled it also leaves out the pairs x_i, y_i, as their equation 4 does.
    `kernel` is k of all samples, shape (n, n); `first` and `second` are the indices of x and y.
    """

    def mean(a: Labels, b: Labels) -> float:
        strangers = people[a][:, None] != people[b]
        return float(kernel[np.ix_(a, b)][strangers].mean())

    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


def rbf_kernel(samples: Matrix) -> Matrix:
    """Return exp(-d² / 2σ²), σ the median distance d between samples (Gretton et al. 2012, section 8)."""
    distances = cdist(samples, samples, "sqeuclidean")
    median = np.median(distances[np.triu_indices(len(samples), 1)])
    return np.asarray(np.exp(-distances / (2 * max(median, 1e-12))))


def cubic_kernel(samples: Matrix) -> Matrix:
    """Return (x·y / d + 1)³, the kernel of KID (Bińkowski et al. 2018, section 3), d the features' number."""
    return np.asarray((samples @ samples.T / samples.shape[1] + 1) ** 3)


def frechet_distance(first: Matrix, second: Matrix) -> float:
    """Return FID² = |m - w|² + tr(C + D - 2 √(C D)) between two Gaussians (Heusel et al. 2017, equation 6).

    Samples have shape (n, d); n should be many times d.
    """
    means = first.mean(axis=0) - second.mean(axis=0)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The eigenvalues of a product of two covariances are real and not negative but for rounding.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0))
    return float(max(means @ means + np.trace(one) + np.trace(other) - 2 * roots.sum(), 0))


def _mean_discrepancy(kernel: Matrix, sites: Labels, people: Labels, pairs: list[tuple[int, int]]) -> float:
    members = [np.flatnonzero(sites == site) for site in range(sites.max() + 1)]
    return float(np.mean([squared_discrepancy(kernel, members[a], members[b], people) for a, b in pairs]))


def standardised(features: Matrix) -> Matrix:
    """Return features with mean 0 and standard deviation 1 over the scans, shape (n, d)."""
    return np.asarray((features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9))


def _tissue_distances(
    brains: Sequence[CanonicalBrain],
    tissues: Sequence[TissueLabels],
    sites: Labels,
    pairs: list[tuple[int, int]],
) -> dict[str, float]:
    """Return W₁ = ∫ |F - G| between the sites' histograms of each tissue, every scan weighing alike."""
    histograms = np.stack([_histograms(brain, labels) for brain, labels in zip(brains, tissues, strict=True)])
    middles = (_BIN_EDGES[1:] + _BIN_EDGES[:-1]) / 2
    means = [histograms[sites == site].mean(axis=0) for site in range(sites.max() + 1)]

    def distance(tissue: int, a: int, b: int) -> float:
        return float(wasserstein_distance(middles, middles, means[a][tissue], means[b][tissue]))

    return {
        name: float(np.mean([distance(tissue, a, b) for a, b in pairs]))
        for tissue, name in enumerate(TISSUE_NAMES)
    }


def _histograms(brain: CanonicalBrain, labels: TissueLabels) -> NDArray[np.float64]:
    """Return the normalised histogram of each tissue, shape (3, 400)."""
    counts = np.stack(
        [
            np.histogram(np.clip(brain.volume.voxels[labels == tissue], 0, 2), _BIN_EDGES)[0]
            for tissue in range(1, len(TISSUE_NAMES) + 1)
        ]
    ).astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        missing = TISSUE_NAMES[int(totals[:, 0].argmin())]
        raise MrharmonyError(f"A scan has no voxel labelled {missing}; check its mask and its alignment.")
    return np.asarray(counts / totals)
