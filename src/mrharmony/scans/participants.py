"""The tables of a BIDS folder: `participants.tsv`, its rows of subjects or sessions, and `*_sessions.tsv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mrharmony.core.domain import composed
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.pointers import FETCH, content_missing
from mrharmony.core.records import read_text
from mrharmony.scans.folders import IN_A_COPY

PARTICIPANTS = "participants.tsv"
SESSIONS = "sub-*_sessions.tsv"
ID_COLUMN = "participant_id"
SESSION_COLUMN = "session_id"
_LABELS = frozenset({ID_COLUMN, SESSION_COLUMN})
NOT_AVAILABLE = frozenset({"", "n/a", "na", "nan", "none", "null"})

Row = dict[str, str]


@dataclass(frozen=True)
class Participants:
    """What tables say of subjects and of their sessions, without what is not available (`n/a`)."""

    columns: tuple[str, ...]  # beside participant_id and session_id
    rows: Mapping[str, Mapping[str | None, Row]]  # by subject and session, None for all of its sessions
    of_sessions: frozenset[str] = frozenset()  # columns that tables of single subjects' sessions alone have

    def row(self, subject: str, session: str | None) -> Row | None:
        """Return what is known of a subject in a session, None where no row is about that.

        Values of the session win over those of all sessions. A scan outside sessions gets its subject's row
        too where that is the only one, whatever session the table names.
        """
        own = self.rows.get(subject, {})
        if session is None and len(own) == 1:
            return next(iter(own.values()))
        found = [own[name] for name in dict.fromkeys((None, session)) if name in own]
        return {name: value for row in found for name, value in row.items()} if found else None

    def joined(self, more: Participants) -> Participants:
        """Return both; where both say something of a session, the other's values win."""
        rows = dict(self.rows)
        for subject, sessions in more.rows.items():
            own = rows.get(subject, {})
            rows[subject] = {**own, **{name: {**own.get(name, {}), **row} for name, row in sessions.items()}}
        added = self.of_sessions.union(more.columns) - (set(self.columns) - self.of_sessions)
        return Participants(tuple(dict.fromkeys((*self.columns, *more.columns))), rows, added)

    def table_of(self, column: str) -> str:
        """Return the name of the table that has a column."""
        return SESSIONS if column in self.of_sessions else PARTICIPANTS


NOBODY = Participants((), {})


def read_participants(path: Path) -> Participants:
    """Read `participants.tsv`; with a column `session_id` its rows are about sessions.

    The table is UTF-8 with or without byte-order mark; labels go without `sub-` and `ses-`; `n/a` is left
    out. `MrharmonyError` where it is missing, empty, not a table, or two rows are about the same.
    """
    header, lines = _read_table(path, ID_COLUMN)
    rows: dict[str, dict[str | None, Row]] = {}
    for values in lines:
        row = _row(path, header, values)
        subject = row.pop(ID_COLUMN, "").removeprefix("sub-")
        if not subject:
            raise MrharmonyError(
                f"{path}: the row {values!s:.200} has no participant_id. Fill it in {IN_A_COPY}."
            )
        _add(path, rows.setdefault(subject, {}), subject, row, told_apart=SESSION_COLUMN in header)
    return Participants(_others(header), rows)


def read_sessions(path: Path, subject: str) -> Participants:
    """Read `sub-*_sessions.tsv`, the table of one subject's sessions; raises as `read_participants`."""
    header, lines = _read_table(path, SESSION_COLUMN)
    rows: dict[str | None, Row] = {}
    for values in lines:
        _add(path, rows, subject, _row(path, header, values), told_apart=True)
    return Participants(_others(header), {subject: rows})


def _add(path: Path, rows: dict[str | None, Row], subject: str, row: Row, *, told_apart: bool) -> None:
    """Add a row, which may name its session, to a subject's rows."""
    session = row.pop(SESSION_COLUMN, "").removeprefix("ses-") or None
    if session in rows:
        if told_apart:
            which = f"session {session}" if session else "no session"
            raise MrharmonyError(
                f"{path}: subject {subject:.60} has two rows for {which}, and which counts is not clear. "
                f"Keep one row a session {IN_A_COPY}."
            )
        raise MrharmonyError(
            f"{path}: subject {subject:.60} has two rows. If they are of two sessions, name these in a "
            f"column {SESSION_COLUMN}; else keep one row a subject, {IN_A_COPY}."
        )
    rows[session] = row


def _others(header: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in header if name not in _LABELS)


def _read_table(path: Path, key: str) -> tuple[list[str], list[list[str]]]:
    """Return names of columns, one of which is `key`, and the other lines."""
    if content_missing(path):
        raise MrharmonyError(f"{path}: the content of this table is not here. {FETCH}")
    try:
        lines = [line for line in _lines(path) if any(map(str.strip, line))]
    except csv.Error as failure:
        raise MrharmonyError(f"{path}: not a table ({failure}). Save it as tab-separated UTF-8.") from failure
    if len(lines) < 2:
        raise MrharmonyError(f"{path}: the table is empty. It needs {key} and more columns, and rows.")
    header = [composed(name.strip()) for name in lines[0]]
    _check_header(path, header, key)
    return header, lines[1:]


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = read_text(path, "utf-8-sig")
    except ValueError as failure:
        raise MrharmonyError(
            f"{path}: cannot be read ({failure}). A BIDS folder needs this table, tab-separated in UTF-8, "
            "with the columns participant_id and site."
        ) from failure
    return csv.reader(io.StringIO(text, newline=""), delimiter="\t")


def _check_header(path: Path, header: list[str], key: str) -> None:
    if key not in header:
        remedy = "The columns must be separated by tabs."
        if len(header) > 1:
            remedy = f"Give its first column that name {IN_A_COPY}."
        raise MrharmonyError(f"{path}: no column {key}, only {listed(header)}. {remedy}")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise MrharmonyError(
            f"{path}: column {min(repeated)!r:.60} appears twice, and which counts is not clear. "
            f"Give one another name {IN_A_COPY}."
        )


def listed(names: Iterable[str]) -> str:
    """Return names with commas, on one line of readable length."""
    return f"{' '.join(', '.join(names).split()):.200}"


def _row(path: Path, header: list[str], values: list[str]) -> Row:
    if any("\n" in value for value in values):
        raise MrharmonyError(
            f"{path}: a quotation mark is not closed in {values[0]!r:.60}. Close it {IN_A_COPY}."
        )
    if len(values) > len(header):
        raise MrharmonyError(
            f"{path}: the row {values!s:.200} has more fields than the header. Check its tabs."
        )
    pairs = zip(header, map(str.strip, values), strict=False)
    return {
        name: value if name in _LABELS else composed(value)  # labels are compared with those of folders
        for name, value in pairs
        if value.lower() not in NOT_AVAILABLE
    }
