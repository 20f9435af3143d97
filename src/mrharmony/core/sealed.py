"""Records that a run keeps for its next one, sealed: one that was changed or exchanged counts as none."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import json_bytes, read_json, write_json

SEAL = "RecordSHA256"  # of the record and of its place


def write_sealed(path: Path, place: str, record: dict[str, Any]) -> None:
    """Write a record as JSON, atomically, with a hash of it and of its place.

    `place` says what the file belongs to, in words that stay when its folder is moved. NaN and infinity raise
    `ValueError`.
    """
    write_json(path, {SEAL: _sealed(place, record), **record})


def read_sealed(path: Path, place: str) -> dict[str, Any] | None:
    """Return what `write_sealed` wrote for this place; None if missing, changed since, or another's."""
    record = read_json(path) or {}
    seal = record.pop(SEAL, None)
    try:
        return record if seal == _sealed(place, record) else None
    except ValueError:  # NaN or infinity, which are never written
        return None


def _sealed(place: str, record: dict[str, Any]) -> str:
    return hashlib.sha256(place.encode() + json_bytes(record)).hexdigest()
