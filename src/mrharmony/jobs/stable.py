"""Stable Diffusion adapted to a data set (DreamBooth), and written as a model directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import PartialState

from mrharmony.core.domain import require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.markdown import escaped, markdown_table
from mrharmony.domains.statistics import DomainStatistics, fit_statistics, load_statistics, save_statistics
from mrharmony.jobs.brains import ScanFile, load_brain, prepare_positions, require_some
from mrharmony.jobs.data_sets import DataSet, training_scans
from mrharmony.jobs.training import (
    TrainingReport,
    model_card,
    only_run,
    require_own_place,
    seen_scans,
    work_folder,
)
from mrharmony.networks.card import (
    CARD,
    STATISTICS,
    DomainCard,
    ModelCard,
    model_hash,
    read_card,
    write_directory,
)
from mrharmony.networks.settings import DreamBoothSettings, choose_device
from mrharmony.networks.stable.adapting import instance_prompts, require_told_apart
from mrharmony.networks.stable.data import SliceSet, choose_slices, join_domains
from mrharmony.networks.stable.model import StableDiffusion, load_stable_diffusion, save_stable_diffusion
from mrharmony.networks.stable.source import resolve_source
from mrharmony.networks.stable.training import train_dreambooth
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsScan
from mrharmony.space.grid import Grid

Kept = Sequence[tuple[BidsScan, Path]]


def adapt_stable_diffusion(
    data: DataSet, base: str, output: Path, settings: DreamBoothSettings, device: str, download: bool
) -> TrainingReport:
    """Teach Stable Diffusion the domains of a data set by DreamBooth; see `adapt_on_bids`."""
    on_cpu = choose_device(device).type == "cpu"
    source = resolve_source(base, download)
    require_own_place(output, source, data.root)
    known = card_of_base(source, settings)
    index = data.open()
    scans = training_scans(index, data.only, None)
    prompts = _prompts(dict.fromkeys(str(scan.domain) for scan in scans), known, settings)
    untrained = load_stable_diffusion(source)  # before the scans are prepared: it may be refused
    require_told_apart(untrained, prompts, _others(known, prompts), settings)
    sha256 = model_hash(source)  # of what was loaded, whatever stands there when the scans are prepared
    state = PartialState(cpu=on_cpu)
    work, grid = work_folder(output), Grid.working(settings.working_zoom)
    with only_run(output) if state.is_main_process else nullcontext():  # `accelerate launch` makes one run
        with state.main_process_first():
            kept, refused = _prepare(scans, data.prepared, grid, settings, work / "brains")
        counts = dict(Counter(str(scan.domain) for scan, _ in kept))
        prompts = {name: prompts[name] for name in counts}
        slices = _slice_set(kept, grid, settings)
        counted = {name: len(own) for name, own in slices.slices.items()}
        settings = settings.planned(counted, state.num_processes)
        model = train_dreambooth(untrained, slices, prompts, settings, work, base=sha256, only_cpu=on_cpu)
        if state.is_main_process:
            before = load_statistics(source / STATISTICS) if (source / CARD).is_file() else {}
            statistics = before | fit_statistics({name: _brains(kept, name, grid) for name in prompts})
            seen = (*known.training_scans, *seen_scans(data.root, [scan for scan, _ in kept]))
            card = model_card(counts, data.root, seen=seen).model_copy(
                update={
                    "domains": _domains(known, counts, prompts),
                    "working_zoom": settings.working_zoom,
                    "licence": "those of the base model and of the training data",
                    "pipeline": Path(base).name,
                    "dreambooth": settings,
                }
            )
            write_directory(output, partial(_write, model, card, statistics))
        state.wait_for_everyone()
    return TrainingReport(output, counts, refused | index.refused)


def card_of_base(source: Path, settings: DreamBoothSettings) -> ModelCard:
    """Return the card of an adapted base, else one of no domains; refuse one adapted to other slices."""
    if not (source / CARD).is_file():
        return model_card({})
    card = read_card(source)
    before = card.dreambooth
    if before is None:
        raise MrharmonyError(f"{source}: holds no Stable Diffusion model. Name one as the base.")
    shape = ("axis", "working_zoom", "enlarge", "volume_corrected")
    if any(getattr(before, name) != getattr(settings, name) for name in shape):
        used = ", ".join(f"{name} {getattr(before, name)}" for name in shape)
        raise MrharmonyError(f"{source}: was adapted with {used}. Use the same.")
    return card


def _others(known: ModelCard, new: Collection[str]) -> dict[str, str]:
    """Return the prompts of the base's domains that are not learned anew."""
    return {domain.name: domain.prompt for domain in known.domains if domain.name not in new}


def _prompts(names: Iterable[str], known: ModelCard, settings: DreamBoothSettings) -> dict[str, str]:
    """Return the prompts of domains; refuse those that are not told apart, or not from others of the base."""
    new = list(names)
    others = _others(known, new)
    require_distinct([*others, *new])
    return instance_prompts(new, settings.prompt, others)


def _prepare(
    scans: Sequence[BidsScan], prepared: Path | None, grid: Grid, settings: DreamBoothSettings, cache: Path
) -> tuple[Kept, dict[Path, str]]:
    """Return the scans that could be prepared, each with the file of its brain, and why others could not."""
    grown = settings.volume_corrected
    positions = [(ScanFile(scan.path, prepared=prepared, volume_corrected=grown),) for scan in scans]
    files, refused = prepare_positions(positions, grid, cache)
    kept = [(scan, files[scan.path]) for scan in scans if scan.path in files]
    require_some(kept, refused)
    return kept, refused


def _domains(
    known: ModelCard, counts: Mapping[str, int], prompts: Mapping[str, str]
) -> tuple[DomainCard, ...]:
    """Return the domains of the base that were not learned anew, and those that were."""
    new = (DomainCard(name=name, prompt=prompts[name], scans=count) for name, count in counts.items())
    return (*(domain for domain in known.domains if domain.name not in counts), *new)


def _write(
    model: StableDiffusion, card: ModelCard, statistics: Mapping[str, DomainStatistics], folder: Path
) -> None:
    save_stable_diffusion(model, folder)
    save_statistics(folder / STATISTICS, statistics)
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")
    (folder / "README.md").write_text(_card_text(card), "utf-8")


def _brains(kept: Kept, domain: str, grid: Grid) -> Iterator[CanonicalBrain]:
    return (load_brain(file, grid) for scan, file in kept if scan.domain == domain)


def _slice_set(kept: Kept, grid: Grid, settings: DreamBoothSettings) -> SliceSet:
    """Return the slices of all scans; which of a scan is decided by the seed and the scan's name alone."""
    slices = []
    for scan, file in kept:
        rng = np.random.default_rng([settings.seed, *scan.path.name.encode()])
        brain = load_brain(file, grid).volume.voxels
        chosen = choose_slices(brain, settings.sliced_axis, settings.slices_per_scan, rng)
        slices.append((str(scan.domain), chosen.astype(np.float16)))  # as the brains are kept
    return join_domains(slices)


def _card_text(card: ModelCard) -> str:
    grown = ", volume-corrected" if card.dreambooth and card.dreambooth.volume_corrected else ""
    rows = [(domain.name, domain.prompt, str(domain.scans)) for domain in card.domains]
    return (
        f"# Stable Diffusion of T1-weighted brain MR, adapted from {card.pipeline}\n\n"
        "DreamBooth by mrharmony, in diffusers' layout. Research use only.\n\n"
        f"{markdown_table(('domain', 'prompt', 'training scans'), rows)}\n"
        f"- Pictures: slices of {card.working_zoom:g} mm of aligned, skull-stripped{grown} brains; "
        "superior up; -1 is 0 and 1 is 1.25 canonical units.\n"
        f"- Intensities: {card.intensity_convention}\n"
        f"- Training data: {escaped(card.training_data)}\n"
        f"- Licence: {escaped(card.licence)}\n"
        "- Limits: pictures are generated; without the anatomy lock nothing keeps a person's anatomy.\n"
    )
