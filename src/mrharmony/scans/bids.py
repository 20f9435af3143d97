"""BIDS folders: the table of participants, JSON sidecars, and a read-only index of all T1w scans."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mrharmony.core.findings import Finding, MrharmonyError, error, warning
from mrharmony.core.records import read_text
from mrharmony.scans.names import scan_stem

Sidecar = dict[str, Any]

SESSION = "session"  # the domain column that stands for the label of the scan's `ses-` folder
ID_COLUMN = "participant_id"
SPLIT = "split"  # column with `train` and `test`
NOT_AVAILABLE = frozenset({"", "n/a", "na", "nan", "none", "null"})
# Entities of images that mrharmony writes: their names end in `_T1w`, but they are no scans.
OWN_MAPS = frozenset({"desc-uncertainty", "desc-canonical", "desc-volumecorrected"})
NO_MAGNITUDE = frozenset({"part-phase", "part-real", "part-imag"})

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class BidsScan:
    """One T1w scan of a BIDS folder; the image itself is not opened."""

    path: Path
    subject: str  # label without `sub-`
    session: str | None  # label without `ses-`; None where the folder has none
    domain: str | None  # site, scanner or protocol; None where the table does not say
    sidecar: dict[str, Any]  # the JSON sidecars, merged by BIDS inheritance
    participant: dict[str, str]  # row of `participants.tsv`, without what is not available (`n/a`)


@dataclass(frozen=True)
class BidsIndex:
    """The T1w scans of a BIDS folder, sorted by path."""

    root: Path
    domain_column: str  # column of `participants.tsv` that names the domain, or `session`
    scans: tuple[BidsScan, ...]
    findings: tuple[Finding, ...]  # oddities of the folder; an error concerns a single scan

    @classmethod
    def open(cls, root: Path | str, domain_column: str = "site") -> Self:
        """Index a BIDS folder.

        Parameters
        ----------
        root
            The folder with `participants.tsv` and `sub-*/[ses-*/]anat/*_T1w.nii[.gz]`.
        domain_column
            The column of the table that names the domain; `session` takes the label of the `ses-` folder
            instead, and needs no table.

        Raises
        ------
        MrharmonyError
            There is no such folder, table, column or scan, or the table cannot be used.
        """
        root = Path(root)
        if not root.is_dir():
            raise MrharmonyError(f"{root}: not a folder. Give the folder that holds the sub-* folders.")
        participants, told = _participants(root, domain_column)
        paths = list(_find_scans(root))
        if not paths:
            raise MrharmonyError(f"{root}: no scans sub-*/[ses-*/]anat/*_T1w.nii[.gz]. Check the folder.")
        reader = SidecarReader(root)
        scans = tuple(_scan(path, domain_column, participants, reader) for path in paths)
        findings = (*told, *reader.findings, *_check_scans(root, scans), *_check_domains(scans, participants))
        return cls(root, domain_column, scans, findings)

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of all domains that scans come from, sorted."""
        return tuple(sorted({scan.domain for scan in self.scans if scan.domain is not None}))


def usual_column(root: Path) -> str:
    """Return `site` if the table of a data set has that column, else `session`, for work without domains."""
    table = root / "participants.tsv"
    return "site" if table.is_file() and "site" in read_participants(table)[0] else SESSION


def _participants(root: Path, domain_column: str) -> tuple[dict[str, dict[str, str]], tuple[Finding, ...]]:
    """Return the rows of the table by subject; where it is not needed, a finding instead of a refusal."""
    table = root / "participants.tsv"
    if domain_column == SESSION and not table.is_file():
        gone = warning(
            "bids-no-table",
            "participants.tsv is there, but without content: what it says is not known.",
            "Fetch it first if it is annexed (`datalad get`).",
        )
        return {}, (gone,) * os.path.lexists(table)
    columns, rows = read_participants(table)
    if domain_column not in (SESSION, *columns):
        known = _listed(columns) or "none beside participant_id"
        raise MrharmonyError(
            f"{table}: no column {domain_column!r}. Choose the domain column from: {known}; or {SESSION}."
        )
    return rows, ()


def _find_scans(root: Path) -> Iterator[Path]:
    folders = [*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")]
    paths = [path for folder in folders for path in folder.glob("*_T1w.nii*")]
    for path in sorted(paths):
        named = path.name.endswith(("_T1w.nii", "_T1w.nii.gz")) and not path.name.startswith(".")
        if named and not (OWN_MAPS | NO_MAGNITUDE) & entities(scan_stem(path)):
            yield path


def _scan(
    path: Path, domain_column: str, participants: dict[str, dict[str, str]], reader: SidecarReader
) -> BidsScan:
    holder = path.parent.parent
    session = holder.name.removeprefix("ses-") if holder.name.startswith("ses-") else None
    subject = (holder if session is None else holder.parent).name.removeprefix("sub-")
    row = participants.get(subject, {})
    domain = session if domain_column == SESSION else row.get(domain_column)
    return BidsScan(path, subject, session, domain, reader.read(path, scan_stem(path)), row)


def _check_scans(root: Path, scans: Iterable[BidsScan]) -> Iterator[Finding]:
    """Find links without content, misnamed files, and duplicate scans."""
    stems: set[Path] = set()
    for scan in scans:
        name = scan.path.relative_to(root)
        if not scan.path.exists():
            yield error("bids-broken-link", f"The content of {name} is not here.", "Run `datalad get` on it.")
        if f"sub-{scan.subject}" not in entities(scan_stem(scan.path)):
            yield warning(
                "bids-misnamed", f"{name} lies in the folder of another subject.", "Move or rename it."
            )
        stem = scan.path.with_name(scan_stem(scan.path))
        if stem in stems:
            yield warning(
                "bids-duplicate", f"{name} exists both compressed and not.", "Remove one of the two."
            )
        stems.add(stem)


def _check_domains(scans: tuple[BidsScan, ...], participants: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Find scans of unknown domain, in a folder where that of others is known."""
    lost = [scan for scan in scans if scan.domain is None]
    unlisted = sorted({scan.subject for scan in lost if participants and scan.subject not in participants})
    unnamed = sorted({scan.subject for scan in lost} - set(unlisted))
    if len(unnamed) == len({scan.subject for scan in scans}):
        return  # a table that names no domain at all
    if unlisted:
        yield warning(
            "bids-unlisted",
            f"participants.tsv does not list {_some(unlisted)}: their domain is not known.",
            "Add them to the table; labels there are those of the folders"
            f"{_but_for_zeros(unlisted, participants)}.",
        )
    if unnamed:
        yield warning(
            "bids-no-domain",
            f"No domain is given for {_some(unnamed)}.",
            "Fill in the domain column, or give the session a ses- folder.",
        )


def _but_for_zeros(subjects: Iterable[str], participants: Iterable[str]) -> str:
    """Name a label of the table that differs from a folder's by leading zeros alone."""
    listed = {label.lstrip("0"): label for label in participants}
    alike = ((subject, listed[subject.lstrip("0")]) for subject in subjects if subject.lstrip("0") in listed)
    pair = next(alike, None)
    return f", with their zeros: {pair[0]} and not {pair[1]}" if pair else ""


def _some(subjects: list[str]) -> str:
    named = ", ".join(f"sub-{subject}" for subject in subjects[:_NAMED_AT_MOST])
    more = len(subjects) - _NAMED_AT_MOST
    return f"{named} and {more} more" if more > 0 else named


def read_participants(path: Path) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Return the table's columns beside `participant_id`, and each subject's known values by column.

    The table is UTF-8 with or without byte-order mark; subjects go by their labels without `sub-`; `n/a` is
    left out. `MrharmonyError` where it is missing, empty, not a table, or names a subject twice.
    """
    try:
        lines = [line for line in _lines(path) if any(map(str.strip, line))]
    except csv.Error as failure:
        raise MrharmonyError(f"{path}: not a table ({failure}). Save it as tab-separated UTF-8.") from failure
    if len(lines) < 2:
        raise MrharmonyError(
            f"{path}: the table is empty. It needs participant_id, site and a row a subject."
        )
    header = [name.strip() for name in lines[0]]
    _check_header(path, header)
    rows: dict[str, dict[str, str]] = {}
    for values in lines[1:]:
        row = _row(path, header, values)
        label = row.pop(ID_COLUMN, "").removeprefix("sub-")
        if not label:
            raise MrharmonyError(f"{path}: the row {values!s:.200} has no participant_id. Fill it in.")
        if label in rows:
            raise MrharmonyError(
                f"{path}: subject {label!s:.60} has two rows. Keep one row a subject in a copy of the table."
            )
        rows[label] = row
    return tuple(name for name in header if name != ID_COLUMN), rows


def shuffle_key(subject: str) -> str:
    """Return a key that shuffles subjects, always alike: their labels are often sorted by site."""
    return hashlib.sha256(subject.encode()).hexdigest()


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = read_text(path, "utf-8-sig")
    except ValueError as failure:
        raise MrharmonyError(
            f"{path}: cannot be read ({failure}). A BIDS folder needs this table, tab-separated in UTF-8, "
            "with the columns participant_id and site."
        ) from failure
    return csv.reader(io.StringIO(text, newline=""), delimiter="\t")


def _check_header(path: Path, header: list[str]) -> None:
    if ID_COLUMN not in header:
        separated = "The columns must be separated by tabs." if len(header) == 1 else "Rename the column."
        raise MrharmonyError(f"{path}: no column {ID_COLUMN}, only {_listed(header)}. {separated}")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise MrharmonyError(f"{path}: column {min(repeated)!r:.60} appears twice. Remove one.")


def _listed(names: Iterable[str]) -> str:
    """Return names with commas, on one line of readable length."""
    return f"{' '.join(', '.join(names).split()):.200}"


def _row(path: Path, header: list[str], values: list[str]) -> dict[str, str]:
    if any("\n" in value for value in values):
        raise MrharmonyError(
            f"{path}: a quotation mark is not closed in {values[0]!r:.60}. Remove or close it."
        )
    if len(values) > len(header):
        raise MrharmonyError(
            f"{path}: the row {values!s:.200} has more fields than the header. Check its tabs."
        )
    pairs = zip(header, map(str.strip, values), strict=False)
    return {name: value for name, value in pairs if value.lower() not in NOT_AVAILABLE}


def entities(stem: str) -> frozenset[str]:
    """Return the entities of a BIDS file name without its suffix: `sub-01_T1w` has `{sub-01}`."""
    return frozenset(stem.split("_")[:-1])


class SidecarReader:
    """Reads each sidecar of a BIDS folder once, however many scans inherit from it.

    A sidecar applies to a scan if it lies in a folder above it (or beside it), ends in `T1w`, and names no
    entity that the scan lacks. Deeper sidecars win over higher ones, more specific over less specific ones.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[Path, list[tuple[frozenset[str], Sidecar]]] = {}
        self.findings: list[Finding] = []

    def read(self, scan: Path, stem: str) -> Sidecar:
        """Return the merged sidecars of a scan below the BIDS folder; `stem` is its name without suffix."""
        merged: Sidecar = {}
        above = [folder for folder in scan.parents if folder.is_relative_to(self._root)]
        for folder in reversed(above):
            for names, content in self._sidecars(folder):
                if names <= entities(stem):
                    merged |= content
        return merged

    def _sidecars(self, folder: Path) -> list[tuple[frozenset[str], Sidecar]]:
        """Return entities and content of a folder's T1w sidecars, the most specific last."""
        if folder not in self._folders:
            paths = [path for path in sorted(folder.glob("*T1w.json")) if not path.name.startswith(".")]
            pairs = [(entities(path.stem), self._load(path)) for path in paths]
            self._folders[folder] = sorted(pairs, key=lambda pair: len(pair[0]))
        return self._folders[folder]

    def _load(self, path: Path) -> Sidecar:
        reason = "it holds something else"
        try:
            content = json.loads(read_text(path, "utf-8-sig"))
            if isinstance(content, dict):
                return content
        except RecursionError:
            reason = "nested too deeply"
        except ValueError as failure:
            reason = str(failure)
        self.findings.append(
            warning(
                "bids-bad-sidecar",
                f"{path.relative_to(self._root)} is not a JSON object ({reason}) and is ignored.",
                "Repair it, or fetch its content.",
            )
        )
        return {}
