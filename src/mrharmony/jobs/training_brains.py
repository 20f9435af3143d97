"""The scans that a model or a method is made from: chosen, prepared, and sorted by domain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import require_distinct
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.brains import prepare_brains, require_some
from mrharmony.prepare.canonical import CanonicalBrain
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.space.grid import Grid


@dataclass(frozen=True)
class TrainingBrains:
    """The prepared scans that a model is made from.

    Parameters
    ----------
    kept
        Domain and brain of each scan, in the order of the scans.
    refused
        The scans that could not be prepared, and why.
    """

    kept: list[tuple[str, CanonicalBrain]]
    refused: dict[Path, str]

    def by_domain(self) -> dict[str, list[CanonicalBrain]]:
        """Return the brains of each domain."""
        names = dict.fromkeys(name for name, _ in self.kept)
        return {name: [brain for domain, brain in self.kept if domain == name] for name in names}

    def stack(self) -> NDArray[np.float16]:
        """Return the voxels of all brains, shape (n, i, j, k)."""
        return np.stack([brain.volume.voxels.astype(np.float16) for _, brain in self.kept])

    def domains(self) -> list[str]:
        """Return the domain of each brain, in the order of the scans."""
        return [domain for domain, _ in self.kept]

    def counts(self) -> dict[str, int]:
        """Return the number of brains of each domain."""
        return {name: len(brains) for name, brains in self.by_domain().items()}


def training_brains(
    index: BidsIndex,
    only: Sequence[str] | None,
    most: int | None,
    grid: Grid,
    work: Path,
    prepared: Path | None = None,
) -> TrainingBrains:
    """Prepare the scans that a model is made from; an interrupted call is taken up.

    Parameters
    ----------
    index
        The data set.
    only, most
        As in `select_scans`.
    grid
        Working grid of the brains.
    work
        Folder for what is finished.
    prepared
        Folder of `mrharmony prepare` with the scans in it; they are prepared here if None.

    Raises
    ------
    MrharmonyError
        If a domain is unknown, or every scan was refused.
    """
    scans = select_scans(index, only, most)
    require_distinct(dict.fromkeys(str(scan.domain) for scan in scans))
    brains, refused = prepare_brains([scan.path for scan in scans], grid, work / "brains", prepared=prepared)
    kept = [(str(scan.domain), brains[scan.path]) for scan in scans if scan.path in brains]
    require_some(kept, refused)
    return TrainingBrains(kept, refused)


def run_folder(work: Path, brains: TrainingBrains, decisive: str) -> Path:
    """Return the folder of a training run, another one where anything that decides its result is different.

    Parameters
    ----------
    work
        Folder of unfinished work.
    brains
        What is trained on.
    decisive
        All else: settings, the model that is started from.
    """
    digest = hashlib.sha256(brains.stack().tobytes())
    digest.update(f"{brains.domains()} {decisive}".encode())
    return work / digest.hexdigest()[:16]


def select_scans(index: BidsIndex, only: Sequence[str] | None, most: int | None) -> list[BidsScan]:
    """Return the scans of the wanted domains, at most so many of each, in the order of their names."""
    wanted = list(only or index.domains)
    unknown = [name for name in wanted if name not in index.domains]
    if unknown:
        raise MrharmonyError(f"{unknown[0]}: no such domain here. Choose from: {', '.join(index.domains)}.")
    if not wanted:
        raise MrharmonyError(
            f"{index.root}: no scan has a domain in the column {index.domain_column} of participants.tsv. "
            "Check that its labels are those of the sub- folders, or name the column with --domain-column."
        )
    scans = [[scan for scan in index.scans if scan.domain == name][:most] for name in wanted]
    return [scan for domain in scans for scan in domain]
