"""What became of every scan of a data set: a list of all, and a record of each, below `OUT/logs`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mrharmony.core.atomic import read_json, write_bytes, write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.result_names import SUFFIX, group_file

LOGS = "logs"
SCANS, LOOKS = "scans", "looks"  # folders in there: of the scans' records, and of looks at results
_LIST = "data_set.tsv"
_COLUMNS = ("scan", "output", "participant", "session", "site")
_NONE = "n/a"

Status = Literal["begun", "done", "refused", "failed"]
FileState = tuple[int, int, int]  # size, and when content and file last changed (ns)


class ScanRecord(BaseModel):
    """What became of one scan.

    Parameters
    ----------
    scan, output
        Paths in the data set and in the folder of results, with `/`.
    status
        `begun` while a process works on the scan, and where that process was killed; then `done`, `refused`
        for a `reason` that lies in the scan, or `failed` for one that lies elsewhere.
    verdict, reason, findings
        Of the result; why there is none; what was noticed, as `finding_record` has it.
    seconds, peak_memory_gib
        What the scan took, and the most memory of the process meanwhile.
    started, host, program_version
        When (UTC, ISO 8601), where, and by which program and format of preparation.
    scan_state, output_state
        Of the files when the scan was done: where both are the same, nothing has to be read again.
    """

    model_config = ConfigDict(frozen=True)

    scan: str
    output: str
    status: Status
    verdict: str | None = None
    reason: str | None = None
    findings: tuple[dict[str, str], ...] = ()
    seconds: float | None = None
    peak_memory_gib: float | None = None
    started: str | None = None
    host: str | None = None
    program_version: str | None = None
    scan_state: FileState | None = None
    output_state: FileState | None = None


def file_state(path: Path) -> FileState | None:
    """Return size and times of a file; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def record_path(out_dir: Path, output: Path | str) -> Path:
    """Return where the record of the scan lies whose result is `output`, relative to the folder."""
    name = Path(output)
    stem = name.name.removesuffix(SUFFIX).removesuffix(".nii.gz")
    return out_dir / LOGS / SCANS / name.parent / f"{stem}.json"


def is_kept(path: Path) -> bool:
    """Whether a path, relative to an output folder or to one above such, is that of a log, record or look."""
    parts = path.parts[:-1]
    return parts[:1] == (LOGS,) or any(pair in {(LOGS, SCANS), (LOGS, LOOKS)} for pair in pairwise(parts))


def claims_path(out_dir: Path) -> Path:
    """Return the file of the claims on the scans of a folder."""
    return out_dir / LOGS / "claims.lock"


def write_record(out_dir: Path, record: ScanRecord) -> None:
    """Write the record of a scan; raises `MrharmonyError` where it cannot be written."""
    write_json(record_path(out_dir, record.output), record.model_dump(mode="json"))


def read_record(out_dir: Path, output: Path | str) -> ScanRecord | None:
    """Return the record of the scan with this result; None where there is none.

    A damaged one is named on standard error and taken for none.
    """
    path = record_path(out_dir, output)
    content = read_json(path)
    if content is None and not path.exists():
        return None
    try:
        return ScanRecord.model_validate(content)
    except ValidationError:
        print(f"{path}: is damaged and taken for none; run the participant level again.", file=sys.stderr)
        return None


@dataclass(frozen=True)
class ListedScan:
    """A scan of the data set: paths in it and in the folder of results, and where it comes from."""

    scan: str
    output: str
    participant: str
    session: str | None
    site: str | None


def write_list(out_dir: Path, scans: Iterable[ListedScan], label: str = "") -> None:
    """List all scans of the data set, whether they are worked on or not; names keep their bytes.

    There is a list for each target that has its label in the names of its results.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(scan, column) or _NONE for column in _COLUMNS] for scan in scans)
    write_bytes(group_file(out_dir / LOGS, _LIST, label), text.getvalue().encode("utf-8", "surrogateescape"))


def read_list(out_dir: Path, label: str = "") -> Sequence[ListedScan]:
    """Return the listed scans; none where no run has listed any.

    Raises `MrharmonyError` where the list is damaged.
    """
    path = group_file(out_dir / LOGS, _LIST, label)
    try:
        text = io.StringIO(path.read_bytes().decode("utf-8", "surrogateescape"), newline="")
        header, *lines = csv.reader(text, delimiter="\t")
        if tuple(header) != _COLUMNS:
            raise ValueError
        return [
            ListedScan(*line[:3], *(None if value == _NONE else value for value in line[3:5]))
            for line in lines
        ]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, csv.Error) as failure:
        raise MrharmonyError(
            f"{path}: is damaged. Run the participant level again, which writes it."
        ) from failure
