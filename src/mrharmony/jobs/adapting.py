"""`mrharmony adapt`: from a model and the scans of new sites to a model that knows them too.

The default method needs contrast models alone, which are fitted in seconds. The compact latent diffusion
model and Stable Diffusion learn by DreamBooth.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrharmony.core.domain import Domain, require_distinct
from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.wording import count_of, some_of
from mrharmony.domains.contrast import CONTRAST_MODELS, load_contrast_models
from mrharmony.domains.statistics import fit_statistics, load_statistics, owner_of
from mrharmony.jobs.data_sets import DataSet, named_domains
from mrharmony.jobs.opening import require_in_file
from mrharmony.jobs.training import (
    TrainingBrains,
    TrainingReport,
    only_run,
    require_own_place,
    run_folder,
    training_brains,
    work_folder,
)
from mrharmony.methods.detail import load_details
from mrharmony.methods.diffusion import DiffusionHarmonizer, fit_diffusion
from mrharmony.networks.card import (
    CARD,
    STATISTICS,
    BaseCard,
    DomainCard,
    ModelCard,
    model_hash,
    read_card,
    require_nothing_at,
    save_card,
    write_directory,
)
from mrharmony.networks.compact.adaptation import contrast_drift
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import LatentModel, as_saved, load_model, save_model
from mrharmony.networks.settings import AdaptationSettings, DreamBoothSettings, choose_device
from mrharmony.networks.stable.configs import PIPELINE
from mrharmony.preparation.canonical import STATISTICS_ZOOM
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.space.grid import Grid

MOST_SCANS = 20  # of a domain; more do not help a few hundred steps
DRIFT_SCANS = 2  # new scans on which the drift of known domains is measured
STABLE_DIFFUSION = ("transformers", "accelerate", "peft", "tensorboard")  # packages that its training needs
_WEIGHTS = (".safetensors", ".ckpt", ".bin")


@dataclass(frozen=True)
class AdaptationReport:
    """What an adaptation ends with."""

    model: Path  # the new directory
    base: Path  # the directory that it comes from
    domains: dict[str, int]  # the new domains, and how many scans of each were used
    refused: dict[Path, str]  # scans that could not be prepared, and why
    nearest: dict[str, str] = field(default_factory=dict)  # of networks: what each new domain started from
    # of networks: mean absolute change of each known domain's contrasts on the new scans, canonical units
    drift: dict[str, float] = field(default_factory=dict)

    @property
    def mean_drift(self) -> float:
        """Mean of `drift` over the known domains; 0 where no network learned."""
        return float(np.mean(list(self.drift.values()))) if self.drift else 0.0

    def record(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        trained = TrainingReport(self.model, self.domains, self.refused).record()
        return asdict(self) | trained | {"base": str(self.base), "mean_drift": self.mean_drift}

    def text(self) -> str:
        """Return the report for people."""
        lines = [
            f"{name}: new, learned from {count_of(count, 'scan')}"
            + (f", starting as {self.nearest[name]}" if self.nearest else "")
            for name, count in self.domains.items()
        ]
        if self.drift:
            worst = max(self.drift, key=lambda name: self.drift[name])
            lines.append(
                f"Known domains: contrasts moved by {self.mean_drift:.4f} canonical units on average, "
                f"at most by {self.drift[worst]:.4f} ({worst}); 1 is about white matter."
            )
        else:
            lines.append("Known domains: the same as in the base, for the default method alone.")
        refused = (f"refused: {reason}" for reason in self.refused.values())
        return "\n".join([*lines, f"Model: {self.model}", *refused])


def extend_on_bids(data: DataSet, base: Path, output: Path) -> AdaptationReport:
    """Fit contrast models to new domains and write them beside those that a model has; it gets no networks.

    Parameters
    ----------
    data
        The scans of the new domains; those that the base does not know are taken.
    base
        Model directory with contrast models: the shipped one, or one of `train` or `adapt`.
    output
        Model directory to write. Prepared brains are kept in `<output>.training`.

    Raises
    ------
    MrharmonyError
        If the base has no contrast models, no domain is new, a domain has no usable scan, something stands at
        `output`, it lies in the base or in a subject's folder, or another run is making it.
    """
    require_nothing_at(output)
    card = read_card(base)
    require_own_place(output, base, data.root)
    if not (base / CONTRAST_MODELS).is_file():
        raise MrharmonyError(
            f"{base / CONTRAST_MODELS}: is missing, the contrast models that the method diffusion adds to. "
            "Restore it, name another base, or say method='img2img'."
        )
    _require_own_files(base, card)
    sha256 = model_hash(base)
    index = data.open()
    chosen = new_domains(index, card, data.only)
    with only_run(output):
        brains = _new_brains(index, chosen, Grid.working(STATISTICS_ZOOM), output, data.prepared)
        fitted = _fitted_beside(brains, base)
        origin = BaseCard(model=base.resolve().name, sha256=sha256, domains=tuple(brains.counts()))
        extended = _adapted_card(card, brains, origin, data.root).model_copy(update={"training": None})

        def write(staging: Path) -> None:
            save_card(extended, staging)
            fitted.save(staging)

        write_directory(output, write)
    return AdaptationReport(output, base, brains.counts(), brains.refused)


def adapt_on_bids(
    data: DataSet,
    base: Path | str,
    output: Path,
    settings: AdaptationSettings | DreamBoothSettings,
    device: str,
    *,
    download: bool = False,
) -> AdaptationReport | TrainingReport:
    """Teach networks new domains; killed and called again, it resumes. Unfinished work: `<output>.training`.

    Parameters
    ----------
    data
        The scans of the new domains. A compact model is taught those that it does not know.
    base
        The directory of a compact model, or a Stable Diffusion v1.x model as a directory in diffusers' layout
        or an id on the Hub. Either may have been adapted before; the domains that it knows stay in its card.
    output
        Model directory to write.
    settings, device
        `AdaptationSettings` for a compact model, else `DreamBoothSettings`; `auto`, `cpu` or `cuda`.
    download
        Whether Stable Diffusion may be fetched from the Hub.

    Raises
    ------
    MrharmonyError
        If the base does not allow it, no domain is new, a domain has no usable scan, something stands at
        `output`, it lies in the base or in a subject's folder, or another run is making it.
    """
    require_nothing_at(output)
    if isinstance(settings, DreamBoothSettings):
        require_extra("stable-diffusion", *STABLE_DIFFUSION)
        from mrharmony.jobs.stable import adapt_stable_diffusion  # noqa: PLC0415 - takes seconds to import

        return adapt_stable_diffusion(data, str(base), output, settings, device, download)
    if is_pipeline(str(base)):
        raise MrharmonyError(f"{base}: is a pipeline of diffusers. Give DreamBoothSettings for it.")
    require_extra("train", "peft", "tensorboard")
    return _adapt_compact(data, Path(base), output, settings, choose_device(device))


def is_pipeline(base: str) -> bool:
    """Whether a base is to be opened as Stable Diffusion: by its files, or as an id on the Hub.

    Also true of weights in other layouts than ours, so that their user hears what to do with them.
    """
    path = Path(base)
    if not path.is_dir():
        return path.is_file() or base.count("/") == 1
    ours = any((path / name).is_file() for name in (CARD, STATISTICS, CONTRAST_MODELS))
    foreign = not ours and any(file.suffix in _WEIGHTS for file in path.rglob("*"))
    return foreign or (path / PIPELINE).is_file()


def require_base(base: str, *, download: bool) -> None:
    """Raise `MrharmonyError` where a base is no model; one that may be downloaded is not looked for."""
    if not is_pipeline(base):
        read_card(Path(base))
    elif Path(base).exists() or not download:
        require_extra("stable-diffusion", *STABLE_DIFFUSION)
        from mrharmony.networks.stable.source import resolve_source  # noqa: PLC0415 - brought by an extra

        resolve_source(base)


def new_domains(index: BidsIndex, card: ModelCard, only: Sequence[str] | None) -> list[str]:
    """Return the domains of a data set that a model does not know, or those chosen by name.

    Those that it knows by name are told on standard error. Raises `MrharmonyError` if none is new, one that
    was chosen is known or missing, or two differ by punctuation alone.
    """
    named = dict.fromkeys(named_domains(index, only or index.domains))
    known = [name for name in named if card.find(name)]
    chosen = [name for name in named if name not in known]
    if known:
        same = f"the base has {some_of(known)} already, and learns nothing new of that name"
        rename = f"If yours is another site, call it otherwise, such as {known[0]}-2, {IN_A_COPY}"
        if only or not chosen:
            raise MrharmonyError(f"{index.root}: {same}. {rename}; else choose other domains.")
        print(f"{index.root}: {same}. {rename}.", file=sys.stderr)
    if not chosen:
        raise MrharmonyError(
            f"{index.root}: no scan has a domain. Choose the domain column of participants.tsv that names "
            "the new sites."
        )
    require_distinct(chosen)
    return chosen


def _adapt_compact(
    data: DataSet, base_dir: Path, output: Path, settings: AdaptationSettings, device: torch.device
) -> AdaptationReport:
    from mrharmony.networks.compact.adaptation import adapt_networks  # noqa: PLC0415 - peft takes seconds to import

    require_own_place(output, base_dir, data.root)
    base, sha256 = load_model(base_dir), model_hash(base_dir)
    _require_own_files(base_dir, base.card)
    index = data.open()
    chosen = new_domains(index, base.card, data.only)
    with only_run(output):
        brains = _new_brains(index, chosen, base.grid, output, data.prepared)
        run = run_folder(work_folder(output), brains, f"{sha256} {settings.model_dump_json()}")
        slices = RealSlices(brains.stack(), brains.domains())
        adapted = adapt_networks(base, slices, settings, run, device.type == "cpu")
        origin = BaseCard(
            model=base_dir.resolve().name, sha256=sha256, domains=tuple(brains.counts()), adaptation=settings
        )
        card = _adapted_card(base.card, brains, origin, data.root)
        networks = adapted.networks
        model = as_saved(
            LatentModel(networks.autoencoder, networks.denoiser, networks.prompts, base.scheduler, card)
        )
        measured = [
            brains.kept[n][1].volume
            for n in np.unique(np.linspace(0, len(brains.kept) - 1, DRIFT_SCANS, dtype=int))
        ]
        known = [Domain(domain.name, domain.prompt) for domain in base.card.domains]
        drift = contrast_drift(base, model, measured, known)
        save_model(model, output, _fitted_beside(brains, base_dir).save)
    names = {domain.prompt: domain.name for domain in base.card.domains}
    nearest = {name: names[prompt] for name, prompt in adapted.nearest.items()}
    return AdaptationReport(output, base_dir, brains.counts(), brains.refused, nearest, drift)


def _require_own_files(base: Path, card: ModelCard) -> None:
    """Refuse a base of which a file is another model's, since the new model would take it over."""
    for path in (base / STATISTICS, base / CONTRAST_MODELS):
        if path.is_file():
            require_in_file(path, *(domain.name for domain in card.domains))


def _new_brains(
    index: BidsIndex, chosen: Sequence[str], grid: Grid, output: Path, prepared: Path | None
) -> TrainingBrains:
    """Prepare the scans of domains that a model does not know; one that loses all its scans is refused."""
    brains = training_brains(index, chosen, MOST_SCANS, grid, work_folder(output), prepared)
    counts = brains.counts()
    if lost := next((domain for domain in chosen if domain not in counts), None):
        raise MrharmonyError(
            f"{lost}: every scan was refused, and a new domain takes one at least. "
            "Run `mrharmony check` on them, or choose other domains."
        )
    return brains


def _fitted_beside(brains: TrainingBrains, base: Path) -> DiffusionHarmonizer:
    """Return the default method fitted on new domains, with what a model has of those that it knows."""
    before, models = load_statistics(base / STATISTICS), base / CONTRAST_MODELS
    owner = partial(owner_of, DiffusionHarmonizer.name, before)
    new = fit_diffusion(brains.by_domain(), before | fit_statistics(brains.by_domain()))
    known = load_contrast_models(models, owner) if models.is_file() else {}
    details = load_details(base, owner) | dict(new.details)
    return replace(new, contrast_models={**known, **new.contrast_models}, details=details)


def _adapted_card(base: ModelCard, brains: TrainingBrains, origin: BaseCard, bids_dir: Path) -> ModelCard:
    """Return the card of an adapted model, with how many scans of each new domain were used."""
    counts = brains.counts()
    names = ", ".join(f"{name} ({count})" for name, count in counts.items())
    domains = (DomainCard(name=name, prompt=name, scans=count) for name, count in counts.items())
    way = " (DreamBooth)" if origin.adaptation else ""
    scans = f"adapted{way} to scans of {bids_dir.resolve().name}: {names}"
    learned = f"what was learned of {', '.join(counts)}: unknown, that of their scans"
    update = {
        "domains": (*base.domains, *domains),
        "training_data": f"{base.training_data}; {scans}",
        "licence": f"{base.licence}; {learned}",
        "base": origin,
    }
    return base.model_copy(update=update).with_scans(brains.seen)
