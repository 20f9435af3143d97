"""Opening a model and a method once, for all the scans that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.libraries import installed_versions
from mrharmony.core.tensors import open_tensors
from mrharmony.core.wording import some_of
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.methods.detail import detail_of
from mrharmony.methods.diffusion import DiffusionHarmonizer
from mrharmony.methods.protocol import DEFAULTS, Harmonizer, MethodSettings
from mrharmony.methods.registry import load_method, method_named, require_protocols
from mrharmony.networks.card import CARD, STATISTICS, ModelCard, model_hash, read_card
from mrharmony.scans.names import scan_suffix, sidecar_path
from mrharmony.scans.sidecar import GENERATED_BY, Provenance
from mrharmony.simulate.protocol import Protocol, is_protocol, read_protocol
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
        Domains that scans come from and go to, as `named_domain` takes them; `source` is None where it is
        unknown.
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
    origin = named_domain(card, source, method) if source else None
    domains = origin, named_domain(card, target, method)
    harmonizer, provenance = open_method(directory, method, settings)
    if domains[1].protocol is None:
        _require_in_files(directory, method, domains[1])
    if settings.detail and isinstance(harmonizer, DiffusionHarmonizer):
        detail_of(harmonizer.details, domains[1])
    return HarmonizeJob(harmonizer, *domains, provenance, assume_ras, extent=settings.extent)


def _require_in_files(directory: Path, method: str, target: Domain) -> None:
    """Raise `MrharmonyError` where a file of a method, taken from another model, does not know a domain."""
    entry = method_named(method)
    own = () if entry.options.pairs else entry.needs.files
    for path in (directory / name for name in (STATISTICS, *own) if name.endswith(".safetensors")):
        require_in_file(path, target.name)


def require_in_file(path: Path, *names: str) -> None:
    """Raise `MrharmonyError` where a file of a model does not know every domain that its card lists."""
    with open_tensors(path, "a file of this model", "restore it") as file:
        known = file.record("domains", dict[str, Any] | list[str])  # type: ignore[arg-type]
    if unknown := [name for name in names if name not in known]:
        raise MrharmonyError(
            f"{path}: does not know {some_of(unknown)}, which {CARD} beside it lists, but "
            f"{some_of(list(known))}; it seems to be of another model. Restore the file "
            "of this one, or name another model."
        )


def named_domain(card: ModelCard, said: str | Protocol, method: str) -> Domain:
    """Return the domain that a user means: one that the model knows, else a protocol.

    Parameters
    ----------
    card
        Of the model.
    said
        Name of a domain, or a protocol, as a sentence or a file for `read_protocol`.
    method
        Name of the method that will serve it.

    Raises
    ------
    MrharmonyError
        If it is neither, or a protocol that cannot be read or the method cannot serve.
    """
    if isinstance(said, str) and not card.find(said) and scan_suffix(said):
        raise MrharmonyError(
            f"{said}: is a scan, no domain. Give its sidecar, {sidecar_path(Path(said)).name}, "
            "for its protocol."
        )
    if isinstance(said, str) and (card.find(said) or not is_protocol(said)):
        return card.domain(said)
    require_protocols(method)
    return (read_protocol(said) if isinstance(said, str) else said).domain


def open_method(
    directory: Path, method: str, settings: MethodSettings = DEFAULTS
) -> tuple[Harmonizer, Provenance]:
    """Return a method of a model directory, ready to harmonize, and what sidecars say of it.

    Raises `MrharmonyError` if there is no such method or device, or the method does not take a setting.
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
        versions=installed_versions(LIBRARIES),
    )


def _translation_record(settings: MethodSettings) -> dict[str, Any] | None:
    """Return how pictures are translated, apart from the seed; None for other methods."""
    if settings.translation is None:
        return None
    return {"lock": settings.lock, **settings.translation.model_dump(exclude={"seed"})}
