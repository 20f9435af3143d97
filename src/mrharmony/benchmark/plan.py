"""The splits of a benchmark by subject: training scans, tested scans, and the domains they go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mrharmony.core.domain import find_name, same_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.brains import ScanFile, by_position
from mrharmony.jobs.data_sets import (
    named_domains,
    open_domains,
    readable_sha256,
    tell_copies,
    tell_harmonized,
)
from mrharmony.scans.bids import SPLIT, BidsIndex, shuffle_key
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.names import file_name
from mrharmony.simulate.cohort_files import true_brain

FOLDS = 5
TRAINING_LEAST = 2  # subjects of a domain that every training part needs
HOME = "site"  # column of participants.tsv: where a travelling subject would have been scanned


@dataclass(frozen=True)
class BenchmarkScan:
    """One scan of the benchmark."""

    path: Path
    subject: str
    domain: str  # site or scanner
    participant: dict[str, str] = field(hash=False)  # the subject's row of `participants.tsv`
    sha256: str | None = None  # of the file; None where it cannot be read, and the scan is refused later

    @property
    def key(self) -> str:
        """Name of the scan's files in the output."""
        return file_name(f"sub-{self.subject}_{self.domain}")


@dataclass(frozen=True)
class Fold:
    """Scans that methods are fitted on, and unseen scans of other subjects that they are tested on."""

    training: tuple[BenchmarkScan, ...]
    testing: tuple[BenchmarkScan, ...]

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Domains that the methods are fitted on."""
        return tuple(sorted({scan.domain for scan in self.training}))

    @cached_property
    def new(self) -> tuple[str, ...]:
        """Domains of tested scans that no method has seen."""
        return tuple(sorted({scan.domain for scan in self.testing} - set(self.known)))

    def training_of(self, domain: str) -> tuple[BenchmarkScan, ...]:
        """Return a domain's training scans."""
        return tuple(scan for scan in self.training if scan.domain == domain)


@dataclass(frozen=True)
class BenchmarkPlan:
    """The folds of a data set, and the domain that everything is harmonized to."""

    root: Path  # BIDS folder
    target: str  # domain that the whole cohort is brought to for the figures that need no truth
    folds: tuple[Fold, ...]  # one if `participants.tsv` has a split, else cross-validation by subject
    # Folders that cannot be listed, and why.
    closed: dict[Path, str] = field(default_factory=dict, hash=False)

    @cached_property
    def scans(self) -> Mapping[str, BenchmarkScan]:
        """All scans, of training and testing, sorted by key."""
        scans = {scan.key: scan for fold in self.folds for scan in (*fold.training, *fold.testing)}
        return dict(sorted(scans.items()))

    @cached_property
    def testing(self) -> tuple[BenchmarkScan, ...]:
        """The tested scans of all folds, sorted by key."""
        return tuple(sorted((s for fold in self.folds for s in fold.testing), key=lambda scan: scan.key))

    def positions(
        self,
        scans: Iterable[BenchmarkScan],
        prepared: Path | None = None,
        *,
        volume_corrected: bool = False,
    ) -> list[list[ScanFile]]:
        """Return scans as `prepare_positions` takes them: those of a virtual head together, with its brain.

        `prepared` is a folder of scans that `mrharmony prepare` wrote; they are prepared here if None.
        `volume_corrected` is as in `ScanFile`.
        """
        files = ((s, true_brain(self.root, s.subject)) for s in scans)
        return by_position(
            (s.subject, ScanFile(s.path, brain, prepared=prepared, volume_corrected=volume_corrected))
            for s, brain in files
        )

    @cached_property
    def travelling(self) -> bool:
        """Whether tested subjects are virtual heads that went to several domains, so that there is a truth.

        Real travelling subjects lie differently in every scan; their scans are no truth voxel by voxel.
        """
        subjects = {scan.subject for scan in self.testing}
        return len(subjects) < len(self.testing) and all(
            true_brain(self.root, subject) for subject in subjects
        )

    @cached_property
    def new(self) -> tuple[str, ...]:
        """Domains of tested scans that no method has seen."""
        return tuple(sorted({name for fold in self.folds for name in fold.new}))

    @cached_property
    def evaluated(self) -> tuple[BenchmarkScan, ...]:
        """The tested scans that are harmonized: those of new domains if there are any, else all."""
        return tuple(scan for scan in self.testing if not self.new or scan.domain in self.new)

    @cached_property
    def homes(self) -> tuple[BenchmarkScan, ...]:
        """The one scan of each tested subject that a study would have.

        That of the subject's own site where `participants.tsv` names it; in new domains, each in turn.
        """
        subjects: dict[str, list[BenchmarkScan]] = {}
        for scan in self.evaluated:
            subjects.setdefault(scan.subject, []).append(scan)
        return tuple(_home(scans, number) for number, scans in enumerate(subjects.values()))

    def targets(self, fold: Fold, scan: BenchmarkScan) -> tuple[str, ...]:
        """Return the domains a scan is harmonized to: its own (identity) and the plan's target.

        Where there is a truth, also all known ones that the subject has been to.
        """
        elsewhere = {other.domain for other in fold.testing if other.subject == scan.subject}
        paired = elsewhere if self.travelling else set()
        return tuple(sorted((paired | {scan.domain, self.target}) & set(fold.known)))


def make_plan(root: Path, domain_column: str, target: str | None, only: Sequence[str] = ()) -> BenchmarkPlan:
    """Read a BIDS folder and split it by subject; refuses too few domains or subjects, and a scan twice.

    Parameters
    ----------
    root
        BIDS folder. A column `split` (`train`, `test`) of its `participants.tsv` decides the split; without
        one there are up to five folds.
    domain_column
        Column of `participants.tsv` that names the domain, or `session`.
    target
        Where the whole cohort is brought to; the domain with most training scans if None.
    only
        Domains to use; all if empty.
    """
    index = open_domains(root, domain_column, only)
    scans = _scans(index, only)
    splits = {scan.participant.get(SPLIT) for scan in scans}
    folds = (_given_split(root, scans),) if splits & {"train", "test"} else _cross_validation(root, scans)
    known = folds[0].known
    if len(known) < 2:
        raise MrharmonyError(f"{root}: a benchmark needs training scans of two domains, found {len(known)}.")
    most = max(known, key=lambda name: (len(folds[0].training_of(name)), name == min(known)))
    chosen = find_name(known, target) if target else most
    if chosen is None:
        raise MrharmonyError(f"{target}: no training scans of this domain. Choose from: {', '.join(known)}.")
    return BenchmarkPlan(root, chosen, folds, index.refused)


def _scans(index: BidsIndex, only: Sequence[str]) -> tuple[BenchmarkScan, ...]:
    chosen = named_domains(index, only or index.domains)
    scans = tuple(
        BenchmarkScan(scan.path, scan.subject, scan.domain, scan.participant, readable_sha256(scan.path))
        for scan in index.scans
        if scan.domain is not None and scan.domain in chosen
    )
    if not scans:
        raise MrharmonyError(f"{index.root}: the domain of no scan is known. Check the column of domains.")
    tell_harmonized(index.root, [scan.path for scan in scans])
    named: dict[str, BenchmarkScan] = {}
    for scan in scans:
        other = named.setdefault(scan.key.casefold(), scan)
        if other is not scan:
            raise MrharmonyError(
                f"{index.root}: sub-{scan.subject} has several scans in the domain {scan.domain}, "
                f"{other.path.name} and {scan.path.name}; case makes no difference. "
                f"Choose another column of domains, or leave one out {IN_A_COPY}."
            )
    _tell_copies(index.root, scans)
    return scans


def _tell_copies(root: Path, scans: Sequence[BenchmarkScan]) -> None:
    """Tell copies of scans; raise `MrharmonyError` where those of a subject in two domains are one image."""
    seen: dict[tuple[str, str], BenchmarkScan] = {}
    for scan in scans:
        other = seen.setdefault((scan.subject, scan.sha256), scan) if scan.sha256 else scan
        if other is not scan:
            raise MrharmonyError(
                f"{scan.path}: is a copy of {other.path}; one of them is not of its domain, {scan.domain} or "
                f"{other.domain}. Leave it out {IN_A_COPY}."
            )
    tell_copies(root, [scan.subject for scan in scans], [scan.sha256 for scan in scans], "scans")


def _home(scans: Sequence[BenchmarkScan], number: int) -> BenchmarkScan:
    """Return a subject's scan in its own site, or else scan `number`, counted cyclically."""
    own = [scan for scan in scans if same_name(scan.domain, scan.participant.get(HOME, ""))]
    return own[0] if own else scans[number % len(scans)]


def _given_split(root: Path, scans: Sequence[BenchmarkScan]) -> Fold:
    odd = next((scan for scan in scans if scan.participant.get(SPLIT) not in ("train", "test")), None)
    if odd:
        raise MrharmonyError(
            f"{root}/participants.tsv: sub-{odd.subject} is neither train nor test. Fill in {SPLIT}."
        )
    fold = Fold(*(tuple(s for s in scans if s.participant[SPLIT] == part) for part in ("train", "test")))
    if not fold.testing:
        raise MrharmonyError(f"{root / 'participants.tsv'}: nobody is in the split `test`.")
    return fold


def _cross_validation(root: Path, scans: Sequence[BenchmarkScan]) -> tuple[Fold, ...]:
    """Return folds in which every subject is tested once; each domain is spread evenly over them."""
    members = {
        name: sorted({s.subject for s in scans if s.domain == name}, key=shuffle_key)
        for name in sorted({scan.domain for scan in scans})
    }
    folds = min(FOLDS, *(len(subjects) for subjects in members.values()))
    fewest = min(members, key=lambda name: len(members[name]))
    if len(members[fewest]) - -(-len(members[fewest]) // folds) < TRAINING_LEAST:
        raise MrharmonyError(
            f"{root}: {fewest!s:.60} has {len(members[fewest])} subjects, too few to fit and to test. "
            f"Choose domains of {TRAINING_LEAST + 1} subjects or more, or add a column `{SPLIT}` to "
            f"participants.tsv {IN_A_COPY}."
        )
    places: dict[str, int] = {}
    for subjects in members.values():
        for number, subject in enumerate(subjects):
            places.setdefault(subject, number % folds)
    return tuple(
        Fold(
            tuple(scan for scan in scans if places[scan.subject] != fold),
            tuple(scan for scan in scans if places[scan.subject] == fold),
        )
        for fold in range(folds)
    )
