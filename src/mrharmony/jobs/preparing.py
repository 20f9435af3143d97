"""`mrharmony prepare`: a BIDS data set into prepared scans, in parallel, resumable, with a page for each."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mrharmony.core.atomic import remove, write_json, write_text
from mrharmony.core.findings import Finding, MrharmonyError, NotWritten, finding_record, of_the_system
from mrharmony.core.hashing import file_sha256
from mrharmony.core.libraries import installed_versions
from mrharmony.core.progress import track
from mrharmony.core.records import read_record
from mrharmony.core.worker_process import limit_threads
from mrharmony.core.workers import side_by_side, usable_cores
from mrharmony.jobs.derivatives import begin_derivatives, with_outputs
from mrharmony.jobs.harmonizing import reason_of
from mrharmony.preparation.pipeline import prepare_beside
from mrharmony.preparation.quality import PreparationFigures, preparation_figures
from mrharmony.preparation.saved import (
    LOG_SUFFIX,
    PreparedFiles,
    discard_prepared,
    doubtful_files,
    is_whole,
    manual_mask,
    mask_source_findings,
    read_note,
    read_prepared,
    why_not_usable,
    write_prepared,
    write_volume_corrected,
)
from mrharmony.report.preparation_page import (
    IndexRow,
    PreparationVerdict,
    index_page,
    preparation_page,
    thumbnail,
)
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import Scan, read_scan
from mrharmony.scans.selection import Selection
from mrharmony.scans.sidecar import GENERATED_BY

INDEX, INDEX_TITLE = "index.html", "Prepared scans"
LIBRARIES = ("nibabel", "deepbet", "numpy", "scipy", "torch")
_PAGE = "PageSHA256"
_STAYS = "What was prepared of it before stays."
_CHANGED = "{}: was changed since it was written. Move it away, and call again: it is made anew."


@dataclass(frozen=True)
class PrepareJob:
    """One scan to prepare."""

    scan: Path
    files: PreparedFiles  # where the preparation goes
    domain: str | None  # None where it is unknown
    volume_corrected: bool  # write the brain grown to the template's size too

    @property
    def incomplete(self) -> bool:
        """Whether the brain grown to the template's size is to be written and missing."""
        grown = self.files.volume_corrected, self.files.volume_corrected_note
        return self.volume_corrected and not all(file.is_file() for file in grown)


@dataclass(frozen=True)
class Preparation:
    """What became of one scan: `passed`, `warned` (a finding deserves a look) or `refused`."""

    scan: Path
    verdict: PreparationVerdict
    reason: str | None  # why it was refused
    findings: tuple[Finding, ...]
    figures: PreparationFigures | None  # measures of its quality; None where it was refused

    def record(self) -> dict[str, Any]:
        """Return it for `--json` and for the log."""
        findings = [finding_record(finding) for finding in self.findings]
        return asdict(self) | {"scan": str(self.scan), "findings": findings}


class _Log(BaseModel, frozen=True, allow_inf_nan=False):
    """What is read of the log of a scan."""

    scan: str
    verdict: PreparationVerdict
    reason: str | None
    findings: tuple[Finding, ...]
    figures: PreparationFigures | None
    thumbnail: str | None = None


def prepare_data_set(
    index: BidsIndex,
    out_dir: Path,
    labels: Sequence[str] | None = None,
    workers: int | None = None,
    *,
    volume_corrected: bool = False,
) -> list[Preparation]:
    """Prepare the scans of a data set into BIDS derivatives; returns what became of each, in their order.

    Folders that cannot be listed come last, refused.

    Each scan gets its mask, bias field, transform and canonical brain (`write_prepared`), a page, and a log;
    the folder gets an index of all. Scans that an earlier run finished are kept; those it refused are tried
    again. A mask that a person put in place or edited is taken as given.

    `labels` name the participants, with or without `sub-`, or all if empty. `workers` is the number of
    processes of one thread each, one a usable core if None. `volume_corrected` also writes brains grown to
    the template's size; what is finished gets them added.

    Raises as `with_outputs` and `begin_derivatives`, and `MrharmonyError` if a worker process was ended from
    outside.
    """
    name = "mrharmony: prepared T1w scans"
    selection = Selection(labels or ())
    chosen = selection.of(index)
    pairs = with_outputs(index, lambda scan: PreparedFiles.of(scan.path, out_dir))
    begin_derivatives(index, out_dir, name)
    jobs = [
        PrepareJob(scan.path, files, scan.domain, volume_corrected) for scan, files in pairs if scan in chosen
    ]
    earlier = {job.scan: finished(job) for job in jobs}
    missing = [job for job in jobs if earlier[job.scan] is None or job.incomplete]
    count = min(workers or usable_cores(), len(missing))
    if count <= 1:
        limit_threads()
    try:
        results = side_by_side(_prepare, missing, count)
        fresh = dict(track(results, "preparing", len(jobs), len(jobs) - len(missing)))
    finally:
        write_index(out_dir)
    done = {**earlier, **fresh}
    closed = [
        Preparation(one.path, "refused", str(one), one.findings, None) for one in selection.closed(index)
    ]
    return [*(result for job in jobs if (result := done[job.scan])), *closed]


def _prepare(job: PrepareJob) -> tuple[Path, Preparation]:
    """Prepare one scan and write what belongs to it; whatever goes wrong becomes the reason."""
    fault, was_read = {}, False
    try:
        if done := _completed(job):
            return job.scan, done
        scan = read_scan(job.scan)
        was_read = True
        return job.scan, _write(job, scan)
    except MrharmonyError as error:
        reason, findings = reason_of(error, job.scan), getattr(error, "findings", ())
    except OSError as failure:
        reason, findings = reason_of(of_the_system(failure), job.scan), ()
    except Exception as error:  # a fault of ours in one scan leaves the others alone
        reason, findings = f"{job.scan}: unexpected {type(error).__name__}: {error}. See {job.files.log}.", ()
        fault = {"traceback": traceback.format_exc()}
    stays = not was_read and job.files.note.is_file()  # of a scan that may be as it was
    result = Preparation(job.scan, "refused", f"{reason} {_STAYS}" if stays else reason, findings, None)
    with suppress(NotWritten):  # the reason is that nothing can be written there, or more than that
        if not stays:
            discard_prepared(job.files)
            remove(job.files.page)
        write_json(job.files.log, {**result.record(), **fault})
    return job.scan, result


def _completed(job: PrepareJob) -> Preparation | None:
    """Add what is missing to what an earlier run wrote of a scan; None where that does not hold."""
    done = finished(job)
    if done and done.verdict != "refused" and job.incomplete:
        prepared = read_prepared(job.files, read_scan(job.scan))
        write_volume_corrected(job.files, job.scan, prepared)
    return done


def _write(job: PrepareJob, scan: Scan) -> Preparation:
    """Prepare the scan of a job into its files; the sidecar that makes it count comes last."""
    files, start = job.files, time.monotonic()
    grown = job.volume_corrected or files.volume_corrected.is_file()  # as before, where it is done again
    discard_prepared(files)
    prepared = prepare_beside(scan, manual_mask(files))
    prepared = replace(prepared, findings=mask_source_findings(files, scan) + prepared.findings)
    figures = preparation_figures(prepared)
    findings = scan.findings + prepared.findings
    verdict: PreparationVerdict = (
        "warned" if any(finding.level == "warning" for finding in findings) else "passed"
    )
    result = Preparation(job.scan, verdict, None, findings, figures)
    page = preparation_page(job.scan.name, prepared, figures, verdict, findings)
    write_text(files.page, page)
    seconds = round(time.monotonic() - start, 1)
    write_json(files.log, {**result.record(), "seconds": seconds, "thumbnail": thumbnail(prepared)})
    details = {
        "Domain": job.domain,
        "Verdict": verdict,
        "Figures": asdict(figures),
        "GeneratedBy": [program.record() for program in GENERATED_BY],
        "Versions": installed_versions(LIBRARIES),
        _PAGE: file_sha256(files.page),
    }
    write_prepared(files, scan, prepared, details)
    if grown:
        write_volume_corrected(files, job.scan, prepared)
    return result


def finished(job: PrepareJob) -> Preparation | None:
    """Return what an earlier run wrote of a scan if that still holds; refused if a file is another one."""
    if not (job.scan.is_file() and job.files.page.is_file() and job.files.log.is_file()):
        return None
    with suppress(MrharmonyError):  # a damaged log: it is done again
        log = _read_log(job.files.log)
        own = log.figures and _is_own(log, job)
        if not own or why_not_usable(job.files, job.scan):
            return None
        doubtful = doubtful_files(job.files)
        if not all(map(is_whole, doubtful)):
            return None
        if other := next((file for file, is_other in doubtful.items() if is_other), None):
            return Preparation(job.scan, "refused", _CHANGED.format(other), log.findings, None)
        return Preparation(job.scan, log.verdict, None, log.findings, log.figures)
    return None


def _is_own(log: _Log, job: PrepareJob) -> bool:
    """Whether log and page are those of the scan."""
    page = read_note(job.files.note).get(_PAGE)
    return Path(log.scan).name == job.scan.name and page == file_sha256(job.files.page)


def write_index(out_dir: Path) -> None:
    """List every scan that any run has prepared or refused in a folder."""
    logs = sorted(out_dir.glob(f"sub-*/**/*{LOG_SUFFIX}"))
    rows = [row for log in logs if (row := _row(log, out_dir))]
    write_text(out_dir / INDEX, index_page(INDEX_TITLE, rows))


def _row(path: Path, out_dir: Path) -> IndexRow | None:
    files = PreparedFiles(path.parent, path.name.removesuffix(LOG_SUFFIX))
    try:
        log = _read_log(path)
    except MrharmonyError as error:
        print(error, file=sys.stderr)
        return None
    if log.verdict != "refused" and not files.note.is_file():
        return None  # being prepared, or killed on the way
    reason = log.reason or " ".join(f.message for f in log.findings if f.level == "warning")
    link = files.page.relative_to(out_dir).as_posix() if files.page.is_file() else None
    return IndexRow(Path(log.scan).name, log.verdict, reason, link, log.thumbnail)


def _read_log(path: Path) -> _Log:
    """Return a scan's log; raises `MrharmonyError` where it is damaged."""
    return read_record(path, _Log, "the log of a preparation", "Run `mrharmony prepare` again")
