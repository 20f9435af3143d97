"""Quantile matching, also after N4: monotone curves from one set of quantiles to another, as bilateral grids.

The baselines; `regional` is the strongest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import LARGEST_CANONICAL, Brains, Expected, Fitted, masked, require_brains
from mrharmony.domains.statistics import (
    LANDMARKS,
    LEAST_GAP,
    DomainStatistics,
    brain_statistics,
    load_statistics,
    region_lattice,
    save_statistics,
    target_statistics,
)
from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW, BilateralGrid
from mrharmony.methods.protocol import Extent, HarmonizedVolume, MethodSettings
from mrharmony.methods.rendering import render, through_lock
from mrharmony.networks.card import STATISTICS
from mrharmony.preparation.canonical import CanonicalBrain, brain_on_grid, canonical_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.receive_field import n4_bias_field

_KNOTS = np.linspace(0, 1.6, 65)
_BLACK = 0.01  # canonical units: landmarks below are those of voxels without signal
_GREATEST_SLOPE = 5.0  # a steeper curve would show the noise, not the tissue


def global_curve(source: DomainStatistics, target: DomainStatistics) -> BilateralGrid:
    """Return the one curve that takes the source's quantiles to the target's, the same at every position."""
    offsets = _offsets(source.quantiles, target.quantiles)
    return BilateralGrid(np.array(FIELD_OF_VIEW), _KNOTS, offsets[None, None, None])


def regional_curves(source: DomainStatistics, target: DomainStatistics) -> BilateralGrid:
    """Return a curve a region of template space, blended linearly between the regions' centres."""
    offsets = np.apply_along_axis(
        lambda pair: _offsets(*np.split(pair, 2)),
        3,
        np.concatenate([source.regional, target.regional], axis=3),
    )
    return BilateralGrid(region_lattice().field_of_view, _KNOTS, offsets)


def _offsets(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return T(s) - s at the knots for the curve through black and the landmarks; exactly 0 if they agree.

    Black stays black unless landmarks of the source are black, as CSF's are in an MP2RAGE image. Above the
    last landmark the curve goes on with slope one.
    """
    tied = source < _BLACK
    black = float((target - source)[tied].mean()) if tied.any() else 0.0
    separation = LEAST_GAP * np.arange(len(source) + 1)
    landmarks = np.concatenate([[0.0], source]) + separation
    changes = np.concatenate([[black], target - source])
    offsets: NDArray[np.float64] = np.interp(_KNOTS, landmarks, changes)
    rises = np.diff(offsets) / np.diff(_KNOTS)
    bounded = np.clip(rises, -1, _GREATEST_SLOPE - 1)
    if np.array_equal(rises, bounded):
        return offsets
    return np.append(black, black + np.cumsum(bounded * np.diff(_KNOTS)))


Curves = Callable[[DomainStatistics, DomainStatistics], BilateralGrid]
CURVES: Mapping[str, Curves] = {
    "histogram": global_curve,
    "population": global_curve,
    "regional": regional_curves,
    "regional-scan": regional_curves,
}
_KNOWS_THE_SOURCE = ("population", "regional")


@dataclass(frozen=True)
class ClassicalHarmonizer:
    """Quantile matching, of the whole brain or of overlapping regions.

    Parameters
    ----------
    name
        `none`: prepared alike but not harmonized, the baseline.
        `histogram`: the scan's own quantiles to the target domain's.
        `population`: the source domain's quantiles to the target domain's, one curve for all its scans.
        `regional`: the same in each region of template space.
        `regional-scan`: the scan's own regions to the target domain's.
        Where the source domain is unknown, `population` and `regional` use the scan's own quantiles.
    statistics
        Of every known domain, by name.
    extent
        `brain` or `head`; see `render`.
    """

    name: str
    statistics: Mapping[str, DomainStatistics]
    extent: Extent = "brain"

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of the scan's canonical intensities."""
        if self.name == "none":
            return BilateralGrid.identity()
        domain = self.statistics.get(source.name) if source and self.name in _KNOWS_THE_SOURCE else None
        before = domain or scan.once(scan_statistics)
        curves = CURVES[self.name](before, target_statistics(self.statistics, target))
        return curves if self.extent == "brain" else curves.grounded()

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`."""
        return render(scan, self.transform(scan, source, target))

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`."""
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share."""
        save_statistics(directory / STATISTICS, self.statistics)


def load_curves(name: str, directory: Path, settings: MethodSettings) -> ClassicalHarmonizer:
    """Return the method with the statistics of a model directory."""
    return ClassicalHarmonizer(name, load_statistics(directory / STATISTICS), settings.extent)


def scan_statistics(scan: PreparedScan) -> DomainStatistics:
    """Return the statistics of one scan, on the 2 mm grid that domains' statistics are taken on."""
    return brain_statistics(canonical_brain(scan))


@dataclass(frozen=True)
class BiasFirstRule:
    """The scan without its residual bias field, its quantiles matched to the target's: what many labs do.

    Preparation already corrects the receive field. Here N4 runs again on the corrected scan and removes
    what is left of the field; then the quantiles are matched. Training scans are treated the same way.
    Of `fitted`, `quantiles` has those of the corrected training scans at `LANDMARKS`, a row a domain.
    """

    expected: ClassVar = {"quantiles": Expected(LANDMARKS.shape, (0.0, LARGEST_CANONICAL))}
    fitted: Fitted

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        quantiles = np.asarray(self.fitted.arrays["quantiles"][self.fitted.row(target)])
        corrected, before = scan.once(_correct)
        return render(corrected, global_curve(before, replace(before, quantiles=quantiles)))


def fit_after_bias(domains: Brains) -> Fitted:
    """Return the mean quantiles of each domain's training scans after another N4."""
    require_brains(domains)
    quantiles = [
        np.mean([brain_statistics(_corrected(brain)).quantiles for brain in brains], axis=0)
        for brains in domains.values()
    ]
    return Fitted(tuple(domains), {"quantiles": np.array(quantiles)})


def _corrected(brain: CanonicalBrain) -> CanonicalBrain:
    masked(brain)  # refuses what N4 would choke on
    field = n4_bias_field(brain.volume, brain.mask)
    return brain._replace(volume=brain.volume.with_voxels(brain.volume.voxels / field))


def _correct(scan: PreparedScan) -> tuple[PreparedScan, DomainStatistics]:
    """Return the scan with its bias field times the residual one, and its statistics then."""
    residual = n4_bias_field(scan.native.with_voxels(scan.intensities()), scan.brain_mask)
    corrected = replace(scan, bias_field=scan.bias_field * residual)
    return corrected, brain_statistics(brain_on_grid(corrected))
