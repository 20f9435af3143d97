"""`mrharmony train`: from a BIDS data set to a model directory. Prepare, fit or train, save."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.atomic import make_folder
from mrharmony.core.claims import claimed
from mrharmony.core.domain import require_distinct
from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import content_missing
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.core.wording import count_of
from mrharmony.core.workers import side_by_side, usable_cores
from mrharmony.domains.statistics import fit_statistics
from mrharmony.jobs.brains import prepare_brains, require_some
from mrharmony.jobs.data_sets import DataSet, named_domains, tell_copies, training_scans
from mrharmony.jobs.derivatives import require_place_beside_scans
from mrharmony.methods.cyclegan import require_pairs, train_cyclegan
from mrharmony.methods.diffusion import fit_diffusion
from mrharmony.methods.registry import fit_method, require_method
from mrharmony.networks.card import (
    CARD,
    DomainCard,
    ModelCard,
    TrainingScan,
    read_card,
    require_nothing_at,
    require_outside,
    require_place_for_methods,
    save_card,
)
from mrharmony.networks.compact.data import MixedSlices, RealSlices, SliceData, VirtualSlices
from mrharmony.networks.compact.model import LatentModel, save_model
from mrharmony.networks.compact.networks import build_scheduler
from mrharmony.networks.compact.training import train_networks
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.settings import TrainingSettings, choose_device
from mrharmony.networks.slices import VirtualHead
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid

CONTRAST_HEADS = 4  # virtual heads that a simulated scanner's contrast model is fitted on
STATISTICS_HEADS = 24  # virtual heads that stand for a simulated scanner's population
CLAIMS = "claims.lock"  # of runs on a model directory; in its folder of unfinished work
INTENSITY_CONVENTION = "bias-corrected intensity over the scan's robust brain scale; 0 stays 0"

Item = TypeVar("Item")


@dataclass(frozen=True)
class TrainingReport:
    """What a training ends with."""

    model: Path  # directory
    domains: dict[str, int]  # how many scans of each domain were used
    refused: dict[Path, str] = field(default_factory=dict)  # scans that could not be prepared, and why

    def record(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        refused = {str(scan): reason for scan, reason in self.refused.items()}
        return {"model": str(self.model), "domains": self.domains, "refused": refused}

    def text(self) -> str:
        """Return the report for people."""
        domains = ", ".join(f"{name} ({count_of(count, 'scan')})" for name, count in self.domains.items())
        return "\n".join([f"{self.model}: {domains}", *(f"refused: {r}" for r in self.refused.values())])


@dataclass(frozen=True)
class TrainingBrains:
    """The prepared scans that a model is made from."""

    kept: list[tuple[str, CanonicalBrain]]  # domain and brain of each scan, in the order of the scans
    refused: dict[Path, str]  # why others could not be prepared
    seen: tuple[TrainingScan, ...]  # who the kept scans are of

    def by_domain(self) -> dict[str, list[CanonicalBrain]]:
        """Return the brains of each domain."""
        return {name: [brain for domain, brain in self.kept if domain == name] for name in self.counts()}

    def stack(self) -> NDArray[np.float16]:
        """Return the voxels of all brains, shape (n, i, j, k)."""
        return np.stack([brain.volume.voxels.astype(np.float16) for _, brain in self.kept])

    def domains(self) -> list[str]:
        """Return the domain of each brain, in the order of the scans."""
        return [domain for domain, _ in self.kept]

    def counts(self) -> dict[str, int]:
        """Return the number of brains of each domain."""
        return dict(Counter(self.domains()))


def training_brains(
    index: BidsIndex,
    only: Sequence[str] | None,
    most: int | None,
    grid: Grid,
    work: Path,
    prepared: Path | None = None,
) -> TrainingBrains:
    """Prepare the scans that a model is made from; an interrupted call is resumed.

    The scans are those of `training_scans`; `work` is the folder of what is finished, `prepared` as in
    `prepare_brains`. Raises `MrharmonyError` if a domain is unknown, or every scan was refused.
    """
    scans = training_scans(index, only, most)
    require_distinct(dict.fromkeys(str(scan.domain) for scan in scans))
    brains, refused = prepare_brains([scan.path for scan in scans], grid, work / "brains", prepared=prepared)
    kept = [(str(scan.domain), brains[scan.path]) for scan in scans if scan.path in brains]
    require_some(kept, refused)
    refused |= index.refused
    return TrainingBrains(kept, refused, seen_scans(index.root, [s for s in scans if s.path in brains]))


def seen_scans(root: Path, scans: Iterable[BidsScan]) -> tuple[TrainingScan, ...]:
    """Return scans of a BIDS folder as a model's card names those that it has learned from.

    How many are copies of others is told on standard error.
    """
    data_set = root.resolve().name
    seen = tuple(
        TrainingScan(
            data_set=data_set, subject=scan.subject, sha256=file_sha256(scan.path), domain=scan.domain
        )
        for scan in scans
    )
    subjects, hashes = [scan.subject for scan in seen], [scan.sha256 for scan in seen]
    tell_copies(root, subjects, hashes, "scans to learn from")
    return seen


def work_folder(output: Path) -> Path:
    """Return where unfinished work for a model directory is kept: beside it."""
    return output.with_name(output.name + ".training")


def require_own_place(output: Path, base: Path, data: Path) -> None:
    """Refuse a new model directory in the one that it is made from, or in a subject's folder.

    Raises `MrharmonyError` there, for its unfinished work too.
    """
    for path in (output, work_folder(output)):
        require_outside(path, base)
    require_place_beside_scans(data, output)


@contextmanager
def only_run(output: Path) -> Iterator[None]:
    """Let this run alone make a new model directory, as long as the context lasts.

    Raises `MrharmonyError` where another run is at it, or something stands there by now.
    """
    work = work_folder(output).absolute()
    make_folder(work)
    with claimed(work / CLAIMS, output.name) as free:
        if not free:
            raise MrharmonyError(f"{output}: another run is making this model. Let it end, or name another.")
        require_nothing_at(output)
        yield


def run_folder(work: Path, brains: TrainingBrains, decisive: str) -> Path:
    """Return the folder of a training run in `work`; anything that decides its result changes the name.

    `decisive` is all else that decides it: settings, and the model that training starts from.
    """
    digest = hashlib.sha256(brains.stack().tobytes())
    digest.update(f"{brains.domains()} {decisive}".encode())
    return work / digest.hexdigest()[:16]


def train_on_bids(data: DataSet, output: Path, settings: TrainingSettings, device: str) -> TrainingReport:
    """Train a compact latent diffusion model; unfinished work is kept in `<output>.training`.

    `output` is the model directory to write; `device` is `auto`, `cpu` or `cuda`. Raises `MrharmonyError` if
    something stands at `output`, there is nothing to train on, a simulated scanner is unknown, or names of
    domains collide.
    """
    require_nothing_at(output)
    require_extra("train", "tensorboard")
    on_cpu = choose_device(device).type == "cpu"
    index, grid, work = data.open(), Grid.working(settings.working_zoom), work_folder(output)
    brains = training_brains(index, data.only, settings.scans_per_domain, grid, work, data.prepared)
    heads = _virtual_heads(settings, grid, [brain for _, brain in brains.kept])
    scanners = _scanners(settings) if heads else []
    require_distinct([*brains.counts(), *(scanner.name for scanner in scanners)])
    statistics = fit_statistics(brains.by_domain() | _scanned_heads(heads, scanners, settings.seed))
    run = run_folder(work, brains, settings.model_dump_json())
    slices: SliceData = RealSlices(brains.stack(), brains.domains())
    if heads:
        slices = MixedSlices(VirtualSlices(heads, scanners), slices, settings.virtual_share)
    networks = train_networks(slices, settings, run, only_cpu=on_cpu)
    card = model_card(brains.counts(), data.root, scanners, settings, brains.seen)
    virtual = prepared_heads(evenly(heads, CONTRAST_HEADS), scanners, settings.seed)
    fitted = fit_diffusion(brains.by_domain() | virtual, statistics)
    model = LatentModel(networks.autoencoder, networks.denoiser, networks.prompts, build_scheduler(), card)
    save_model(model, output, fitted.save)
    return TrainingReport(output, brains.counts(), brains.refused)


def fit_on_bids(data: DataSet, output: Path, method: str) -> TrainingReport:
    """Fit a method and write a model directory, new or with methods fitted on the same scans.

    Raises `MrharmonyError` if there are no scans, the method cannot be fitted, or `output` is of other scans
    or domains.
    """
    require_place_for_methods(output)
    require_method(method)
    earlier = _earlier_card(output)
    grid = Grid.working(STATISTICS_ZOOM)
    index = data.open()
    only = _in_order_of(earlier, named_domains(index, data.only))
    brains = training_brains(index, only, None, grid, work_folder(output), data.prepared)
    card = model_card(brains.counts(), data.root, seen=brains.seen)
    _require_same(card, earlier, output)
    fitted = fit_method(method, brains.by_domain())
    with _alone(output):
        _require_same(card, _earlier_card(output), output)
        save_card(card, output)
        fitted.save(output)
    return TrainingReport(output, brains.counts(), brains.refused)


def train_pairs_on_bids(
    data: DataSet, output: Path, pairs: Sequence[tuple[str, str]], settings: CycleGanSettings, device: str
) -> TrainingReport:
    """Train a CycleGAN for each pair of domain names; unfinished work is kept in `<output>.training`.

    The model directory is new, or holds pairs of the same data set, which stay; it still has some of the
    scans that they were trained on. Other arguments are those of `train_on_bids`, and so are the errors.
    """
    require_pairs(pairs)
    require_place_for_methods(output)
    earlier = _earlier_card(output)
    index, place, work = data.open(), choose_device(device), work_folder(output)
    named = [named_domains(index, pair) for pair in pairs]
    pairs = [(one, other) for one, other in named]
    require_pairs(pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    brains = training_brains(index, names, None, Grid.working(STATISTICS_ZOOM), work, data.prepared)
    _card_of_pairs(output, earlier, brains, index)  # other scans are refused before the training, too
    method = train_cyclegan(brains.by_domain(), pairs, settings, work, place)
    with _alone(output):
        save_card(_card_of_pairs(output, _earlier_card(output), brains, index), output)
        method.save(output)
    return TrainingReport(output, brains.counts(), brains.refused)


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Let one process at a time look at a model directory and write to it; others may have begun it too."""
    with claimed(work_folder(output) / CLAIMS, output.name, wait=True):
        yield


def _require_same(card: ModelCard, earlier: ModelCard | None, output: Path) -> None:
    if earlier not in (None, card):
        raise _of_other_scans(output)


def _card_of_pairs(
    output: Path, earlier: ModelCard | None, brains: TrainingBrains, index: BidsIndex
) -> ModelCard:
    """Return the card of a directory with more domains; refuse one that was made of other scans."""
    new = brains.counts()
    if earlier is None:
        return model_card(new, index.root, seen=brains.seen)
    counts = {domain.name: domain.scans for domain in earlier.domains}
    alike = all(counts.get(name, count) == count for name, count in new.items())
    own = earlier == model_card(counts, index.root, seen=earlier.training_scans)
    agree = _agree(earlier.training_scans, brains.seen)
    if not (alike and own and agree and _holds_some(index, earlier.training_scans)):
        raise _of_other_scans(output)
    return model_card(counts | new, index.root, seen=(*earlier.training_scans, *brains.seen))


def _holds_some(index: BidsIndex, seen: Iterable[TrainingScan]) -> bool:
    """Whether a data set has any of these scans, by content: another one may have the name of its folder."""
    known = {(scan.subject, scan.sha256) for scan in seen}
    subjects = {scan.subject for scan in seen}
    theirs = (scan for scan in index.scans if scan.subject in subjects and not content_missing(scan.path))
    return any((scan.subject, file_sha256(scan.path)) in known for scan in theirs)


def _agree(one: Iterable[TrainingScan], other: Iterable[TrainingScan]) -> bool:
    """Whether lists have the same scans of the domains that both name, and no scan in different domains."""
    first, second = set(one), set(other)
    both = {scan.domain for scan in first} & {scan.domain for scan in second}
    differing = first ^ second
    files = [(scan.data_set, scan.subject, scan.sha256) for scan in differing]
    return len(set(files)) == len(files) and not any(scan.domain in both for scan in differing)


def _earlier_card(output: Path) -> ModelCard | None:
    """Return the card of methods that were fitted before, None where there are none.

    Raises `MrharmonyError` where it does not say which scans each domain was fitted on.
    """
    if not (output / CARD).is_file():
        return None
    card = read_card(output)
    if not card.training_scans or any(scan.domain is None for scan in card.training_scans):
        raise MrharmonyError(
            f"{output}: holds methods, but does not say which scans each domain was fitted on. Choose "
            "another output."
        )
    return card


def _in_order_of(earlier: ModelCard | None, only: Sequence[str]) -> Sequence[str]:
    """Return names of domains in the order of an earlier model that has just these."""
    names = [domain.name for domain in earlier.domains] if earlier else []
    return names if set(only) == set(names) else only


def _of_other_scans(output: Path) -> MrharmonyError:
    return MrharmonyError(
        f"{output}: holds methods fitted on other scans, or on the same scans with other domains. Choose "
        "another output."
    )


def model_card(
    counts: Mapping[str, int],
    data_set: Path | None = None,
    scanners: Sequence[Scanner] = (),
    settings: TrainingSettings | None = None,
    seen: Sequence[TrainingScan] = (),
) -> ModelCard:
    """Return the card of a new model.

    `counts` are the domains, and how many scans of each were used; `data_set` is the folder that the scans
    are from, None for scans in memory; `scanners` are simulated scanners that are domains too; `settings` are
    those of the training of a latent diffusion model, None where methods were only fitted; `seen` are the
    scans themselves.
    """
    domains = [DomainCard(name=name, prompt=name, scans=count) for name, count in counts.items()]
    domains += [DomainCard(name=scanner.name, prompt=scanner.name) for scanner in scanners]
    heads = settings.virtual_heads if settings else 0
    origin = f" of the data set {data_set.resolve().name}" if data_set else ""
    virtual = f"; {heads} virtual heads through {len(scanners)} scanners" if heads else ""
    return ModelCard(
        domains=tuple(domains),
        working_zoom=settings.working_zoom if settings else STATISTICS_ZOOM,
        intensity_convention=INTENSITY_CONVENTION,
        training_data=f"{count_of(sum(counts.values()), 'scan')}{origin}{virtual}",
        licence="that of the training data",
        training=settings,
    ).with_scans(seen)


def evenly(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Return at most so many items, taken evenly from all."""
    return items[:: max(1, len(items) // most)][:most]


def prepared_heads(
    heads: Sequence[Anatomy], scanners: Sequence[Scanner], seed: int
) -> dict[str, list[CanonicalBrain]]:
    """Return what each simulated scanner sees of virtual heads, prepared as real scans are.

    Preparation leaves traces, above all in the shading; contrast models are fitted to scans that have them.
    """
    jobs = [(scanner, head, seed, number) for scanner in scanners for number, head in enumerate(heads)]
    scans = track(side_by_side(_prepared_head, jobs, usable_cores()), "preparing virtual heads", len(jobs))
    brains = iter(scans if jobs else ())
    return {scanner.name: [next(brains) for _ in heads] for scanner in scanners}


def _prepared_head(job: tuple[Scanner, Anatomy, int, int]) -> CanonicalBrain:
    """Return a virtual head as a scanner sees it, prepared; a job is scanner, head, seed and its number."""
    scanner, head, seed, number = job
    rng = np.random.default_rng([seed, number, *scanner.name.encode()])
    scan = prepare_scan(scan_head(head, scanner, rng), brain_mask=head.brain_mask)
    return CanonicalBrain(*scan.canonical(Grid.working(STATISTICS_ZOOM)), scan.scale)


def _scanners(settings: TrainingSettings) -> list[Scanner]:
    known = load_scanners()
    for name in settings.scanners:
        if name not in known:
            raise MrharmonyError(f"{name}: no such simulated scanner. Choose from: {', '.join(known)}.")
    return [known[name] for name in settings.scanners or known]


def _virtual_heads(settings: TrainingSettings, grid: Grid, brains: Sequence[CanonicalBrain]) -> list[Anatomy]:
    """Return new people: warps of the anatomies segmented from the real brains, and of the average."""
    if not settings.virtual_heads:
        return []
    bases = [*(segment_brain(brain.volume, brain.mask) for brain in track(brains, "segmenting")), None]
    rng = np.random.default_rng(settings.seed)
    numbers = track(range(settings.virtual_heads), "making virtual heads")
    return [virtual_head(rng, grid, bases[number % len(bases)]) for number in numbers]


def _scanned_heads(
    heads: Sequence[Anatomy], scanners: Sequence[Scanner], seed: int
) -> dict[str, list[CanonicalBrain]]:
    """Return what each simulated scanner sees of the first of the virtual heads, without preparation."""
    sample = [VirtualHead.of(head) for head in heads[:STATISTICS_HEADS]]
    seen: dict[str, list[CanonicalBrain]] = {}
    for scanner in track(scanners, "scanning virtual heads") if sample else ():
        rng = np.random.default_rng([seed, *scanner.name.encode()])
        seen[scanner.name] = []
        for head in sample:
            voxels, scale = head.scan_whole(scanner, rng)
            brain = CanonicalBrain(Volume(voxels, head.anatomy.affine), voxels > 0, scale)
            seen[scanner.name].append(brain)
    return seen
