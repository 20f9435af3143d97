"""From a model and the scans of new sites to a model that knows them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrharmony.core.domain import Domain, require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import CONTRAST_MODELS, ContrastModel, load_contrast_models
from mrharmony.domains.statistics import fit_statistics, load_statistics
from mrharmony.jobs.inputs import open_data_set
from mrharmony.jobs.training import work_folder
from mrharmony.jobs.training_brains import run_folder, training_brains
from mrharmony.methods.detail import load_details
from mrharmony.methods.synthesis import fit_synthesis
from mrharmony.networks.devices import choose_device
from mrharmony.networks.diffusion.data import RealSlices
from mrharmony.networks.diffusion.model import (
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
from mrharmony.networks.diffusion.preservation import contrast_drift
from mrharmony.networks.settings import AdaptationSettings
from mrharmony.scans.bids import BidsIndex

MOST_SCANS = 20  # of a domain; more do not help a few hundred steps
DRIFT_SCANS = 2  # whose structure shows how far known domains drift
PIPELINE = "model_index.json"  # of a diffusers pipeline, such as Stable Diffusion


@dataclass(frozen=True)
class AdaptationReport:
    """What an adaptation ends with.

    Parameters
    ----------
    model, base
        The directories of the new model and of the one it comes from.
    domains
        The new domains, and how many scans of each were used.
    nearest
        The known domain that each new one started from.
    drift
        Mean absolute change of each known domain's looks on new scans' structure, canonical units.
    refused
        Scans that could not be prepared, and why.
    """

    model: Path
    base: Path
    domains: dict[str, int]
    nearest: dict[str, str]
    drift: dict[str, float]
    refused: dict[Path, str] = field(default_factory=dict)

    @property
    def mean_drift(self) -> float:
        """Mean of `drift` over the known domains."""
        return float(np.mean(list(self.drift.values())))

    def record(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "model": str(self.model),
            "base": str(self.base),
            "domains": self.domains,
            "nearest": self.nearest,
            "drift": self.drift,
            "mean_drift": self.mean_drift,
            "refused": {str(scan): reason for scan, reason in self.refused.items()},
        }

    def text(self) -> str:
        """Return the report for people."""
        news = [
            f"{name}: new, learned from {count} scan{'s' * (count > 1)}, starting as {self.nearest[name]}"
            for name, count in self.domains.items()
        ]
        worst = max(self.drift, key=lambda name: self.drift[name])
        known = (
            f"Known domains: looks moved by {self.mean_drift:.4f} canonical units on average, "
            f"at most by {self.drift[worst]:.4f} ({worst}); 1 is about white matter."
        )
        return "\n".join(
            [*news, known, f"Model: {self.model}", *(f"refused: {r}" for r in self.refused.values())]
        )


def adapt_on_bids(  # noqa: PLR0913 - everything that the command line lets choose
    bids_dir: Path,
    base: Path,
    output: Path,
    domain_column: str,
    only: Sequence[str] | None,
    settings: AdaptationSettings,
    device: str,
    *,
    prepared: Path | None = None,
) -> AdaptationReport:
    """Teach a model the domains of a BIDS data set that it does not know; what the base is decides how.

    Parameters
    ----------
    bids_dir
        The data set.
    base, output
        Directory of the model to start from, and of the one to write.
    domain_column
        Of participants.tsv, or `session`.
    only
        Teach these domains alone; all that are new if empty.
    settings
        How they are taught.
    device
        `auto`, `cpu` or `cuda`.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.

    Raises
    ------
    MrharmonyError
        If the base cannot be adapted, no domain is new, a domain has no usable scan, or `output` exists.
    """
    require_new(output)
    if is_pipeline(str(base)):
        raise MrharmonyError(f"{base}: is a pipeline of diffusers; see mrharmony.jobs.stable.")
    index = open_data_set(bids_dir, domain_column)
    if (base / CARD).is_file():
        return _adapt_compact(index, base, output, only, settings, choose_device(device), prepared)
    raise MrharmonyError(f"{base}: not a model, there is no {CARD}. Name a model directory with --base.")


def require_new(output: Path) -> None:
    """Refuse to write a model over something.

    Raises
    ------
    MrharmonyError
        If there is a file or directory already.
    """
    if output.exists():
        raise MrharmonyError(f"{output}: exists already. Name a new model directory, or remove this one.")


def is_pipeline(base: str) -> bool:
    """Whether a base is a Stable Diffusion pipeline: in a directory, or by its id on the Hub."""
    return (Path(base) / PIPELINE).is_file() or (base.count("/") == 1 and not Path(base).exists())


def new_domains(index: BidsIndex, card: ModelCard, only: Sequence[str] | None) -> list[str]:
    """Return the domains of a data set that a model does not know, or those chosen by name.

    Raises
    ------
    MrharmonyError
        If none is new, a chosen one is known or not there, or two new names differ by punctuation alone.
    """
    known = [name for name in only or () if card.find(name)]
    if known:
        raise MrharmonyError(f"{known[0]}: the base knows this domain already. Leave it out.")
    wanted = list(dict.fromkeys(only or (name for name in index.domains if not card.find(name))))
    if not wanted:
        raise MrharmonyError(
            f"{index.root}: no domain that is new to the base (here: {', '.join(index.domains) or 'none'}). "
            "Say with --domain-column which column of participants.tsv names the new sites."
        )
    require_distinct(wanted)
    return wanted


def _adapt_compact(
    index: BidsIndex,
    base_dir: Path,
    output: Path,
    only: Sequence[str] | None,
    settings: AdaptationSettings,
    device: torch.device,
    prepared: Path | None,
) -> AdaptationReport:
    """Adapt a compact model; unfinished work is kept in `<output>.training`."""
    from mrharmony.networks.diffusion.adaptation import adapt_networks  # noqa: PLC0415 - peft takes seconds to import

    wanted = new_domains(index, read_card(base_dir), only)
    base, work = load_model(base_dir), work_folder(output)
    contrast_models = _contrast_models(base_dir)
    brains = training_brains(index, wanted, MOST_SCANS, base.grid, work, prepared)
    _require_a_scan_of_each(wanted, brains.counts())
    sha256 = model_hash(base_dir)
    run = run_folder(work, brains, f"{sha256} {settings.model_dump_json()}")
    slices = RealSlices(brains.stack(), brains.domains())
    adapted = adapt_networks(base, slices, settings, run, device.type == "cpu")
    counts = brains.counts()
    origin = BaseCard(
        model=base_dir.resolve().name, sha256=sha256, domains=tuple(counts), adaptation=settings
    )
    card = adapted_card(base.card, counts, origin, index.root)
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
    new = fit_synthesis(brains.by_domain(), statistics)
    details = load_details(base_dir) | dict(new.details)
    save_model(
        model,
        output,
        replace(new, contrast_models={**contrast_models, **new.contrast_models}, details=details).save,
    )
    names = {domain.prompt: domain.name for domain in base.card.domains}
    nearest = {name: names[prompt] for name, prompt in adapted.nearest.items()}
    return AdaptationReport(output, base_dir, counts, nearest, drift, brains.refused)


def _contrast_models(base: Path) -> dict[str, ContrastModel]:
    """Return the contrast models of the base's domains; none where it has none."""
    if not (base / CONTRAST_MODELS).is_file():
        return {}
    return load_contrast_models(base)


def adapted_card(base: ModelCard, counts: dict[str, int], origin: BaseCard, bids_dir: Path) -> ModelCard:
    """Return the card of an adapted model.

    Parameters
    ----------
    base
        The card of the model that it was.
    counts
        New domains, and how many scans of each were used.
    origin
        The base, and how it was adapted.
    bids_dir
        Where the scans were.
    """
    names = ", ".join(f"{name} ({count})" for name, count in counts.items())
    domains = (DomainCard(name=name, prompt=name, scans=count) for name, count in counts.items())
    data = f"{base.training_data}; adapted (DreamBooth) to scans of {bids_dir.resolve().name}: {names}"
    licence = f"{base.licence}; what was learned of {', '.join(counts)}: unknown, that of their scans"
    update = {
        "domains": (*base.domains, *domains),
        "training_data": data,
        "licence": licence,
        "base": origin,
    }
    return base.model_copy(update=update)


def _require_a_scan_of_each(domains: Sequence[str], counts: Mapping[str, int]) -> None:
    if lost := next((domain for domain in domains if domain not in counts), None):
        raise MrharmonyError(
            f"{lost}: every scan was refused, and a new domain takes one at least. "
            "Run `mrharmony check` on them, or choose other domains with --domain."
        )
