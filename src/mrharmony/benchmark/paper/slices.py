"""What the paper's study is asked for, its scans on the model's grid, and the slices that it translates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.benchmark.plan import BenchmarkPlan, BenchmarkScan, make_plan
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.paper import as_picture, slice_places, tone_quantiles
from mrharmony.jobs.brains import load_brain, prepare_positions, reasons_by_name, require_some
from mrharmony.jobs.data_sets import first_copy, named_domains
from mrharmony.methods.registry import DEFAULT_METHOD
from mrharmony.networks.card import CARD, read_card
from mrharmony.networks.slices import slice_positions
from mrharmony.networks.translation import TranslationSettings
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.scans.bids import SPLIT, BidsIndex
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.space.grid import Grid

SEARCH_STEPS = 25
SEARCH_SCANS = 2  # of each domain, for the search of settings
SEARCH_SLICES = 4  # of each direction, for the same
TONE_SCANS = 4  # of the target, for its tone
_LEAST_BRAIN = 100  # pixels of a slice whose tone is measured


@dataclass(frozen=True)
class PaperRequest:
    """What to repeat, and on which data."""

    bids_dir: Path
    source: str
    target: str  # the model must know it
    output: Path  # folder of the results
    model: Path  # directory of an adapted Stable Diffusion or a compact model
    # Directories of methods that `mrharmony train --method` wrote, by the method's name: extra rows, or
    # replacements of what the model holds.
    fitted: Mapping[str, Path] = field(default_factory=dict)
    from_model: tuple[str, ...] = ("none", "histogram", DEFAULT_METHOD)  # rows by what the model itself holds
    domain_column: str = "site"
    slices: int = 1  # of each direction, of as many different scans as there are
    images: int = 100  # of a slice by image-to-image
    steps: int = 1000  # of the paper's row; the search and the best settings take 25 at most
    seed: int = 2500  # of the images, and of the choice of slices
    device: str = "auto"
    workers: int | None = None  # processes that prepare scans; one per core if None
    prepared: Path | None = None  # folder that `mrharmony prepare` wrote; scans are prepared here if None

    @property
    def work(self) -> Path:
        """Folder of what a run that was killed resumes from."""
        return self.output / "work"

    @property
    def paper(self) -> TranslationSettings:
        """The paper's settings."""
        own = {"seed": self.seed, "num_inference_steps": self.steps, "num_images_per_prompt": self.images}
        return TranslationSettings.paper("all").model_copy(update=own)

    @property
    def search(self) -> TranslationSettings:
        """The settings of the search, strength and guidance aside: one image of each slice."""
        steps = min(SEARCH_STEPS, self.steps)
        return TranslationSettings(num_inference_steps=steps, select="all", seed=self.seed)


class PaperScan(NamedTuple):
    """A scan on the model's grid, and the target scanner's own scan of the same head where there is one."""

    name: str
    brain: CanonicalBrain
    truth: CanonicalBrain | None = None


@dataclass(frozen=True)
class PaperSlices:
    """Slices of some scans."""

    scans: tuple[PaperScan, ...]
    axis: int  # of voxels, which the slices are perpendicular to
    owners: NDArray[np.int64]  # the scan of each slice, shape (n,)
    places: NDArray[np.int64]  # its index along the axis, shape (n,)

    @classmethod
    def draw(cls, scans: Sequence[PaperScan], axis: int, count: int, seed: int) -> Self:
        """Draw slices at random, spread over the scans as evenly as can be."""
        shares = [len(part) for part in np.array_split(np.arange(count), len(scans))]
        places = [
            slice_places(np.moveaxis(scan.brain.mask, axis, 0), share, seed + number)
            for number, (scan, share) in enumerate(zip(scans, shares, strict=True))
            if share
        ]
        owners = np.repeat(np.arange(len(places)), [len(part) for part in places])
        return cls(tuple(scans[: len(places)]), axis, owners, np.concatenate(places))

    def first(self) -> Self:
        """Return the first slice alone, which is of the first scan."""
        return replace(self, scans=self.scans[:1], owners=self.owners[:1], places=self.places[:1])

    @property
    def names(self) -> tuple[str, ...]:
        """Scan and place of each slice."""
        pairs = zip(self.owners, self.places, strict=True)
        return tuple(f"{self.scans[owner].name} slice {place}" for owner, place in pairs)

    @property
    def inputs(self) -> FloatArray:
        """Canonical intensities, 0 outside the brain, shape (n, h, w)."""
        return self.cut([np.where(s.brain.mask, s.brain.volume.voxels, 0) for s in self.scans])

    @property
    def masks(self) -> BoolArray:
        """The brain in each slice, shape (n, h, w)."""
        return self.cut([scan.brain.mask for scan in self.scans]).astype(bool)

    @property
    def truths(self) -> FloatArray | None:
        """The target scanner's own slices as `inputs`; None unless all scans have them."""
        found = [
            np.where(scan.brain.mask, scan.truth.volume.voxels, 0)
            for scan in self.scans
            if scan.truth is not None
        ]
        return self.cut(found) if len(found) == len(self.scans) else None

    def cut(self, volumes: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Return these slices of volumes, one a scan, shape (n, h, w)."""
        stacks = [np.moveaxis(volume, self.axis, 0) for volume in volumes]
        pairs = zip(self.owners, self.places, strict=True)
        return np.stack([stacks[owner][place] for owner, place in pairs]).astype(np.float32)

    def positions(self) -> torch.Tensor:
        """Return where the slices lie along the axis, -1..1, shape (n,)."""
        return slice_positions(self.places, self.scans[0].brain.mask.shape[self.axis])

    def tones(self, target: Sequence[CanonicalBrain]) -> NDArray[np.float64]:
        """Return the tone of the target's brains at each slice's place, shape (n, 33)."""
        return np.stack([_tone(target, self.axis, int(place)) for place in self.places])


def _tone(brains: Sequence[CanonicalBrain], axis: int, place: int) -> NDArray[np.float64]:
    masks = np.stack([brain.mask.take(place, axis) for brain in brains])
    pictures = np.stack([brain.volume.voxels.take(place, axis) for brain in brains])
    filled = masks.sum(axis=(1, 2)) >= _LEAST_BRAIN
    if not filled.any():
        raise MrharmonyError(f"no training scan of the target has brain in slice {place}; check the masks.")
    return tone_quantiles(as_picture(pictures[filled]), masks[filled])


class Direction(NamedTuple):
    """Slices on their way to a domain.

    `tones` is the target's tone at each slice's place, from its training scans, shape (n, 33).
    """

    source: str
    target: str
    slices: PaperSlices
    tones: NDArray[np.float64]

    @property
    def name(self) -> str:
        """For example `ADNI2 to ADNI3`."""
        return f"{self.source} to {self.target}"


@dataclass(frozen=True)
class StudyScans:
    """The scans of a study, split by subject; domains as the data set names them."""

    source: str
    target: str
    between: tuple[PaperScan, ...]  # test scans of the source, with the target's own where heads travelled
    within: tuple[PaperScan, ...]  # test scans of the target
    search_between: tuple[PaperScan, ...]  # training scans of the source, for the search of settings
    search_within: tuple[PaperScan, ...]  # training scans of the target, for the same
    tones: tuple[CanonicalBrain, ...]  # training scans of the target, for its tone
    refused: dict[str, str]  # file names of scans that could not be prepared, and why


@dataclass(frozen=True)
class StudyPlan:
    """Which scans a study takes, as the files tell, before any is prepared."""

    plan: BenchmarkPlan
    source: str  # as the data set names it
    target: str
    training: tuple[BenchmarkScan, ...]  # all that a model may learn from
    testing: tuple[BenchmarkScan, ...]  # those that are judged, of the source first

    @classmethod
    def make(cls, request: PaperRequest) -> Self:
        """Choose the scans; domains that are not there, or have too few scans, are refused.

        A column `split` decides which scans are for training, else the first of the benchmark's folds does.
        A copy of a training scan among the judged ones is refused too.
        """
        source, target = _domains(request)
        plan = make_plan(request.bids_dir, request.domain_column, target, (source, target))
        fold = plan.folds[0]
        testing = [[s for s in fold.testing if s.domain == name] for name in (source, target)]
        for name, found in zip((source, target), testing, strict=True):
            if not found:
                raise MrharmonyError(f"{request.bids_dir}: nobody of {name} is left to test. Add subjects.")
        judged = tuple(scan for found in testing for scan in found[: request.slices])
        judging, learning = (((scan, scan.sha256) for scan in part) for part in (judged, fold.training))
        if twins := first_copy(judging, of=learning):
            copy, other = twins
            raise MrharmonyError(
                f"{copy.path}: is a copy of {other.path}, from which a model may learn, so it cannot judge "
                f"one. Leave one of them out {IN_A_COPY}."
            )
        return cls(plan, source, target, fold.training, judged)

    def tested(self, domain: str) -> tuple[BenchmarkScan, ...]:
        """Return the judged scans of a domain."""
        return tuple(scan for scan in self.testing if scan.domain == domain)

    def training_of(self, domain: str) -> tuple[BenchmarkScan, ...]:
        """Return the training scans of a domain."""
        return tuple(scan for scan in self.training if scan.domain == domain)

    def searched(self, domain: str) -> tuple[BenchmarkScan, ...]:
        """Return the training scans for the search of settings and, of the target, for its tone."""
        return self.training_of(domain)[: SEARCH_SCANS if domain == self.source else TONE_SCANS]

    def require_unseen(self, directory: Path) -> None:
        """Refuse a model, or a fitted method, that has learned from a judged subject.

        A subject is known by its label in a data set of that name, or by the content of its scan.
        """
        if not (directory / CARD).is_file():
            return
        seen = read_card(directory).training_scans
        root = self.plan.root.resolve().name
        labels = {scan.subject for scan in seen if scan.data_set == root}
        contents = {scan.sha256 for scan in seen}
        for scan in self.testing if seen else ():
            if scan.subject in labels or scan.sha256 in contents:
                raise MrharmonyError(
                    f"{directory}: has learned from sub-{scan.subject}, whom it would be judged on. Train on "
                    f"other subjects: put those to judge into the half `test` of a column `{SPLIT}` first."
                )


def study_scans(request: PaperRequest, study: StudyPlan, grid: Grid, volume_corrected: bool) -> StudyScans:
    """Prepare the scans of a study on the model's grid, grown to the template's size if volume-corrected."""
    source, target, plan = study.source, study.target, study.plan
    names = (source, target)
    testing = {name: study.tested(name) for name in names}
    training = {name: study.searched(name) for name in names}
    chosen = {s.key: s for part in (*testing.values(), *training.values()) for s in part}
    positions = plan.positions(
        [chosen[key] for key in sorted(chosen)], request.prepared, volume_corrected=volume_corrected
    )
    files, refused = prepare_positions(positions, grid, request.work / "brains", request.workers)
    require_some(list(files), refused)
    brains = {key: load_brain(files[s.path], grid) for key, s in chosen.items() if s.path in files}
    tested = {name: _having(brains, scans, "test", name) for name, scans in testing.items()}
    trained = {name: _having(brains, scans, "training", name) for name, scans in training.items()}
    truths = {s.subject: brains[s.key] for s in tested[target]} if plan.travelling else {}
    return StudyScans(
        source,
        target,
        tuple(PaperScan(s.key, brains[s.key], truths.get(s.subject)) for s in tested[source]),
        tuple(PaperScan(s.key, brains[s.key], brains[s.key]) for s in tested[target]),
        tuple(PaperScan(s.key, brains[s.key]) for s in trained[source]),
        tuple(PaperScan(s.key, brains[s.key], brains[s.key]) for s in trained[target][:SEARCH_SCANS]),
        tuple(brains[s.key] for s in trained[target]),
        reasons_by_name(refused | plan.closed),
    )


def _domains(request: PaperRequest) -> tuple[str, str]:
    """Return source and target as the data set names them."""
    index = BidsIndex.open(request.bids_dir, request.domain_column)
    source, target = named_domains(index, (request.source, request.target))
    if source == target:
        raise MrharmonyError(f"{source} is both source and target; the study needs two domains.")
    return source, target


def _having(
    brains: dict[str, CanonicalBrain], scans: Sequence[BenchmarkScan], what: str, domain: str
) -> list[BenchmarkScan]:
    """Return the scans that were prepared, or refuse."""
    found = [scan for scan in scans if scan.key in brains]
    if not found:
        raise MrharmonyError(f"{domain}: no {what} scan could be used; run `mrharmony check` on them.")
    return found
