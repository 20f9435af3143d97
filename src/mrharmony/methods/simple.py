"""The frame of the methods without learning: a rule behind the protocol of all methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Fitted, save_fitted
from mrharmony.domains.statistics import DomainStatistics, save_statistics
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.rendering import in_target_units
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.prepare.prepared import PreparedScan


class Rule(Protocol):
    """How a method changes a scan."""

    @property
    def fitted(self) -> Fitted:
        """What the method has learned."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look on the native grid, 0 outside the brain."""


@dataclass(frozen=True)
class SimpleHarmonizer:
    """A rule behind the protocol of all methods.

    Parameters
    ----------
    name
        Name of the method as users type it.
    statistics
        Of every known domain, by name; they give the output its units.
    rule
        What is done to the intensities.
    """

    name: str
    statistics: Mapping[str, DomainStatistics]
    rule: Rule

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look, shape (i, j, k), 0 outside the brain.

        The part of `harmonize` that is the method's own; it takes no evidence.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown, or the method cannot work from that source.
        """
        return self.rule.intensities(scan, source, target)

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where the scan's domain is unknown.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown, or the method cannot work from that source.
        """
        voxels = self.intensities(scan, source, target)
        return in_target_units(scan, voxels, source, target, self.statistics, {"method": self.name})

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share, and the method's own file."""
        directory.mkdir(parents=True, exist_ok=True)
        save_statistics(directory / STATISTICS, self.statistics)
        save_fitted(directory / f"{self.name}.safetensors", self.rule.fitted)
