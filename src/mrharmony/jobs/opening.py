"""Opening a model and a method once, for all the scans that follow."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.methods.detail import detail_of
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.protocol import DEFAULTS, Harmonizer, MethodSettings
from mrharmony.methods.registry import load_method, method_named
from mrharmony.networks.compact.model import model_hash, read_card
from mrharmony.scans.sidecar import GENERATED_BY, Provenance
from mrharmony.weights import shipped_model

LIBRARIES = ("torch", "diffusers", "nibabel", "antspyx", "deepbet", "numpy", "scipy")


def open_job(
    model: Path | None,
    method: str,
    source: str | None,
    target: str,
    settings: MethodSettings = DEFAULTS,
    *,
    assume_ras: bool = False,
) -> HarmonizeJob:
    """Return the job that harmonizes scans with a model's method.

    Parameters
    ----------
    model
        Model directory; the shipped one if None.
    method
        Name of a method.
    source, target
        Names of the domains that scans come from and go to; `source` is None where it is unknown.
    settings
        Of the method.
    assume_ras
        Take scans without orientation for RAS.

    Raises
    ------
    MrharmonyError
        If there is no such model, method or domain, or the method does not take a setting.
    """
    directory = model or shipped_model()
    card = read_card(directory)
    domains = card.domain(source) if source else None, card.domain(target)
    harmonizer, provenance = open_method(directory, method, settings)
    if settings.detail and isinstance(harmonizer, DiffusionHarmonizer):
        detail_of(harmonizer.details, domains[1])
    return HarmonizeJob(harmonizer, *domains, provenance, assume_ras)


def open_method(
    directory: Path, method: str, settings: MethodSettings = DEFAULTS
) -> tuple[Harmonizer, Provenance]:
    """Return a method of a model directory, ready to harmonize, and what sidecars say of it.

    Raises `MrharmonyError` if there is no such method, or it does not take a setting.
    """
    settings = method_named(method).settled(settings)
    provenance = method_provenance(settings, directory.name, model_hash(directory))
    return load_method(method, directory, settings), provenance


def method_provenance(
    settings: MethodSettings, model: str | None = None, model_sha256: str | None = None
) -> Provenance:
    """Return what sidecars say of a method with settled settings; one that was just fitted has no model."""
    return Provenance(
        model=model,
        model_sha256=model_sha256,
        seed=settings.translation.seed if settings.translation else settings.seed,
        sampling=_translation_record(settings),
        detail_transfer=settings.detail,
        generated_by=GENERATED_BY,
        versions=_versions(),
    )


def _translation_record(settings: MethodSettings) -> dict[str, Any] | None:
    """Return how pictures are translated, apart from the seed; None for other methods."""
    if settings.translation is None:
        return None
    return {"lock": settings.lock, **settings.translation.model_dump(exclude={"seed"})}


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that decide results, of those that are installed."""
    found = {}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
