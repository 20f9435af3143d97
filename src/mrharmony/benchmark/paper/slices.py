"""The slices that the paper's study translates, and what they are compared with.

Which scans the paper's study needs, prepared on the model's grid: judged ones and training ones apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.benchmark.plan import BenchmarkScan, make_plan
from mrharmony.core.domain import same_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.paper import as_picture, slice_places, tone_quantiles
from mrharmony.jobs.brains import load_brain, prepare_positions, require_some
from mrharmony.networks.diffusion.sampling import slice_positions
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsIndex
from mrharmony.space.grid import Grid

_LEAST_BRAIN = 100  # pixels of a slice whose tone is taken


class PaperScan(NamedTuple):
    """A scan on the model's grid, and the target scanner's own scan of the same head where there is one."""

    name: str
    brain: CanonicalBrain
    truth: CanonicalBrain | None = None


@dataclass(frozen=True)
class PaperSlices:
    """Slices of some scans.

    Parameters
    ----------
    scans
        The scans.
    axis
        Voxel axis that the slices are perpendicular to.
    owners, places
        The scan and the index along the axis of each slice, shape (n,).
    """

    scans: tuple[PaperScan, ...]
    axis: int
    owners: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def draw(cls, scans: Sequence[PaperScan], axis: int, count: int, seed: int) -> Self:
        """Draw slices at random, spread over the scans as evenly as can be.

        Raises
        ------
        MrharmonyError
            If a scan has too few slices.
        """
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
        """What each slice is."""
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
        """Return the tone of the target's brains at each slice's place, shape (n, 33).

        Raises
        ------
        MrharmonyError
            If no brain of the target reaches a place.
        """
        return np.stack([_tone(target, self.axis, int(place)) for place in self.places])


def _tone(brains: Sequence[CanonicalBrain], axis: int, place: int) -> NDArray[np.float64]:
    masks = np.stack([brain.mask.take(place, axis) for brain in brains])
    pictures = np.stack([brain.volume.voxels.take(place, axis) for brain in brains])
    filled = masks.sum(axis=(1, 2)) >= _LEAST_BRAIN
    if not filled.any():
        raise MrharmonyError(
            f"no training scan of the target has brain in slice {place}; look at the brain masks."
        )
    return tone_quantiles(as_picture(pictures[filled]), masks[filled])


SEARCH_SCANS = 2  # of each domain that the settings are found on
TONE_SCANS = 4  # of the target that its tone is taken from


@dataclass(frozen=True)
class StudyScans:
    """The scans of a study, split by subject.

    Parameters
    ----------
    source, target
        The domains as the data set names them.
    between, within
        Judged scans of the source, with the target scanner's own where heads travelled, and of the target.
    search_between, search_within
        Training scans of the source and of the target that the settings are found on.
    tones
        Training scans of the target that its tone is taken from.
    refused
        File names of scans that could not be prepared, and why.
    """

    source: str
    target: str
    between: tuple[PaperScan, ...]
    within: tuple[PaperScan, ...]
    search_between: tuple[PaperScan, ...]
    search_within: tuple[PaperScan, ...]
    tones: tuple[CanonicalBrain, ...]
    refused: dict[str, str]


def study_scans(  # noqa: PLR0913 - which scans, and how they are prepared
    root: Path,
    domain_column: str,
    names: tuple[str, str],
    judged: int,
    grid: Grid,
    cache: Path,
    workers: int | None = None,
    *,
    prepared: Path | None = None,
) -> StudyScans:
    """Choose and prepare the scans of a study.

    Parameters
    ----------
    root, domain_column
        BIDS folder and its column of domains; a column `split` decides who trains, else the first of the
        benchmark's folds does.
    names
        Source and target.
    judged
        How many scans of each domain are judged at most.
    grid
        Of the model.
    cache, workers
        Folder of prepared brains, and how many processes prepare them.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.

    Raises
    ------
    MrharmonyError
        If a domain is not there, or has too few scans.
    """
    source, target = _domains(root, domain_column, names)
    plan = make_plan(root, domain_column, target, (source, target))
    fold = plan.folds[0]
    testing = {name: [s for s in fold.testing if s.domain == name][:judged] for name in (source, target)}
    training = {name: fold.training_of(name)[:TONE_SCANS] for name in (source, target)}
    training[source] = training[source][:SEARCH_SCANS]
    chosen = {s.key: s for part in (*testing.values(), *training.values()) for s in part}
    positions = plan.positions([chosen[key] for key in sorted(chosen)], prepared)
    files, refused = prepare_positions(positions, grid, cache, workers)
    require_some(list(files), refused)
    brains = {key: load_brain(files[s.path], grid) for key, s in chosen.items() if s.path in files}
    tested = {name: _having(brains, scans, "judged", name) for name, scans in testing.items()}
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
        {path.name: reason for path, reason in refused.items()},
    )


def _domains(root: Path, domain_column: str, names: tuple[str, str]) -> tuple[str, str]:
    """Return the domains as the data set names them."""
    known = BidsIndex.open(root, domain_column).domains
    found = [next((own for own in known if same_name(own, name)), None) for name in names]
    for name, own in zip(names, found, strict=True):
        if own is None:
            raise MrharmonyError(f"{root}: no scans of {name}. Choose from: {', '.join(known)}.")
    source, target = map(str, found)
    if source == target:
        raise MrharmonyError(f"{source}: is source and target; the study needs two domains.")
    return source, target


def _having(
    brains: dict[str, CanonicalBrain], scans: Sequence[BenchmarkScan], what: str, domain: str
) -> list[BenchmarkScan]:
    """Return the scans that were prepared, or refuse."""
    found = [scan for scan in scans if scan.key in brains]
    if not found:
        raise MrharmonyError(
            f"{domain}: none of its {what} scans could be used; run `mrharmony check` on them."
        )
    return found
