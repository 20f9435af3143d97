"""Nyúl's piecewise linear histogram standardization, directed at a domain.

Nyúl, Udupa and Zhang (2000), "New variants of a method of MRI scale standardization", IEEE TMI 19(2):143, as
the `intensity-normalization` package does it: landmarks at the percentiles 1, 10, 20, …, 90, 99.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from intensity_normalization import NyulNormalizer
from intensity_normalization.adapters.images import NumpyImageAdapter
from intensity_normalization.domain.exceptions import NormalizationError
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Fitted, masked, require_brains
from mrharmony.prepare.canonical import CanonicalBrain, brain_intensities, canonical_brain, on_brain
from mrharmony.prepare.prepared import PreparedScan

_LEAST_GAP = 1e-4  # canonical units between landmarks, so that the curve is defined where intensities tie


@dataclass(frozen=True)
class NyulRule:
    """The scan's landmarks to the target's standard scale.

    Of `fitted`, `scales` has the standard scale of each domain in canonical units, shape (domains, 11).
    """

    fitted: Fitted

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        scale = self.fitted.arrays["scales"][self.fitted.row(target)].astype(np.float64)
        return on_brain(scan, _piecewise(brain_intensities(scan), scan.once(_landmarks), scale))


def fit_scales(domains: Brains) -> Fitted:
    """Return the standard scale of each domain, from its own training scans.

    The scale runs from the mean 1st to the mean 99th percentile of those scans, so it is in canonical units.
    Raises `MrharmonyError` where a domain has no scan, or a scan no contrast.
    """
    require_brains(domains)
    scales = [_standard_scale(name, brains) for name, brains in domains.items()]
    return Fitted(tuple(domains), {"scales": np.array(scales)})


def _standard_scale(name: str, brains: Sequence[CanonicalBrain]) -> NDArray[np.float64]:
    intensities = [masked(brain) for brain in brains]
    ends = np.mean([np.percentile(values, [1, 99]) for values in intensities], axis=0)
    normalizer = NyulNormalizer(output_min_value=float(ends[0]), output_max_value=float(ends[1]))
    images = [NumpyImageAdapter(values) for values in intensities]
    everywhere = [NumpyImageAdapter(np.ones(values.shape)) for values in intensities]
    try:
        normalizer.fit_population(images, everywhere)
    except NormalizationError as error:
        raise MrharmonyError(f"Domain {name}: a scan has no contrast ({error}); look at its mask.") from error
    return np.asarray(normalizer.standard_scale)


def _piecewise(
    intensities: FloatArray, landmarks: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the intensities through the line segments; the first and last segment go on at both ends."""
    low, high = intensities.min(initial=landmarks[0]), intensities.max(initial=landmarks[-1])
    slopes = (np.diff(scale) / np.diff(landmarks))[[0, -1]]
    ends = scale[0] + slopes[0] * (low - landmarks[0]), scale[-1] + slopes[1] * (high - landmarks[-1])
    knots = np.concatenate([[low], landmarks, [high]])
    return np.asarray(np.interp(intensities, knots, np.concatenate([ends[:1], scale, ends[1:]])))


def _landmarks(scan: PreparedScan) -> NDArray[np.float64]:
    values = np.percentile(masked(canonical_brain(scan)), NyulNormalizer().percentiles)
    return np.asarray(values + _LEAST_GAP * np.arange(values.size))
