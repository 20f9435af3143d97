"""From a BIDS data set to a model directory: prepare, take statistics, train, save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mrharmony.core.domain import require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.inputs import open_data_set
from mrharmony.jobs.training_brains import TrainingBrains, run_folder, training_brains
from mrharmony.methods.registry import fit_method, require_method
from mrharmony.methods.synthesis import fit_synthesis
from mrharmony.networks.devices import choose_device
from mrharmony.networks.diffusion.data import MixedSlices, RealSlices, SliceData, VirtualHead, VirtualSlices
from mrharmony.networks.diffusion.model import (
    CARD,
    DomainCard,
    LatentModel,
    ModelCard,
    read_card,
    save_card,
    save_model,
)
from mrharmony.networks.diffusion.networks import build_scheduler
from mrharmony.networks.diffusion.training import train_networks
from mrharmony.networks.settings import TrainingSettings
from mrharmony.prepare.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.prepare.pipeline import prepare_scan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid

CONTRAST_HEADS = 4  # virtual heads that a simulated scanner's contrast model is fitted on
STATISTICS_HEADS = 24  # virtual heads that stand for a simulated scanner's population
INTENSITY_CONVENTION = "bias-corrected intensity over the scan's robust brain scale; 0 stays 0"


Item = TypeVar("Item")


@dataclass(frozen=True)
class TrainingReport:
    """What a training run ends with."""

    model: Path
    domains: dict[str, int]
    refused: dict[Path, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        refused = {str(scan): reason for scan, reason in self.refused.items()}
        return {"model": str(self.model), "domains": self.domains, "refused": refused}

    def text(self) -> str:
        """Return the report for people."""
        lines = [
            f"{self.model}: " + ", ".join(f"{name} ({count} scans)" for name, count in self.domains.items())
        ]
        return "\n".join(lines + [f"refused: {reason}" for reason in self.refused.values()])


def train_on_bids(
    bids_dir: Path,
    output: Path,
    domain_column: str,
    only: Sequence[str] | None,
    settings: TrainingSettings,
    device: str,
    prepared: Path | None = None,
) -> TrainingReport:
    """Train a compact model on a BIDS data set; unfinished work is kept in `<output>.training`.

    Where `prepared` is the folder of `mrharmony prepare`, brains are taken from there.

    Raises
    ------
    MrharmonyError
        If there is nothing to train on, or the arguments do not fit.
    """
    on_cpu = choose_device(device).type == "cpu"
    index, grid = open_data_set(bids_dir, domain_column), Grid.working(settings.working_zoom)
    work = work_folder(output)
    brains = training_brains(index, only, settings.scans_per_domain, grid, work, prepared)
    heads = virtual_heads(settings, grid, [brain for _, brain in brains.kept])
    scanners = _scanners(settings) if heads else []
    require_distinct([*brains.counts(), *(scanner.name for scanner in scanners)])
    seen = scanned_heads(heads, scanners, settings.seed)
    statistics = fit_statistics(brains.by_domain() | seen)
    run = run_folder(work, brains, settings.model_dump_json())
    networks = train_networks(
        training_slices(brains, heads, scanners, settings), settings, run, only_cpu=on_cpu
    )
    card = model_card(brains.counts(), scanners, settings, bids_dir)
    virtual = prepared_heads(evenly(heads, CONTRAST_HEADS), scanners, settings.seed)
    synthesis = fit_synthesis(brains.by_domain() | virtual, statistics)
    model = LatentModel(networks.autoencoder, networks.denoiser, networks.prompts, build_scheduler(), card)
    save_model(model, output, synthesis.save)
    return TrainingReport(output, brains.counts(), brains.refused)


def evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most so many items, taken evenly from all."""
    return items[:: max(1, len(items) // most)][:most]


def work_folder(output: Path) -> Path:
    """Return where unfinished work for a model directory is kept: beside it."""
    return output.with_name(output.name + ".training")


def training_slices(
    brains: TrainingBrains,
    heads: Sequence[Anatomy],
    scanners: Sequence[Scanner],
    settings: TrainingSettings,
) -> SliceData:
    """Return the source of batches: real slices, and virtual ones where there are heads."""
    real = RealSlices(brains.stack(), brains.domains())
    if not heads:
        return real
    return MixedSlices(VirtualSlices(heads, scanners), real, settings.virtual_share)


def fit_on_bids(
    bids_dir: Path,
    output: Path,
    method: str,
    domain_column: str,
    only: Sequence[str] | None,
    prepared: Path | None = None,
) -> TrainingReport:
    """Fit a method on a BIDS data set, into a directory that `--model` accepts.

    Several methods can be fitted into one directory. Where `prepared` is the folder of `mrharmony prepare`,
    brains are taken from there.

    Raises
    ------
    MrharmonyError
        If there is nothing to fit on, or the method cannot be fitted.
    """
    require_method(method)
    index, grid = open_data_set(bids_dir, domain_column), Grid.working(STATISTICS_ZOOM)
    brains = training_brains(index, only, None, grid, work_folder(output), prepared)
    fitted = fit_method(method, brains.by_domain())
    card = model_card(brains.counts(), (), None, bids_dir)
    if (output / CARD).is_file() and read_card(output) != card:
        raise MrharmonyError(f"{output}: holds methods fitted on other scans. Choose another output.")
    save_card(card, output)
    fitted.save(output)
    return TrainingReport(output, brains.counts(), brains.refused)


def _scanners(settings: TrainingSettings) -> list[Scanner]:
    known = load_scanners()
    unknown = next((name for name in settings.scanners if name not in known), None)
    if unknown:
        raise MrharmonyError(f"{unknown}: no such simulated scanner. Choose from: {', '.join(known)}.")
    return [known[name] for name in settings.scanners or known]


def virtual_heads(settings: TrainingSettings, grid: Grid, brains: Sequence[CanonicalBrain]) -> list[Anatomy]:
    """Return new people: warps of the anatomies segmented from the real brains, and of the average."""
    if not settings.virtual_heads:
        return []
    bases = [segment_brain(brain.volume, brain.mask) for brain in track(brains, "segmenting")]
    rng = np.random.default_rng(settings.seed)
    everyone = [*bases, None]
    numbers = track(range(settings.virtual_heads), "making virtual heads")
    return [virtual_head(rng, grid, everyone[number % len(everyone)]) for number in numbers]


def scanned_heads(
    heads: Sequence[Anatomy], scanners: Sequence[Scanner], seed: int
) -> dict[str, list[CanonicalBrain]]:
    """Return what each simulated scanner sees of the first of the virtual heads."""
    sample = [VirtualHead.of(head) for head in heads[:STATISTICS_HEADS]]
    seen: dict[str, list[CanonicalBrain]] = {}
    for scanner in track(scanners, "scanning virtual heads") if sample else ():
        rng = np.random.default_rng([seed, *scanner.name.encode()])
        seen[scanner.name] = [_scan(head, scanner, rng) for head in sample]
    return seen


def prepared_heads(
    heads: Sequence[Anatomy], scanners: Sequence[Scanner], seed: int
) -> dict[str, list[CanonicalBrain]]:
    """Return what each simulated scanner sees of virtual heads, prepared as real scans are.

    Preparation leaves its own traces, above all in the shading, and a contrast model has to know them.
    """
    grid = Grid.working(STATISTICS_ZOOM)
    prepared: dict[str, list[CanonicalBrain]] = {}
    for scanner in track(scanners, "preparing virtual heads") if heads else ():
        prepared[scanner.name] = []
        for number, head in enumerate(heads):
            rng = np.random.default_rng([seed, number, *scanner.name.encode()])
            scan = prepare_scan(scan_head(head, scanner, rng), brain_mask=head.brain_mask)
            prepared[scanner.name].append(CanonicalBrain(*scan.canonical(grid), scan.scale))
    return prepared


def _scan(head: VirtualHead, scanner: Scanner, rng: np.random.Generator) -> CanonicalBrain:
    voxels, scale = head.scan_whole(scanner, rng)
    return CanonicalBrain(Volume(voxels, head.anatomy.affine), voxels > 0, scale)


def model_card(
    counts: dict[str, int],
    scanners: Sequence[Scanner],
    settings: TrainingSettings | None,
    bids_dir: Path,
) -> ModelCard:
    """Return the card of a freshly trained model; `settings` is None where methods were only fitted."""
    domains = [DomainCard(name=name, prompt=name, scans=count) for name, count in counts.items()]
    domains += [DomainCard(name=scanner.name, prompt=scanner.name) for scanner in scanners]
    heads = settings.virtual_heads if settings else 0
    virtual = f"; {heads} virtual heads through {len(scanners)} scanners" if heads else ""
    return ModelCard(
        domains=tuple(domains),
        working_zoom=settings.working_zoom if settings else STATISTICS_ZOOM,
        intensity_convention=INTENSITY_CONVENTION,
        training_data=f"{sum(counts.values())} scans of the data set {bids_dir.resolve().name}{virtual}",
        licence="that of the training data",
        training=settings,
    )
