"""The frame of the methods without networks: a fitted rule behind the protocol of all methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Expected, Fitted, load_fitted, save_fitted
from mrharmony.domains.statistics import (
    DomainStatistics,
    load_statistics,
    owner_of,
    save_statistics,
)
from mrharmony.methods.protocol import HarmonizedVolume, Implementation, MethodSettings
from mrharmony.methods.rendering import in_target_units
from mrharmony.networks.card import STATISTICS
from mrharmony.preparation.prepared import PreparedScan


class Rule(Protocol):
    """How a method changes a scan."""

    @property
    def fitted(self) -> Fitted:
        """What the method has learned."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`."""


@dataclass(frozen=True)
class SimpleHarmonizer:
    """A rule behind the protocol of all methods; the domains' statistics give the output its units."""

    name: str
    statistics: Mapping[str, DomainStatistics]
    rule: Rule

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`."""
        return self.rule.intensities(scan, source, target)

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`."""
        voxels = self.intensities(scan, source, target)
        return in_target_units(scan, voxels, source, target, self.statistics, {"method": self.name})

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share, and the method's own file."""
        fitted = self.rule.fitted
        save_statistics(directory / STATISTICS, self.statistics)
        owner = owner_of(self.name, self.statistics, fitted.domains)
        save_fitted(directory / f"{self.name}.safetensors", fitted, owner)


def simple_method(
    name: str,
    fit: Callable[[Brains], Fitted],
    rule: Callable[[Fitted], Rule],
    expected: Mapping[str, Expected],
) -> Implementation:
    """Return the code of a method that is a rule: `fit` learns what `rule` applies, arrays as `expected`."""

    def load(directory: Path, settings: MethodSettings) -> SimpleHarmonizer:
        del settings
        statistics = load_statistics(directory / STATISTICS)
        owner = partial(owner_of, name, statistics)
        fitted = load_fitted(directory / f"{name}.safetensors", expected, owner)
        return SimpleHarmonizer(name, statistics, rule(fitted))

    return Implementation(load, lambda domains, known: SimpleHarmonizer(name, known, rule(fit(domains))))
