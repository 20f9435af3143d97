"""All methods: the one list that the command line, the benchmark and the Python interface read.

A new method is a file in this folder and an entry in `METHODS`. Its code is imported when it is opened, so
that `mrharmony --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.protocol import DEFAULTS, Harmonizer, Implementation, MethodSettings

if TYPE_CHECKING:
    from mrharmony.domains.fitted import Brains
    from mrharmony.domains.statistics import DomainStatistics

DEFAULT_METHOD = "diffusion"
OLD_NAMES = {"synthesis": DEFAULT_METHOD}  # of methods, in scripts written for earlier versions


@dataclass(frozen=True)
class Options:
    """Which settings a method takes, beside seed and device.

    Parameters
    ----------
    translation, detail
        Whether it takes those of `MethodSettings`.
    extent
        Whether it can transform the whole head.
    lock
        Whether it has the anatomy lock by default; None where that is no choice.
    pairs
        Whether it is trained for pairs of domains.
    protocol
        Whether domains can be protocols that the model has no scans of.
    """

    translation: bool = False
    detail: bool = False
    extent: bool = False
    lock: bool | None = None
    pairs: bool = False
    protocol: bool = False


@dataclass(frozen=True)
class Needs:
    """What a method needs before it can harmonize.

    Parameters
    ----------
    training
        `scans`: `fit_method` fits it in seconds; `networks`: it trains networks, with settings of its own;
        None: it runs what another method has trained.
    source
        Whether the domain that a scan comes from must be known.
    network
        Whether it runs a neural network.
    files
        Its own files of a model directory; all methods share `mrharmony.json` and `statistics.safetensors`.
    package, extra
        Optional package (its module) and the extra of mrharmony that brings it.
    """

    training: Literal["scans", "networks"] | None = "scans"
    source: bool = False
    network: bool = False
    files: tuple[str, ...] = ()
    package: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class Method:
    """A method by name.

    Parameters
    ----------
    name
        As users type it.
    description
        What it does, in one line.
    code
        Imports its code; takes the name.
    needs, options
        What it needs, and which settings it takes.
    """

    name: str
    description: str
    code: Callable[[str], Implementation]
    needs: Needs = Needs()
    options: Options = Options()

    def implementation(self) -> Implementation:
        """Return the method's code; raises `MrharmonyError` where an optional package is missing."""
        if self.needs.package and self.needs.extra:
            require_extra(self.needs.extra, self.needs.package)
        return self.code(self.name)

    def lacks(self, directory: Path) -> str | None:
        """Return the name of a file of its own that a model directory does not have, if any."""
        return next((file for file in self.needs.files if not (directory / file).exists()), None)

    def is_in(self, directory: Path) -> bool:
        """Whether a model directory has the method's own files."""
        return self.lacks(directory) is None

    def settled(self, settings: MethodSettings) -> MethodSettings:
        """Return the settings with the method's own defaults for None.

        Raises `MrharmonyError` for settings that the method does not take, and for `cuda` without a GPU, also
        where the method would not use one.
        """
        from mrharmony.networks.settings import require_device

        require_device(settings.device)
        takes = self.options
        if settings.translation and not takes.translation:
            raise MrharmonyError(f"{self.name}: translates no pictures. {_choose('translation')}.")
        if settings.lock is False and takes.lock is None:
            raise MrharmonyError(f"{self.name}: has no picture to give without the lock. {_choose('lock')}.")
        if settings.extent != "brain" and not takes.extent:
            raise MrharmonyError(
                f"{self.name}: transforms only the brain. Leave extent='{settings.extent}' out."
            )
        if settings.detail and not takes.detail:
            raise MrharmonyError(
                f"{self.name}: cannot transfer detail. {_choose('detail')}, or leave detail=True out."
            )
        if takes.translation and not settings.translation:
            from mrharmony.networks.translation import TranslationSettings

            settings = replace(settings, translation=TranslationSettings(seed=settings.seed))
        return replace(settings, lock=takes.lock if settings.lock is None else settings.lock)


def method_named(name: str) -> Method:
    """Return a method's entry, also by an old name; raises `MrharmonyError` where there is none."""
    current = OLD_NAMES.get(name, name)
    _require(current, METHOD_NAMES)
    return next(method for method in METHODS if method.name == current)


def require_protocols(name: str) -> None:
    """Refuse a method whose domains cannot be protocols."""
    if not method_named(name).options.protocol:
        raise MrharmonyError(
            f"{name}: knows domains by their scans, not by a protocol. {_choose('protocol')}."
        )


def require_method(name: str) -> None:
    """Refuse a name that none of `FITTED_METHODS` has."""
    _require(OLD_NAMES.get(name, name), FITTED_METHODS)


def _require(name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise MrharmonyError(f"Unknown method {name}; choose one of: {', '.join(names)}.")


def fit_method(
    name: str, domains: Brains, statistics: Mapping[str, DomainStatistics] | None = None
) -> Harmonizer:
    """Return a method fitted on the training scans of each domain.

    Parameters
    ----------
    name
        One of `FITTED_METHODS`, else `MrharmonyError`.
    domains
        Training scans by domain, on the 2 mm template grid.
    statistics
        `fit_statistics(domains)` where it was taken already; several methods can share it.
    """
    from mrharmony.domains.fitted import require_brains
    from mrharmony.domains.statistics import fit_statistics

    require_method(name)
    fit = method_named(name).implementation().fit
    assert fit is not None
    require_brains(domains)
    return fit(domains, fit_statistics(domains) if statistics is None else statistics)


def load_method(name: str, directory: Path, settings: MethodSettings = DEFAULTS) -> Harmonizer:
    """Return a method that `save` left in a model directory, ready to harmonize.

    Raises `MrharmonyError` where there is no method of that name, it does not take a setting, the device is
    not there, its files are missing or damaged, or a package is missing.
    """
    method = method_named(name)
    settings = method.settled(settings)
    if lost := method.lacks(directory):
        pair = " --pair A B" if method.options.pairs else ""
        raise MrharmonyError(
            f"{directory / lost}: is missing, so that {name} is not fitted here. Fit it on your data: "
            f"mrharmony train BIDS_DIR --method {name}{pair} --output DIR, then choose model='DIR'; or, if "
            f"{lost} was here, restore it."
        )
    return method.implementation().load(directory, settings)


def _choose(option: str) -> str:
    """Return the remedy that names the methods which take an option."""
    takers = (m.name for m in METHODS if getattr(m.options, option) != getattr(Options(), option))
    return "Choose " + " or ".join(f"method='{name}'" for name in takers)


def _curves(name: str) -> Implementation:
    from mrharmony.methods.tone_curves import ClassicalHarmonizer, load_curves

    return Implementation(partial(load_curves, name), lambda _, known: ClassicalHarmonizer(name, known))


def _normalizer(name: str) -> Implementation:
    from mrharmony.methods.normalizers import LineRule, expected_levels, fit_levels
    from mrharmony.methods.simple import simple_method

    return simple_method(name, partial(fit_levels, name), partial(LineRule, name), expected_levels(name))


def _rule(module: str, fit: str, rule: str) -> Callable[[str], Implementation]:
    """Return what imports a method that is a rule: the names of its module, its fit and its class."""

    def code(name: str) -> Implementation:
        from mrharmony.methods.simple import simple_method

        found = import_module(f"mrharmony.methods.{module}")
        kind = getattr(found, rule)
        return simple_method(name, getattr(found, fit), kind, kind.expected)

    return code


def _code(module: str, load: str, fit: str | None = None) -> Callable[[str], Implementation]:
    """Return what imports any other method: the names of its module and its functions."""

    def code(_: str) -> Implementation:
        found = import_module(f"mrharmony.methods.{module}")
        return Implementation(getattr(found, load), getattr(found, fit) if fit else None)

    return code


def _normalized(name: str, description: str) -> Method:
    return Method(name, description, _normalizer, _of_rivals(name, "intensity_normalization"))


def _of_rivals(name: str, package: str | None = None, *, source: bool = False) -> Needs:
    return Needs(files=(f"{name}.safetensors",), source=source, package=package, extra="rivals")


_HEAD = Options(extent=True)
_DIFFUSERS = Needs("networks", network=True, files=("unet",), package="diffusers", extra="stable-diffusion")

METHODS: tuple[Method, ...] = (  # from nothing to the most elaborate; tables keep this order
    Method("none", "prepared alike, not harmonized", _curves, options=_HEAD),
    _normalized("zscore", "mean and standard deviation of the brain"),
    _normalized("whitestripe", "mean and standard deviation of normal-appearing white matter"),
    _normalized("fcm", "mean of white matter by fuzzy c-means"),
    _normalized("kde", "mode of white matter in a kernel density estimate"),
    _normalized("lsq", "means of three tissues, least squares"),
    Method(
        "nyul",
        "Nyúl's landmarks of the histogram",
        _rule("normalizers", "fit_scales", "NyulRule"),
        _of_rivals("nyul", "intensity_normalization"),
    ),
    Method("histogram", "the scan's quantiles to the target's", _curves, options=_HEAD),
    Method(
        "n4-histogram",
        "N4, then histogram",
        _rule("tone_curves", "fit_after_bias", "BiasFirstRule"),
        _of_rivals("n4-histogram", "ants"),
    ),
    Method("population", "the source's quantiles to the target's", _curves, options=_HEAD),
    Method("regional", "population, region by region", _curves, options=_HEAD),
    Method("regional-scan", "histogram, region by region", _curves, options=_HEAD),
    Method(
        "spectrum",
        "the target's amplitudes at the lowest spatial frequencies",
        _rule("spectrum", "fit_spectra", "SpectrumRule"),
        Needs(files=("spectrum.safetensors",)),
    ),
    Method(
        "combat",
        "ComBat's location and spread of every voxel",
        _rule("combat", "fit_combat", "CombatRule"),
        _of_rivals("combat", "neuroCombat", source=True),
    ),
    Method(
        "cyclegan",
        "CycleGAN, networks for each pair of domains",
        _code("cyclegan", "load_cyclegan"),
        Needs("networks", source=True, network=True, files=("cyclegan.safetensors",)),
        Options(lock=False, pairs=True),
    ),
    Method(
        "img2img",
        "the paper's way, image-to-image of a diffusion model",
        _code("image_to_image", "load_image_to_image"),
        _DIFFUSERS,
        Options(translation=True, lock=True),
    ),
    Method(
        DEFAULT_METHOD,
        "expected contrast of the diffusion model, through the lock",
        _code("diffusion", "load_diffusion", "fit_diffusion"),
        Needs(network=True, files=("diffusion.safetensors",)),
        Options(extent=True, detail=True, protocol=True),
    ),
)
METHOD_NAMES = tuple(method.name for method in METHODS)
FITTED_METHODS = tuple(method.name for method in METHODS if method.needs.training == "scans")
SIMPLE_METHODS = tuple(m.name for m in METHODS if m.needs.training == "scans" and not m.needs.network)
