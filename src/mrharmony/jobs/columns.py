"""Columns of a table of participants, as numbers and as groups."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mrharmony.core.domain import composed
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import number_in
from mrharmony.scans.bids import BidsScan
from mrharmony.scans.folders import IN_A_COPY

_NAMED_AT_MOST = 5
_CODES_FOR_MISSING = frozenset({-9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0})
_LARGEST = 1e18  # of a factor: squares of larger ones overflow single precision
Key = TypeVar("Key")


def column_numbers(table: Path, entries: Mapping[Key, str], column: str) -> dict[Key, float]:
    """Return entries of a column as numbers, and say where one is a usual code for what is missing.

    Raises `MrharmonyError` where one is no number, or too large for single precision.
    """
    numbers = {key: _number(table, text, column) for key, text in entries.items()}
    codes = sorted(_CODES_FOR_MISSING & set(numbers.values()))
    if codes:
        print(
            f"{table}: {column} is {codes[0]:g} in some rows, which is taken as a number. If it stands for a "
            f"missing value, write n/a there {IN_A_COPY}.",
            file=sys.stderr,
        )
    return numbers


def _number(table: Path, text: str, column: str) -> float:
    number = number_in(text)
    if not abs(number) < _LARGEST:
        needed = "numbers" if math.isnan(number) else f"numbers from {-_LARGEST:g} to {_LARGEST:g}"
        raise MrharmonyError(
            f"{table}: {column} must hold {needed}, not {text!r:.60}. "
            f"Choose another column, or write n/a there {IN_A_COPY}."
        )
    return number


def column_groups(table: Path, scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return the group of each scan that has one; raises `MrharmonyError` unless there are two."""
    groups = column_entries(table, scans, column)
    names = sorted(set(groups.values()))
    if len(names) != 2:
        listed = ", ".join(f"{name:.60}" for name in names[:_NAMED_AT_MOST]) + (
            ", …" if len(names) > _NAMED_AT_MOST else ""
        )
        raise MrharmonyError(
            f"{table}: {column} must hold two groups, not {len(names)} ({listed}). "
            f"Choose another column, or write n/a for the others {IN_A_COPY}."
        )
    return groups


def column_entries(table: Path, scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return what a column says of the scans that it says something of."""
    name = composed(column)
    entries = {scan.path: scan.participant[name] for scan in scans if name in scan.participant}
    if not entries:
        known = sorted({name for scan in scans for name in scan.participant})
        raise MrharmonyError(
            f"{table}: no column {column}, or nothing in it for these scans. "
            f"Choose from: {', '.join(f'{name:.60}' for name in known) or 'none'}."
        )
    return entries
