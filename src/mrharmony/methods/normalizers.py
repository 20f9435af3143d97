"""Intensity normalization toward a domain: z-score, WhiteStripe, FCM, KDE, LSQ, and Nyúl's landmarks.

A scan's own levels or landmarks are estimated by the `intensity-normalization` package (Reinhold et al. 2019,
"Evaluating the impact of intensity normalization on MR image synthesis", SPIE 10949). The package brings
every scan to a standard of its own; here they are brought to the target's, estimated on its training scans:
levels by one line, landmarks by a line for each segment between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar, NamedTuple

import numpy as np
from intensity_normalization import (
    FCMNormalizer,
    KDENormalizer,
    NyulNormalizer,
    TissueType,
    WhiteStripeNormalizer,
    ZScoreNormalizer,
)
from intensity_normalization.adapters.images import NumpyImageAdapter
from intensity_normalization.domain.exceptions import NormalizationError
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import LARGEST_CANONICAL, Brains, Expected, Fitted, masked, require_brains
from mrharmony.domains.statistics import LEAST_GAP
from mrharmony.preparation.canonical import CanonicalBrain, brain_intensities, canonical_brain, on_brain
from mrharmony.preparation.prepared import PreparedScan

Levels = NDArray[np.float64]
_CLUSTERED_VOXELS = 10_000  # 9 times faster than all; the white matter mean moves by 0.1 %, fluid by 1 %
_RANDOM_STATE = Lock()  # NumPy's own
_DENSITY_POINTS = 80  # as in the package
_DENSITY_BINS = 4096  # narrow beside any bandwidth


class Line(NamedTuple):
    """T(s) = slope · s + intercept, in canonical units."""

    slope: float
    intercept: float


class _Normalizer(NamedTuple):
    levels: Callable[[FloatArray], Levels]
    line: Callable[[Levels, Levels], Line]


@dataclass(frozen=True)
class LineRule:
    """The line from the scan's levels to the target's; of `fitted`, `levels` has a row a domain.

    Parameters
    ----------
    name
        `zscore`: mean and standard deviation of the brain.
        `whitestripe`: mean and standard deviation of the white stripe (Shinohara et al. 2014).
        `fcm`: mean of white matter by fuzzy c-means clustering.
        `kde`: mode of white matter in a kernel density estimate.
        `lsq`: means of the three tissues by fuzzy c-means, one factor in the least squares sense.
    """

    name: str
    fitted: Fitted

    def line(self, scan: PreparedScan, target: Domain) -> Line:
        """Return the line that takes the scan to the target."""
        levels = np.asarray(self.fitted.arrays["levels"][self.fitted.row(target)], np.float64)
        return _NORMALIZERS[self.name].line(scan.once(_levels_of, self.name), levels)

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        slope, intercept = self.line(scan, target)
        return on_brain(scan, slope * brain_intensities(scan) + intercept)


def fit_levels(name: str, domains: Brains) -> Fitted:
    """Return the mean levels of each domain's training scans; raises as `scan_levels`."""
    require_brains(domains)
    levels = [np.mean([scan_levels(name, brain) for brain in brains], axis=0) for brains in domains.values()]
    return Fitted(tuple(domains), {"levels": np.array(levels)})


def scan_levels(name: str, brain: CanonicalBrain) -> Levels:
    """Return a brain's levels: intercept and unit of the normalization, or the means of CSF, GM and WM.

    Raises `MrharmonyError` where the package finds none, in a constant image for instance.
    """
    try:
        levels = _NORMALIZERS[name].levels(masked(brain))
    except NormalizationError as error:
        raise MrharmonyError(f"{name} finds no levels in a scan ({error}); check its brain mask.") from error
    if not np.isfinite(levels).all() or levels[-1] <= 0:
        raise MrharmonyError(f"{name} finds no white matter level above 0 in a scan; check its brain mask.")
    return levels


def expected_levels(name: str) -> dict[str, Expected]:
    """Return what `fit_levels` leaves: intercept and unit, or the means of three tissues, a row a domain."""
    return {"levels": Expected((3 if name == "lsq" else 2,), (-LARGEST_CANONICAL, LARGEST_CANONICAL))}


def shift_and_scale(before: Levels, after: Levels) -> Line:
    """Return the line that takes one intercept and unit to another."""
    slope = float(after[1] / before[1])
    return Line(slope, float(after[0] - slope * before[0]))


def least_squares(before: Levels, after: Levels) -> Line:
    """Return the factor a that minimises ‖a · before - after‖² over the tissues' means."""
    return Line(float(before @ after / (before @ before)), 0.0)


def _standard_levels(normalizer: KDENormalizer | WhiteStripeNormalizer | ZScoreNormalizer) -> Levels:
    """Return o and u of a fitted normalizer's z = (s - o) / u."""
    at_0, at_1 = normalizer.transform(NumpyImageAdapter(np.array([0.0, 1.0]))).get_data()
    unit = 1 / (float(at_1) - float(at_0))
    return np.array([-float(at_0) * unit, unit])


def _individual(
    kind: type[KDENormalizer | WhiteStripeNormalizer | ZScoreNormalizer],
) -> Callable[[FloatArray], Levels]:
    def levels(intensities: FloatArray) -> Levels:
        normalizer = kind()
        normalizer.fit(NumpyImageAdapter(intensities), _everywhere(intensities))
        return _standard_levels(normalizer)

    return levels


class _BinnedKDE(KDENormalizer):
    """The package's normalizer with its density taken from a fine histogram: the same, 20 times faster."""

    def _smooth_histogram(self, image_data: NDArray[np.floating]) -> tuple[Levels, Levels]:
        return binned_density(image_data, float(image_data.max()) / _DENSITY_POINTS)


class _BinnedWhiteStripe(WhiteStripeNormalizer):
    """As `_BinnedKDE`, with the bandwidth of Scott's rule."""

    def _smooth_histogram(self, image_data: NDArray[np.floating]) -> tuple[Levels, Levels]:
        return binned_density(image_data, image_data.size**-0.2)


def binned_density(intensities: NDArray[np.floating], factor: float) -> tuple[Levels, Levels]:
    """Return `scipy.stats.gaussian_kde(intensities, factor)` at 80 intensities, from a fine histogram.

    The grid runs from the least to the greatest intensity; grid and density have the shape (80,). `factor` is
    the bandwidth over the intensities' standard deviation; `NormalizationError` if that is not above 0.
    """
    least, greatest = float(intensities.min()), float(intensities.max())
    bandwidth = factor * float(np.std(intensities, ddof=1, dtype=np.float64))
    if not bandwidth > 0:
        raise NormalizationError("no spread of intensities")
    width = (greatest - least) / _DENSITY_BINS
    bins = ((intensities - least) / width).astype(np.intp)
    counts = np.bincount(np.minimum(bins, _DENSITY_BINS - 1), minlength=_DENSITY_BINS)
    centres = least + width * (np.arange(_DENSITY_BINS) + 0.5)
    grid = np.linspace(least, greatest, _DENSITY_POINTS)
    kernel = np.exp(-0.5 * ((grid[:, None] - centres) / bandwidth) ** 2)
    return grid, kernel @ counts / (intensities.size * bandwidth * np.sqrt(2 * np.pi))


def _tissue_mean(intensities: FloatArray, tissue: TissueType) -> float:
    """Return the mean of a tissue, weighted by membership, as `FCMNormalizer.transform` takes it."""
    some = intensities[:: max(1, intensities.size // _CLUSTERED_VOXELS)]
    normalizer = FCMNormalizer(tissue_type=tissue)
    with _same_random_start():
        normalizer.fit(NumpyImageAdapter(some), _everywhere(some))
    return float(np.average(some, weights=normalizer.tissue_membership))


def _everywhere(intensities: FloatArray) -> NumpyImageAdapter:
    return NumpyImageAdapter(np.ones(intensities.shape))


@contextmanager
def _same_random_start() -> Iterator[None]:
    """Start the clustering from one seed: scikit-fuzzy draws its start from NumPy's global state.

    Threads share that state, so that one at a time has it.
    """
    with _RANDOM_STATE:
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _white_matter(intensities: FloatArray) -> Levels:
    return np.array([0.0, _tissue_mean(intensities, TissueType.WM)])


def _tissue_means(intensities: FloatArray) -> Levels:
    tissues = (TissueType.CSF, TissueType.GM, TissueType.WM)
    return np.array([_tissue_mean(intensities, tissue) for tissue in tissues])


_NORMALIZERS: dict[str, _Normalizer] = {
    "zscore": _Normalizer(_individual(ZScoreNormalizer), shift_and_scale),
    "whitestripe": _Normalizer(_individual(_BinnedWhiteStripe), shift_and_scale),
    "fcm": _Normalizer(_white_matter, shift_and_scale),
    "kde": _Normalizer(_individual(_BinnedKDE), shift_and_scale),
    "lsq": _Normalizer(_tissue_means, least_squares),
}


def _levels_of(scan: PreparedScan, name: str) -> Levels:
    return scan_levels(name, canonical_brain(scan))


# Nyúl, Udupa and Zhang (2000), "New variants of a method of MRI scale standardization", IEEE TMI 19(2):143:
# piecewise linear, with landmarks at the percentiles 1, 10, 20, …, 90, 99 as the package has them.


@dataclass(frozen=True)
class NyulRule:
    """The scan's landmarks to the target's standard scale.

    Of `fitted`, `scales` has the standard scale of each domain in canonical units, shape (domains, 11).
    """

    expected: ClassVar = {"scales": Expected((11,), (-LARGEST_CANONICAL, LARGEST_CANONICAL))}
    fitted: Fitted

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        scale = self.fitted.arrays["scales"][self.fitted.row(target)].astype(np.float64)
        return on_brain(scan, _piecewise(brain_intensities(scan), scan.once(_scan_landmarks), scale))


def fit_scales(domains: Brains) -> Fitted:
    """Return the standard scale of each domain, from its own training scans.

    The scale runs from the mean 1st to the mean 99th percentile of those scans, so it is in canonical units.
    Raises `MrharmonyError` where a domain has no scan, or a scan no contrast.
    """
    require_brains(domains)
    scales = [_standard_scale(name, brains) for name, brains in domains.items()]
    return Fitted(tuple(domains), {"scales": np.array(scales)})


def _standard_scale(name: str, brains: Sequence[CanonicalBrain]) -> Levels:
    intensities = [masked(brain) for brain in brains]
    ends = np.mean([np.percentile(values, [1, 99]) for values in intensities], axis=0)
    normalizer = NyulNormalizer(output_min_value=float(ends[0]), output_max_value=float(ends[1]))
    images = [NumpyImageAdapter(values) for values in intensities]
    try:
        normalizer.fit_population(images, [_everywhere(values) for values in intensities])
    except NormalizationError as error:
        raise MrharmonyError(f"Domain {name}: a scan has no contrast ({error}); check its mask.") from error
    return np.asarray(normalizer.standard_scale)


def _piecewise(intensities: FloatArray, landmarks: Levels, scale: Levels) -> Levels:
    """Return the intensities through the line segments; the first and last segment go on at both ends."""
    low, high = intensities.min(initial=landmarks[0]), intensities.max(initial=landmarks[-1])
    slopes = (np.diff(scale) / np.diff(landmarks))[[0, -1]]
    ends = scale[0] + slopes[0] * (low - landmarks[0]), scale[-1] + slopes[1] * (high - landmarks[-1])
    knots = np.concatenate([[low], landmarks, [high]])
    return np.asarray(np.interp(intensities, knots, np.concatenate([ends[:1], scale, ends[1:]])))


def _scan_landmarks(scan: PreparedScan) -> Levels:
    values = np.percentile(masked(canonical_brain(scan)), NyulNormalizer().percentiles)
    return np.asarray(values + LEAST_GAP * np.arange(values.size))
