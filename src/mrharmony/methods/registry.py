"""All methods that are fitted on training scans, by name: fitted, saved, and reused on unseen scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, cast, get_args

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Fitted, load_fitted, require_brains
from mrharmony.domains.statistics import DomainStatistics, fit_statistics, load_statistics
from mrharmony.methods.bias_first import BiasFirstRule, fit_after_bias
from mrharmony.methods.combat import CombatRule, fit_combat
from mrharmony.methods.cyclegan import CYCLEGAN, load_cyclegan
from mrharmony.methods.normalizers import LineRule, fit_levels
from mrharmony.methods.nyul import NyulRule, fit_scales
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.simple import Rule, SimpleHarmonizer
from mrharmony.methods.spectrum import SpectrumRule, fit_spectra
from mrharmony.methods.synthesis import SYNTHESIS, fit_synthesis, load_synthesis
from mrharmony.methods.tone_curves import ClassicalHarmonizer, ClassicalMethod
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.prepare.prepared import PreparedScan


class FittedMethod(Protocol):
    """A method that has seen its training scans: a `Harmonizer` that can be saved."""

    @property
    def name(self) -> str:
        """Name of the method as users type it."""

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look on the native grid, 0 outside the brain."""

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where the scan's domain is unknown."""

    def save(self, directory: Path) -> None:
        """Write what `load_method` reads; several methods may share a directory."""


class _Kind(NamedTuple):
    fit: Callable[[Brains], Fitted]
    rule: Callable[[Fitted], Rule]


_KINDS: dict[str, _Kind] = {
    "zscore": _Kind(partial(fit_levels, "zscore"), partial(LineRule, "zscore")),
    "whitestripe": _Kind(partial(fit_levels, "whitestripe"), partial(LineRule, "whitestripe")),
    "fcm": _Kind(partial(fit_levels, "fcm"), partial(LineRule, "fcm")),
    "kde": _Kind(partial(fit_levels, "kde"), partial(LineRule, "kde")),
    "lsq": _Kind(partial(fit_levels, "lsq"), partial(LineRule, "lsq")),
    "nyul": _Kind(fit_scales, NyulRule),
    "n4-histogram": _Kind(fit_after_bias, BiasFirstRule),
    "spectrum": _Kind(fit_spectra, SpectrumRule),
    "combat": _Kind(fit_combat, CombatRule),
}
_CURVES: tuple[str, ...] = get_args(ClassicalMethod)
SIMPLE_METHODS: tuple[str, ...] = (
    "none",
    "zscore",
    "whitestripe",
    "fcm",
    "kde",
    "lsq",
    "nyul",
    "histogram",
    "n4-histogram",
    "population",
    "regional",
    "regional-scan",
    "spectrum",
    "combat",
)

FITTED_METHODS = (*SIMPLE_METHODS, SYNTHESIS)


def fit_method(
    name: str, domains: Brains, statistics: Mapping[str, DomainStatistics] | None = None
) -> FittedMethod:
    """Return a method fitted on the training scans of each domain.

    Parameters
    ----------
    name
        One of `FITTED_METHODS`.
    domains
        Training scans by domain, on the 2 mm template grid.
    statistics
        `fit_statistics(domains)` where it was taken already; several methods can share it.

    Raises
    ------
    MrharmonyError
        If there is no method of that name, or it cannot be fitted on these scans.
    """
    require_method(name)
    require_brains(domains)
    known = fit_statistics(domains) if statistics is None else statistics
    if name == SYNTHESIS:
        return fit_synthesis(domains, known)
    if name in _CURVES:
        return ClassicalHarmonizer(cast(ClassicalMethod, name), known)
    kind = _KINDS[name]
    return SimpleHarmonizer(name, known, kind.rule(kind.fit(domains)))


def load_method(name: str, directory: Path) -> FittedMethod:
    """Return a method that `save` wrote to a directory.

    Raises
    ------
    MrharmonyError
        If there is no method of that name, or its files are missing or damaged.
    """
    if name == CYCLEGAN:
        return load_cyclegan(directory)
    require_method(name)
    statistics = load_statistics(directory / STATISTICS)
    if name == SYNTHESIS:
        return load_synthesis(directory, statistics)
    if name in _CURVES:
        return ClassicalHarmonizer(cast(ClassicalMethod, name), statistics)
    return SimpleHarmonizer(
        name, statistics, _KINDS[name].rule(load_fitted(directory / f"{name}.safetensors"))
    )


def require_method(name: str) -> None:
    """Refuse a name that no fitted method has.

    Raises
    ------
    MrharmonyError
        If there is no such method.
    """
    if name not in FITTED_METHODS:
        raise MrharmonyError(f"Unknown method {name}; choose one of: {', '.join(FITTED_METHODS)}.")
