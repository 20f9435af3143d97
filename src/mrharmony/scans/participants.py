"""Read `participants.tsv`, the table that says which site each subject of a BIDS folder is from."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from mrharmony.core.volume import MrharmonyError

ID_COLUMN = "participant_id"
SPLIT = "split"  # column with `train` and `test`
NOT_AVAILABLE = frozenset({"", "n/a", "nan"})


def read_participants(path: Path) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """Read the table.

    Parameters
    ----------
    path
        Tab-separated, UTF-8 with or without byte-order mark; labels with or without `sub-`.

    Returns
    -------
    columns
        Names of the columns beside `participant_id`.
    rows
        For each subject label without `sub-`, the values that are known, by column; `n/a` is left out.

    Raises
    ------
    MrharmonyError
        The table is missing, empty, not UTF-8, not tab-separated, or names a subject twice.
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
            raise MrharmonyError(f"{path}: the row {values} has no participant_id. Fill it in.")
        if label in rows:
            raise MrharmonyError(f"{path}: subject {label} has two rows. Remove one of them.")
        rows[label] = row
    return tuple(name for name in header if name != ID_COLUMN), rows


def shuffle_key(subject: str) -> str:
    """Return a key that orders subjects at random but always alike; labels are often sorted by site."""
    return hashlib.sha256(subject.encode()).hexdigest()


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as failure:
        raise MrharmonyError(
            f"{path}: not found. A BIDS folder needs this table, with the columns participant_id and site."
        ) from failure
    except UnicodeDecodeError as failure:
        raise MrharmonyError(f"{path}: not UTF-8 text. Save it again with the encoding UTF-8.") from failure
    except OSError as failure:
        raise MrharmonyError(
            f"{path}: cannot be read ({failure.strerror}). Check its permissions."
        ) from failure
    return csv.reader(io.StringIO(text, newline=""), delimiter="\t")


def _check_header(path: Path, header: list[str]) -> None:
    if ID_COLUMN not in header:
        separated = "The columns must be separated by tabs." if len(header) == 1 else "Rename the column."
        raise MrharmonyError(f"{path}: no column {ID_COLUMN}, only {', '.join(header)}. {separated}")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise MrharmonyError(f"{path}: column {sorted(repeated)[0]!r} appears twice. Remove one.")


def _row(path: Path, header: list[str], values: list[str]) -> dict[str, str]:
    if any("\n" in value for value in values):
        raise MrharmonyError(f"{path}: a quotation mark is not closed in {values[0]!r}. Remove or close it.")
    if len(values) > len(header):
        raise MrharmonyError(f"{path}: the row {values} has more fields than the header. Check its tabs.")
    pairs = zip(header, map(str.strip, values), strict=False)
    return {name: value for name, value in pairs if value.lower() not in NOT_AVAILABLE}
