"""Methods without learning, behind the same protocol: the baselines, and the rival to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.harmonize.locked import Extent, through_lock
from mrharmony.harmonize.population import (
    CanonicalBrain,
    DomainStatistics,
    brain_statistics,
    target_statistics,
)
from mrharmony.harmonize.protocol import HarmonizedVolume
from mrharmony.harmonize.tone_curves import global_curve, regional_curves
from mrharmony.prepare import Grid, PreparedScan
from mrharmony.volume import Domain

ClassicalMethod = Literal["none", "histogram", "population", "regional", "regional-scan"]
Curves = Callable[[DomainStatistics, DomainStatistics], BilateralGrid]
_CURVES: dict[ClassicalMethod, Curves] = {
    "none": lambda source, target: BilateralGrid.identity(),
    "histogram": global_curve,
    "population": global_curve,
    "regional": regional_curves,
    "regional-scan": regional_curves,
}
_KNOWS_THE_SOURCE = ("population", "regional")
STATISTICS_ZOOM = 2.0  # mm


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

    name: ClassicalMethod
    statistics: Mapping[str, DomainStatistics]
    extent: Extent = "brain"

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan; `source` is None where the scan's domain is unknown.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of the scan's canonical intensities.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        domain = self.statistics.get(source.name) if source and self.name in _KNOWS_THE_SOURCE else None
        before = domain or scan_statistics(scan)
        return _CURVES[self.name](before, target_statistics(self.statistics, target))


def scan_statistics(scan: PreparedScan) -> DomainStatistics:
    """Return the statistics of one scan, on the 2 mm grid that domains' statistics are taken on."""
    volume, mask = scan.canonical(Grid.working(STATISTICS_ZOOM))
    return brain_statistics(CanonicalBrain(volume, mask, scan.scale))
