"""The group level of `mrharmony bids`: a table of all scans, from derivatives alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from mrharmony.core.atomic import write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.reporting import TABLE, Derivatives, look_at, target_labels, write_citation, write_page
from mrharmony.jobs.statuses import ScanStatus

_NONE = "n/a"
TEXT_COLUMNS = ("source", "target", "method")
DRIFT_COLUMNS = (
    *("edge_correlation", "csf_drift", "grey_drift", "white_drift"),
    *("mean_change", "new_structure", "lost_structure", "target_distance"),
)
COLUMNS = (
    *("scan", "participant", "session", "site", "status", "verdict"),
    *TEXT_COLUMNS,
    *DRIFT_COLUMNS,
    "reason",
)


class GroupFiles(NamedTuple):
    """The table and the page on all results of a target."""

    table: Path
    report: Path


def run_group(out_dir: Path) -> list[GroupFiles]:
    """Write a table with a line for each scan of the data set, refused ones first, the page and methods text.

    Where several targets share the folder, each has files of its own. Scans that no run was asked for have a
    line too. Raises `MrharmonyError` if the folder is not one of the participant level.
    """
    every = [Derivatives.read(out_dir, label) for label in target_labels(out_dir)]
    if not any(read.statuses for read in every):
        raise MrharmonyError(f"{out_dir}: no harmonized scans here. Run the participant level first.")
    return [_write_files(read) for read in every]


def _write_files(read: Derivatives) -> GroupFiles:
    seen = look_at(read)  # first, as some results turn out to be damaged
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(scan) for scan in seen.read.statuses)
    table = read.file(TABLE)
    write_text(table, text.getvalue())
    report = write_page(seen).page
    write_citation(seen.read)
    return GroupFiles(table, report)


def _cells(scan: ScanStatus) -> list[object]:
    """Return a row of the table, as `COLUMNS` names its cells."""
    listed, note = scan.listed, scan.note if scan.status == "done" else None
    known: dict[str, object] = {**(note.drift if note else {}), "status": scan.status}
    known |= {column: getattr(note, column) for column in TEXT_COLUMNS} if note else {}
    known |= {"scan": listed.scan, "participant": listed.participant, "session": listed.session}
    refused = scan.record if scan.status == "refused" else None
    verdict = note.verdict if note else refused.verdict if refused else None
    known |= {"site": listed.site, "verdict": verdict, "reason": scan.reason}
    return [_NONE if known.get(column) is None else known[column] for column in COLUMNS]
