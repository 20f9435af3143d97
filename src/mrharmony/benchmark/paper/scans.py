"""Which scans the paper's study needs, prepared on the model's grid: judged ones and training ones apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrharmony.benchmark.paper.slices import PaperScan
from mrharmony.benchmark.plan import BenchmarkScan, make_plan
from mrharmony.cohort.preparing import load_brain, prepare_positions, require_some
from mrharmony.harmonize import CanonicalBrain
from mrharmony.prepare import Grid
from mrharmony.scans import BidsIndex
from mrharmony.volume import MrharmonyError, same_name

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
