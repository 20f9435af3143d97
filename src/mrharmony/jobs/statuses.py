"""What became of every scan of a data set, from its derivatives alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import read_json
from mrharmony.core.claims import claimed
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.derivatives import setting_of
from mrharmony.jobs.harmonizing import other_setting
from mrharmony.jobs.participants import KILLED
from mrharmony.jobs.records import ListedScan, ScanRecord, claims_path, read_list, read_record
from mrharmony.jobs.result_names import result_suffix
from mrharmony.scans.bids import SITE
from mrharmony.scans.names import DESCRIPTION, sidecar_path
from mrharmony.scans.participants import NOBODY, PARTICIPANTS, read_participants
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized

_AGAIN = "Run the participant level again."
# What is looked at first comes first.
ORDER = ("failed", "refused", "damaged", "begun", "running", "missing", "left out", "done")


@dataclass(frozen=True)
class ScanStatus:
    """A scan of the data set, what became of it, and why there is no result.

    `status` is one of `ORDER`: `damaged` for a result whose sidecar or image cannot be used or has changed,
    `begun` for a scan whose process was killed, `missing` for a result that is gone, `left out` for a scan
    that no run was asked for, or none with the settings that the folder has now.
    """

    listed: ListedScan
    status: str
    reason: str | None
    record: ScanRecord | None
    note: HarmonizedSidecar | None


def scan_statuses(out_dir: Path, label: str = "") -> list[ScanStatus]:
    """Return what became of every scan of the data set, from the derivatives alone, troubled ones first.

    `label` is of the target that is asked for, where results have it in their names.
    """
    listed = read_list(out_dir, label) or list(_found(out_dir, label))
    setting = setting_of(read_json(out_dir / DESCRIPTION) or {}, label)
    known = {name: value for name, value in setting.items() if name in HarmonizedSidecar.model_fields}
    return troubled_first(_status_of(out_dir, scan, known) for scan in listed)


def troubled_first(scans: Iterable[ScanStatus]) -> list[ScanStatus]:
    """Return scans in the order in which they are to be looked at."""
    return sorted(scans, key=lambda scan: ORDER.index(scan.status))


def _found(out_dir: Path, label: str) -> Iterator[ListedScan]:
    """List the results of a folder without a list of scans: `harmonize` wrote it, or its logs are gone."""
    participants = NOBODY
    with suppress(MrharmonyError):
        participants = read_participants(out_dir / PARTICIPANTS)
    ending = result_suffix(label).removesuffix(".nii.gz")
    for sidecar in sorted(out_dir.glob(f"sub-*/**/*{ending}.json")):
        output = sidecar.with_name(f"{sidecar.stem}.nii.gz")
        way = output.relative_to(out_dir)
        subject = way.parts[0].removeprefix("sub-")
        session = next(
            (part.removeprefix("ses-") for part in way.parts[:-1] if part.startswith("ses-")), None
        )
        site = (participants.row(subject, session) or {}).get(SITE)
        yield ListedScan(way.as_posix(), way.as_posix(), subject, session, site)


def _status_of(out_dir: Path, listed: ListedScan, setting: Mapping[str, Any]) -> ScanStatus:
    output = out_dir / listed.output
    record = read_record(out_dir, listed.output)
    note, fault = None, None
    try:
        note = read_harmonized(sidecar_path(output))
    except MrharmonyError as error:
        fault = str(error)
    status, reason = _status(out_dir, listed, record, note, fault)
    if note and status == "done" and (other := other_setting(setting, note.model_dump())):
        status, reason = "left out", f"{output}: was made with {other}. {_AGAIN}"
    return ScanStatus(listed, status, reason, record, note)


def _status(
    out_dir: Path,
    listed: ListedScan,
    record: ScanRecord | None,
    note: HarmonizedSidecar | None,
    fault: str | None,
) -> tuple[str, str | None]:
    output = out_dir / listed.output
    if record and record.status in ("refused", "failed"):
        return record.status, record.reason
    if record and record.status == "begun":
        with claimed(claims_path(out_dir), listed.output) as free:
            return ("begun", f"{listed.scan}: {KILLED}") if free else ("running", "Another run is at it.")
    if spoilt := fault or _spoilt(output, record, note):
        return "damaged", spoilt
    if note and output.is_file():
        return "done", None
    if record or note or output.exists():
        return "missing", f"{output}: the image or its JSON file is gone. {_AGAIN}"
    return "left out", None


def _spoilt(output: Path, record: ScanRecord | None, note: HarmonizedSidecar | None) -> str | None:
    """Return what shows at a glance that a result was changed since it was written."""
    if note is None and sidecar_path(output).exists():
        return f"{sidecar_path(output)}: is damaged. {_AGAIN}"
    written = record.output_state if record else None
    if written and output.is_file() and written[0] != output.stat().st_size:
        return f"{output}: has not the size that it was written with. {_AGAIN}"
    return None
