"""The group level of `mrharmony bids`: a table of all scans, from derivatives alone."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrharmony.core.atomic import write_text
from mrharmony.core.claims import claimed
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.harmonizing import SIDECAR_SUFFIX, SUFFIX
from mrharmony.jobs.participants import KILLED
from mrharmony.jobs.records import LOGS, ListedScan, ScanRecord, read_list, read_record
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import sidecar_path
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized

GROUP_TABLE = "group.tsv"
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
# What is looked at first comes first.
ORDER = ("failed", "refused", "damaged", "begun", "running", "missing", "left out", "done")


@dataclass(frozen=True)
class GroupRow:
    """A scan of the data set, what became of it, and why there is no result.

    `status` is one of `ORDER`: `damaged` for a result whose sidecar cannot be used, `begun` for a scan whose
    process was killed, `missing` for a result that is gone, `left out` for a scan that no run was asked for.
    """

    listed: ListedScan
    status: str
    reason: str | None
    record: ScanRecord | None
    note: HarmonizedSidecar | None

    def cells(self) -> list[object]:
        """Return the row's cells, as `COLUMNS` names them."""
        listed, note = self.listed, self.note
        known: dict[str, object] = {**(note.drift if note else {}), "status": self.status}
        known |= {column: getattr(note, column) for column in TEXT_COLUMNS} if note else {}
        known |= {"scan": listed.scan, "participant": listed.participant, "session": listed.session}
        verdict = note.verdict if note else self.record.verdict if self.record else None
        known |= {"site": listed.site, "verdict": verdict, "reason": self.reason}
        return [_NONE if known.get(column) is None else known[column] for column in COLUMNS]


def run_group(out_dir: Path) -> Path:
    """Write a table with a line for each scan of the data set, refused ones first; returns its path.

    Scans that no run was asked for have a line too. Raises `MrharmonyError` if the folder is not one of the
    participant level.
    """
    rows = group_rows(out_dir)
    if not rows:
        raise MrharmonyError(f"{out_dir}: no harmonized scans here. Run the participant level first.")
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells() for row in rows)
    table = out_dir / GROUP_TABLE
    write_text(table, text.getvalue())
    return table


def group_rows(out_dir: Path) -> list[GroupRow]:
    """Return what became of every scan of the data set, from the derivatives alone, troubled ones first."""
    listed = read_list(out_dir) or list(_found(out_dir))
    rows = [_row(out_dir, scan) for scan in listed]
    return sorted(rows, key=lambda row: ORDER.index(row.status))


def _found(out_dir: Path) -> Iterator[ListedScan]:
    """List the results of earlier releases, which listed no scans."""
    sidecars = sorted(out_dir.glob("sub-*/**/*" + SIDECAR_SUFFIX))
    if not sidecars:
        return
    results = {result.path: result for result in BidsIndex.open(out_dir, None).scans}
    for sidecar in sidecars:
        output = sidecar.with_name(sidecar.name.removesuffix(SIDECAR_SUFFIX) + SUFFIX)
        way, result = output.relative_to(out_dir).as_posix(), results.get(output)
        site = result.domain if result else None
        subject = result.subject if result else _NONE
        yield ListedScan(way, way, subject, result.session if result else None, site)


def _row(out_dir: Path, listed: ListedScan) -> GroupRow:
    output = out_dir / listed.output
    record = read_record(out_dir, listed.output)
    note, fault = None, None
    try:
        note = read_harmonized(sidecar_path(output))
    except MrharmonyError as error:
        fault = str(error)
        print(error, file=sys.stderr)
    status, reason = _status(out_dir, listed, record, note, fault)
    return GroupRow(listed, status, reason, record, note)


def _status(
    out_dir: Path,
    listed: ListedScan,
    record: ScanRecord | None,
    note: HarmonizedSidecar | None,
    fault: str | None,
) -> tuple[str, str | None]:
    output, again = out_dir / listed.output, "Run the participant level again."
    if record and record.status in ("refused", "failed"):
        return record.status, record.reason
    if record and record.status == "begun":
        with claimed(out_dir / LOGS / "claims.lock", listed.output) as free:
            return ("begun", f"{listed.scan}: {KILLED}") if free else ("running", "Another run is at it.")
    if fault or (note is None and sidecar_path(output).exists()):
        return "damaged", fault or f"{sidecar_path(output)}: is damaged. {again}"
    if note and output.is_file():
        return "done", None
    if record or note or output.exists():
        return "missing", f"{output}: the image or its JSON file is gone. {again}"
    return "left out", None
