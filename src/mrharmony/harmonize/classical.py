"""Methods without learning, behind the same protocol: the baselines, and the rival to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.harmonize.locked import Extent, render, through_lock
from mrharmony.harmonize.per_scan import PerScan, canonical_brain
from mrharmony.harmonize.population import (
    DomainStatistics,
    brain_statistics,
    save_statistics,
    target_statistics,
)
from mrharmony.harmonize.protocol import HarmonizedVolume
from mrharmony.harmonize.tone_curves import global_curve, regional_curves
from mrharmony.latent import STATISTICS
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain, FloatArray

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

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look, shape (i, j, k), 0 outside the brain.

        The part of `harmonize` that is the method's own; it takes no evidence.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        return render(scan, self.transform(scan, source, target), 1.0).voxels

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share."""
        directory.mkdir(parents=True, exist_ok=True)
        save_statistics(directory / STATISTICS, self.statistics)

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of the scan's canonical intensities.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        domain = self.statistics.get(source.name) if source and self.name in _KNOWS_THE_SOURCE else None
        before = domain or scan_statistics(scan)
        curves = _CURVES[self.name](before, target_statistics(self.statistics, target))
        return curves if self.extent == "brain" else curves.grounded()


def _statistics(scan: PreparedScan) -> DomainStatistics:
    return brain_statistics(canonical_brain(scan))


_scan_statistics = PerScan(_statistics)


def scan_statistics(scan: PreparedScan) -> DomainStatistics:
    """Return the statistics of one scan, on the 2 mm grid that domains' statistics are taken on."""
    return _scan_statistics(scan)
