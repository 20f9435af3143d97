"""`mrharmony adapt`: from a model and the scans of new sites to a model that knows them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrharmony.core.domain import Domain, require_distinct
from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import CONTRAST_MODELS, load_contrast_models
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.training import (
    TrainingBrains,
    TrainingReport,
    run_folder,
    training_brains,
    work_folder,
)
from mrharmony.methods.detail import load_details
from mrharmony.methods.diffusion import fit_diffusion
from mrharmony.networks.compact.adaptation import contrast_drift
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import (
    CARD,
    STATISTICS,
    BaseCard,
    DomainCard,
    LatentModel,
    ModelCard,
    as_saved,
    load_model,
    model_hash,
    read_card,
    save_model,
)
from mrharmony.networks.settings import AdaptationSettings, DreamBoothSettings, choose_device
from mrharmony.scans.bids import BidsIndex

MOST_SCANS = 20  # of a domain; more do not help a few hundred steps
DRIFT_SCANS = 2  # new scans on which the drift of known domains is measured
PIPELINE = "model_index.json"  # of a diffusers pipeline, such as Stable Diffusion
STABLE_DIFFUSION = ("transformers", "accelerate", "peft", "tensorboard")  # packages that its training needs
_WEIGHTS = (".safetensors", ".ckpt", ".bin")


@dataclass(frozen=True)
class AdaptationReport:
    """What an adaptation ends with."""

    model: Path  # the new directory
    base: Path  # the directory that it comes from
    domains: dict[str, int]  # the new domains, and how many scans of each were used
    nearest: dict[str, str]  # the known domain that each new one started from
    # mean absolute change of each known domain's contrasts on the new scans' structure, canonical units
    drift: dict[str, float]
    refused: dict[Path, str] = field(default_factory=dict)  # scans that could not be prepared, and why

    @property
    def mean_drift(self) -> float:
        """Mean of `drift` over the known domains."""
        return float(np.mean(list(self.drift.values())))

    def record(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        trained = TrainingReport(self.model, self.domains, self.refused).record()
        return asdict(self) | trained | {"base": str(self.base), "mean_drift": self.mean_drift}

    def text(self) -> str:
        """Return the report for people."""
        news = [
            f"{name}: new, learned from {count} scan{'s' * (count > 1)}, starting as {self.nearest[name]}"
            for name, count in self.domains.items()
        ]
        worst = max(self.drift, key=lambda name: self.drift[name])
        known = (
            f"Known domains: contrasts moved by {self.mean_drift:.4f} canonical units on average, "
            f"at most by {self.drift[worst]:.4f} ({worst}); 1 is about white matter."
        )
        return "\n".join(
            [*news, known, f"Model: {self.model}", *(f"refused: {r}" for r in self.refused.values())]
        )


def adapt_on_bids(
    data: DataSet,
    base: Path | str,
    output: Path,
    settings: AdaptationSettings | DreamBoothSettings,
    device: str,
    *,
    download: bool = False,
) -> AdaptationReport | TrainingReport:
    """Teach a model new domains; killed and called again, it resumes. Unfinished work: `<output>.training`.

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
        If the base does not allow it, no domain is new, a domain has no usable scan, or `output` exists.
    """
    if output.exists():
        raise MrharmonyError(f"{output}: exists already. Name a new model directory.")
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
    foreign = not (path / CARD).is_file() and any(file.suffix in _WEIGHTS for file in path.rglob("*"))
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

    Raises `MrharmonyError` if none is new, one is known or missing, or two differ by punctuation alone.
    """
    known = [name for name in only or () if card.find(name)]
    if known:
        raise MrharmonyError(f"{known[0]}: the base knows this domain already. Leave it out.")
    chosen = list(dict.fromkeys(only or (name for name in index.domains if not card.find(name))))
    if not chosen:
        raise MrharmonyError(
            f"{index.root}: no domain that is new to the base (here: {', '.join(index.domains) or 'none'}). "
            "Choose the domain column of participants.tsv that names the new sites."
        )
    require_distinct(chosen)
    return chosen


def _adapt_compact(
    data: DataSet, base_dir: Path, output: Path, settings: AdaptationSettings, device: torch.device
) -> AdaptationReport:
    from mrharmony.networks.compact.adaptation import adapt_networks  # noqa: PLC0415 - peft takes seconds to import

    base, work = load_model(base_dir), work_folder(output)
    index = data.open()
    chosen = new_domains(index, base.card, data.only)
    brains = training_brains(index, chosen, MOST_SCANS, base.grid, work, data.prepared)
    counts = brains.counts()
    if lost := next((domain for domain in chosen if domain not in counts), None):
        raise MrharmonyError(
            f"{lost}: every scan was refused, and a new domain takes one at least. "
            "Run `mrharmony check` on them, or choose other domains."
        )
    sha256 = model_hash(base_dir)
    run = run_folder(work, brains, f"{sha256} {settings.model_dump_json()}")
    slices = RealSlices(brains.stack(), brains.domains())
    adapted = adapt_networks(base, slices, settings, run, device.type == "cpu")
    origin = BaseCard(
        model=base_dir.resolve().name, sha256=sha256, domains=tuple(counts), adaptation=settings
    )
    card = _adapted_card(base.card, brains, origin, index.root)
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
    statistics = load_statistics(base_dir / STATISTICS) | fit_statistics(brains.by_domain())
    new = fit_diffusion(brains.by_domain(), statistics)
    details = load_details(base_dir) | dict(new.details)
    models = base_dir / CONTRAST_MODELS
    old = load_contrast_models(models) if models.is_file() else {}
    fitted = replace(new, contrast_models={**old, **new.contrast_models}, details=details)
    save_model(model, output, fitted.save)
    names = {domain.prompt: domain.name for domain in base.card.domains}
    nearest = {name: names[prompt] for name, prompt in adapted.nearest.items()}
    return AdaptationReport(output, base_dir, counts, nearest, drift, brains.refused)


def _adapted_card(base: ModelCard, brains: TrainingBrains, origin: BaseCard, bids_dir: Path) -> ModelCard:
    """Return the card of an adapted model, with how many scans of each new domain were used."""
    counts = brains.counts()
    names = ", ".join(f"{name} ({count})" for name, count in counts.items())
    domains = (DomainCard(name=name, prompt=name, scans=count) for name, count in counts.items())
    scans = f"adapted (DreamBooth) to scans of {bids_dir.resolve().name}: {names}"
    learned = f"what was learned of {', '.join(counts)}: unknown, that of their scans"
    update = {
        "domains": (*base.domains, *domains),
        "training_data": f"{base.training_data}; {scans}",
        "licence": f"{base.licence}; {learned}",
        "base": origin,
    }
    return base.model_copy(update=update).with_scans(brains.seen)
