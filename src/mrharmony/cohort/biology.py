"""What a study of ventricles finds in a data set: its columns are checked before its scans are prepared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from mrharmony.cohort.judged import judged_scans, scans_of
from mrharmony.evaluate import TargetVolumetry, cohort_biology
from mrharmony.evaluate.cohort_biology import require_cohort
from mrharmony.scans import BidsIndex, BidsScan
from mrharmony.volume import MrharmonyError

_NAMED_AT_MOST = 5


class _Row(NamedTuple):
    """What the study knows of a scan beside its ventricles."""

    factor: float
    site: str
    group: str | None


def evaluate_biology(
    index: BidsIndex,
    target: str,
    factor: str,
    group: str | None,
    only: Sequence[str],
    workers: int | None = None,
    prepared: Path | None = None,
) -> dict[str, Any]:
    """Say what a study of ventricles, with a volumetry made on `target`, finds in a cohort.

    Scans whose factor or group is not known are left out, and those that are refused.

    Parameters
    ----------
    index
        The data set.
    target
        Domain whose scans the volumetry is made on.
    factor, group
        Columns of participants.tsv: one with numbers, and one with two groups if any.
    only
        Use only these domains; all if empty.
    workers
        Processes that prepare scans; as many as there are usable cores if not given.
    prepared
        As in `judged_scans`.

    Raises
    ------
    MrharmonyError
        Before anything is prepared, if the columns do not hold what is needed for three scans or the target
        has no scan; afterwards, if the scans that are left are too few.
    """
    chosen = scans_of(index, only)
    if target not in {scan.domain for scan in chosen}:
        raise MrharmonyError(f"{index.root}: no scans of {target}, which the volumetry is made on.")
    rows = _rows(chosen, factor, group)
    require_cohort(*_columns(list(rows.values()), group))
    needed = [scan for scan in chosen if scan.path in rows or scan.domain == target]
    judged = judged_scans(index, needed, workers=workers, prepared=prepared)
    pairs = list(zip(judged.scans, judged.brains, strict=True))
    volumetry = TargetVolumetry.fit(brain for scan, brain in pairs if scan.domain == target)
    studied = [(rows[scan.path], brain) for scan, brain in pairs if scan.path in rows]
    measured = [volumetry.measure(brain).ventricle_ml for _, brain in studied]
    found = cohort_biology(measured, *_columns([row for row, _ in studied], group))
    return {"factor": factor, "heads": len(studied), **asdict(found), "refused": judged.refused}


def _rows(scans: Sequence[BidsScan], factor: str, group: str | None) -> dict[Path, _Row]:
    """Return the rows of the scans for which all that is needed is known."""
    numbers = {path: column_number(text, factor) for path, text in column_entries(scans, factor).items()}
    groups = column_groups(scans, group) if group else {}
    return {
        scan.path: _Row(numbers[scan.path], str(scan.domain), groups.get(scan.path))
        for scan in scans
        if scan.path in numbers and (group is None or scan.path in groups)
    }


def _columns(rows: Sequence[_Row], group: str | None) -> tuple[list[float], list[str], list[str] | None]:
    """Return factor, site and group of each row."""
    groups = [str(row.group) for row in rows] if group else None
    return [row.factor for row in rows], [row.site for row in rows], groups


def column_number(text: str, column: str) -> float:
    """Return an entry as a number, or raise `MrharmonyError`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MrharmonyError(
            f"participants.tsv: {column} must hold numbers, not {text!r}. Mend it, or write n/a for unknown."
        )
    return number


def column_groups(scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return the group of each scan that has one; raises `MrharmonyError` unless there are two."""
    groups = column_entries(scans, column)
    names = sorted(set(groups.values()))
    if len(names) != 2:
        listed = ", ".join(names[:_NAMED_AT_MOST]) + (", …" if len(names) > _NAMED_AT_MOST else "")
        raise MrharmonyError(
            f"participants.tsv: {column} must hold two groups, not {len(names)} ({listed}). "
            "Choose another column, or write n/a for the others."
        )
    return groups


def column_entries(scans: Sequence[BidsScan], column: str) -> dict[Path, str]:
    """Return what a column says of the scans that it says something of."""
    entries = {scan.path: scan.participant[column] for scan in scans if column in scan.participant}
    if not entries:
        known = sorted({name for scan in scans for name in scan.participant})
        raise MrharmonyError(
            f"participants.tsv: no column {column}, or nothing in it for these scans. "
            f"Choose from: {', '.join(known) or 'none'}."
        )
    return entries
