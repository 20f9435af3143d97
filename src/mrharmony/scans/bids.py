"""BIDS folders: a read-only index of all T1w scans, with their domains and JSON sidecars."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from mrharmony.core.domain import composed, same_name
from mrharmony.core.findings import Finding, MrharmonyError, ScanRefused, error, info, warning
from mrharmony.core.pointers import FETCH, content_missing, link_to_itself
from mrharmony.core.wording import some_of
from mrharmony.scans.bids_images import T1wImages
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.inherited_sidecars import SidecarReader
from mrharmony.scans.names import entities, scan_stem
from mrharmony.scans.participants import (
    NOBODY,
    PARTICIPANTS,
    Participants,
    listed,
    read_participants,
    read_sessions,
)

SITE = "site"  # the usual domain column
_ALSO_SITES = ("scanner", "center", "centre")  # columns that may name the domains too
SESSION = "session"  # the domain column that stands for the label of the scan's `ses-` folder
SPLIT = "split"  # column with `train` and `test`


@dataclass(frozen=True)
class BidsScan:
    """One T1w scan of a BIDS folder; the image itself is not opened."""

    path: Path
    subject: str  # label without `sub-`
    session: str | None  # label without `ses-`; None where the folder has none
    domain: str | None  # site, scanner or protocol; None where the table does not say
    sidecar: dict[str, Any]  # the JSON sidecars, merged by BIDS inheritance
    participant: dict[str, str]  # what tables say of subject and session, without the not available (`n/a`)

    @property
    def with_agent(self) -> bool:
        """Whether the scan was taken with contrast agent, by its name."""
        return any(entity.startswith("ce-") for entity in entities(scan_stem(self.path)))


@dataclass(frozen=True)
class BidsIndex:
    """The T1w scans of a BIDS folder, sorted by path."""

    root: Path
    domain_column: str  # column of `participants.tsv` that names the domain, or `session`
    scans: tuple[BidsScan, ...]
    findings: tuple[Finding, ...]  # oddities of the folder; an error concerns a scan or a closed folder
    closed: tuple[ScanRefused, ...] = ()  # folders that cannot be listed, so that their scans are missing
    # of each domain without scans: a label in the table, and a folder's from which it differs by zeros alone
    unmatched: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path | str, domain_column: str | None = SITE) -> Self:
        """Index a BIDS folder.

        Parameters
        ----------
        root
            The folder with `participants.tsv` and `sub-*/[ses-*/]anat/*_T1w.nii[.gz]`; the images `_UNIT1` of
            MP2RAGE count where there is no `_T1w` beside them.
        domain_column
            The column of the table that names the domain; `session` takes the label of the `ses-` folder
            instead, and needs no table. None is for work that can do without domains: `site` where there is
            that column, else the session, and a table that cannot be used is a finding.

        Raises
        ------
        MrharmonyError
            There is no such folder, table, column or scan, or the table cannot be used.
        """
        root = Path(root)
        domain_column = composed(domain_column) if domain_column is not None else None
        images = T1wImages.below(root)
        images.require_found()
        participants, findings = _tables(root, images, domain_column)
        findings += [*images.findings(), *_alike(participants, domain_column)]
        if domain_column is None:
            domain_column = SITE if SITE in participants.columns else SESSION
        elif domain_column not in (SESSION, *participants.columns):
            raise _missing_column(root, domain_column, participants)
        reader = SidecarReader(root)
        scans = tuple(_scan(path, domain_column, participants, reader) for path in images.found)
        alike = _but_for_zeros({scan.subject for scan in scans}, participants.rows)
        findings += [
            *reader.findings,
            *_check_scans(root, scans),
            *_check_domains(scans, participants, alike),
        ]
        present = {_label(folder.name) for folder in images.subjects}
        findings += _absent(participants.rows, present, {listed for listed, _ in alike})
        unmatched = _unmatched(scans, participants, domain_column, alike)
        return cls(root, domain_column, scans, tuple(findings), tuple(images.closed), unmatched)

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of all domains that scans come from, sorted."""
        return tuple(sorted({scan.domain for scan in self.scans if scan.domain is not None}))

    @property
    def refused(self) -> dict[Path, str]:
        """Why folders cannot be listed."""
        return {folder.path: str(folder) for folder in self.closed}

    def of_subjects(self, labels: Iterable[str]) -> Self:
        """Return what concerns some subjects, labels without `sub-`, or all if there are none."""
        chosen = set(labels)
        scans = (scan for scan in self.scans if not chosen or scan.subject in chosen)
        closed = (one for one in self.closed if not chosen or self.subject_of(one.path) in chosen)
        return replace(self, scans=tuple(scans), closed=tuple(closed))

    def subject_of(self, folder: Path) -> str:
        """Return the label of the subject whose folder this is, or lies above it."""
        return _label(folder.relative_to(self.root).parts[0])


def _tables(root: Path, images: T1wImages, domain_column: str | None) -> tuple[Participants, list[Finding]]:
    """Read a folder's tables; one that cannot be used is a finding where domains are not needed."""
    participants, findings = NOBODY, []
    table = root / PARTICIPANTS
    if os.path.lexists(table) or domain_column not in (None, SESSION):
        try:
            participants = read_participants(table)
        except MrharmonyError as fault:
            if domain_column is not None:
                raise
            findings.append(_unused(root, fault))
            participants = Participants((SITE,), {})  # sites are unknown; sessions do not stand for them
    for subject in images.subjects:
        sessions = subject / f"{subject.name}_sessions.tsv"
        if os.path.lexists(sessions):
            try:
                participants = participants.joined(read_sessions(sessions, _label(subject.name)))
            except MrharmonyError as fault:
                findings.append(_unused(root, fault))
    return participants, findings


def _unused(root: Path, fault: MrharmonyError) -> Finding:
    sentence = str(fault).removeprefix(f"{root}{os.sep}")
    return warning("bids-bad-table", sentence, "Until then nothing is taken from it.")


def _missing_column(root: Path, wanted: str, tables: Participants) -> MrharmonyError:
    alike = next((name for name in tables.columns if same_name(name, wanted)), None)
    if alike:
        return MrharmonyError(
            f"{root / tables.table_of(alike)}: no column {wanted!r}, but {alike!r}. If that names the "
            f"domain, say domain_column={alike!r}."
        )
    known = listed(tables.columns) or "none beside participant_id"
    return MrharmonyError(
        f"{root / PARTICIPANTS}: no column {wanted!r}. Choose domain_column=... from: {known}; or {SESSION}."
    )


def _alike(tables: Participants, domain_column: str | None) -> Iterator[Finding]:
    """Find columns that are taken for no domain or split only because they are written otherwise."""
    remedies = {SPLIT: f"If it is meant, write it {SPLIT!r} {IN_A_COPY}."}
    if domain_column is None:
        remedies[SITE] = "If it names the domains, give it as the domain column (`--domain-column`)."
    for wanted, remedy in remedies.items():
        names = (wanted, *_ALSO_SITES) if wanted == SITE else (wanted,)
        missed = () if wanted in tables.columns else tables.columns
        for alike in (column for column in missed if any(same_name(column, name) for name in names)):
            message = f"{tables.table_of(alike)} has a column {alike!r}, which is not taken for {wanted!r}."
            yield warning("bids-column", message, remedy)


def _label(name: str) -> str:
    return name.split("-", 1)[1]


def _scan(path: Path, domain_column: str, participants: Participants, reader: SidecarReader) -> BidsScan:
    holder = path.parent.parent
    session = _label(holder.name) if holder.name.startswith("ses-") else None
    subject = _label((holder if session is None else holder.parent).name)
    row = participants.row(subject, session) or {}
    named_by_session = composed(session) if session else None
    domain = named_by_session if domain_column == SESSION else row.get(domain_column)
    return BidsScan(path, subject, session, domain, reader.read(path, scan_stem(path)), row)


def _check_scans(root: Path, scans: Iterable[BidsScan]) -> Iterator[Finding]:
    """Find links without content, and misnamed files."""
    for scan in scans:
        name = scan.path.relative_to(root)
        if scan.path.is_symlink() and content_missing(scan.path):
            yield _without_content(name, scan.path)
        if f"sub-{scan.subject}" not in entities(scan_stem(scan.path)):
            yield warning(
                "bids-misnamed",
                f"{name} lies in the folder of another subject; it counts as sub-{scan.subject}'s.",
                f"If that is wrong, give it its right place {IN_A_COPY}.",
            )


def _without_content(name: Path, link: Path) -> Finding:
    if link_to_itself(link):
        return error(
            "bids-link-to-itself",
            f"{name} is a link that leads to itself.",
            f"Put the scan in its place {IN_A_COPY}.",
        )
    return error("bids-broken-link", f"The content of {name} is not here.", FETCH)


def _check_domains(
    scans: tuple[BidsScan, ...], participants: Participants, alike: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    """Find scans of unknown domain, where that of others is known; `alike` is of `_but_for_zeros`."""
    lost = [scan for scan in scans if scan.domain is None]
    known = bool(participants.rows)
    unlisted = [scan for scan in lost if known and participants.row(scan.subject, scan.session) is None]
    strangers = sorted({f"sub-{scan.subject}" for scan in unlisted if scan.subject not in participants.rows})
    elsewhere = sorted({_place(scan) for scan in unlisted if scan.subject in participants.rows})
    unnamed = sorted({f"sub-{scan.subject}" for scan in lost if scan not in unlisted})
    if len(unnamed) == len({scan.subject for scan in scans}):
        return  # a table that names no domain at all
    if strangers:
        zeros = f", with their zeros: {alike[0][1]} and not {alike[0][0]}" if alike else ""
        yield warning(
            "bids-unlisted",
            f"{PARTICIPANTS} does not list {some_of(strangers)}: their domain is not known.",
            f"Add them to the table; labels there are those of the folders{zeros}.",
        )
    if elsewhere:
        yield warning(
            "bids-unlisted",
            f"The tables do not list {some_of(elsewhere)}: their domain is not known.",
            "Add them; the labels in session_id are those of the folders.",
        )
    if unnamed:
        yield warning(
            "bids-no-domain",
            f"No domain is given for {some_of(unnamed)}.",
            "Fill in the domain column, or give the session a ses- folder.",
        )


def _place(scan: BidsScan) -> str:
    return f"sub-{scan.subject}_ses-{scan.session}" if scan.session else f"sub-{scan.subject}"


def _but_for_zeros(subjects: Collection[str], listed: Collection[str]) -> list[tuple[str, str]]:
    """Return the labels of the table that differ from a folder's by zeros alone, each with that.

    Spreadsheets make numbers of labels: 1 or 1.0 of 01.
    """
    folders = {_number(label): label for label in sorted(subjects) if label not in listed}
    strangers = (label for label in listed if label not in subjects)
    return [(label, folders[_number(label)]) for label in strangers if _number(label) in folders]


def _number(label: str) -> str:
    return re.sub(r"[.,]0+$", "", label).lstrip("0")


def _absent(listed: Iterable[str], present: Collection[str], told: Collection[str]) -> Iterator[Finding]:
    """Find participants of the table without a folder, but for those of whom something is told already."""
    if absent := sorted(f"sub-{label}" for label in listed if label not in present and label not in told):
        yield info(
            "bids-absent",
            f"{PARTICIPANTS} lists {some_of(absent)}, of whom there is no folder here.",
            "Check the labels if their scans are meant.",
        )


def _unmatched(
    scans: Iterable[BidsScan],
    participants: Participants,
    domain_column: str,
    alike: Iterable[tuple[str, str]],
) -> dict[str, tuple[str, str]]:
    """Return the domains whose every scan is lost because labels differ by zeros, each with such a pair."""
    known = {scan.domain for scan in scans}
    lost = ((row.get(domain_column), pair) for pair in alike for row in participants.rows[pair[0]].values())
    return {domain: pair for domain, pair in lost if domain and domain not in known}


def shuffle_key(subject: str) -> str:
    """Return a key that shuffles subjects, always alike: their labels are often sorted by site."""
    return hashlib.sha256(os.fsencode(subject)).hexdigest()
