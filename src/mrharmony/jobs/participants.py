"""The participant level of `mrharmony bids`: every scan of a data set harmonized, side by side, resumable."""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import read_json, require_writable
from mrharmony.core.claims import claimed
from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding, MrharmonyError, NotWritten, ScanRefused, finding_record
from mrharmony.core.hashing import file_sha256
from mrharmony.core.memory import forget_peak, peak_memory
from mrharmony.core.progress import track
from mrharmony.core.sampling import ENOUGH, some_of_each
from mrharmony.core.worker_process import limit_threads
from mrharmony.core.workers import WorkerEnded, alone, side_by_side, usable_cores
from mrharmony.jobs.brains import ScanFile, saved_sha256
from mrharmony.jobs.derivatives import (
    begin_derivatives,
    earlier_description,
    setting_of,
    with_outputs,
    with_setting,
)
from mrharmony.jobs.harmonizing import (
    HarmonizeJob,
    Outcome,
    discard_result,
    earlier_result,
    harmonize_scan,
    job_settings,
    other_setting,
    refused_scan,
    scan_settings,
)
from mrharmony.jobs.records import (
    LOGS,
    ListedScan,
    ScanRecord,
    claims_path,
    file_state,
    read_record,
    write_list,
    write_record,
)
from mrharmony.jobs.result_names import output_path, page_path, result_stem, uncertainty_path
from mrharmony.jobs.run_log import utc_now
from mrharmony.jobs.sources import Sources
from mrharmony.methods.registry import require_protocols
from mrharmony.preparation.saved import VERSION
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.names import DESCRIPTION, sidecar_path
from mrharmony.scans.selection import Selection
from mrharmony.scans.sidecar import HarmonizedSidecar

_STAYS = "The earlier result stays."

EVERYTHING = Selection()
KILLED = (
    "its process was ended from outside, usually for lack of memory or time. Run again with more of them, "
    "or with fewer scans side by side (nprocs=1)."
)


@dataclass(frozen=True)
class Processes:
    """How many scans are worked on side by side, one a usable core if None, and the threads of each."""

    count: int | None = None
    threads: int = 1


AS_MANY_AS_CORES = Processes()


@dataclass(frozen=True)
class ScanTask:
    """One scan of the data set, and where its result goes."""

    scan: Path
    out_dir: Path
    output: Path  # in `out_dir`
    source: Domain | None
    remarks: tuple[Finding, ...]
    data_set: Path
    looked_at: bool = False  # among those whose images the page of the group will show or compare

    @property
    def name(self) -> str:
        """The result's path in the folder, with `/`; it stands for the scan in claims and records."""
        return self.output.relative_to(self.out_dir).as_posix()

    def job(self, job: HarmonizeJob) -> HarmonizeJob:
        """Return what is done with this very scan."""
        remarks = (*job.remarks, *self.remarks)
        return replace(job, source=self.source, remarks=remarks, data_set=self.data_set)


def plan_tasks(
    index: BidsIndex, out_dir: Path, selection: Selection, job: HarmonizeJob, sources: Sources
) -> list[ScanTask]:
    """Return the chosen scans as tasks, writing nothing.

    Raises as `Selection.of`, `with_outputs` and `require_protocols`, and `MrharmonyError` where the folder
    holds results of another target or other settings, unless the job overwrites all of them.
    """
    if sources.by_protocol:
        require_protocols(job.harmonizer.name)
    _require_one_setting(index, out_dir, selection, job)
    outputs = _outputs(index, out_dir, job)
    named = [(scan.domain or "", result_stem(output)) for scan, output in outputs]
    some = some_of_each(named, ENOUGH) if len(named) > ENOUGH else ()  # of fewer the group level looks at all
    looked_at = {outputs[number][1] for number in some}
    tasks = []
    for scan in selection.of(index):
        source, remarks = sources.of(scan)
        output = output_path(scan, out_dir, job.label)
        task = ScanTask(scan.path, out_dir, output, source, remarks, index.root, output in looked_at)
        tasks.append(task)
    return tasks


def run_participants(
    index: BidsIndex,
    out_dir: Path,
    selection: Selection,
    job: HarmonizeJob,
    sources: Sources,
    processes: Processes = AS_MANY_AS_CORES,
    log: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Harmonize the chosen scans of a data set; what an earlier run with the same settings finished is kept.

    Every scan of the data set is listed in `OUT/logs`, and every chosen one gets a record of what became of
    it. A result that was damaged or changed since is made anew. The earlier result of a scan that is now
    refused is removed if it was made with other settings, so that all results are of one kind. Several runs
    may share a folder: each scan is done by one of them.

    Parameters
    ----------
    index, out_dir, selection
        The data set, the folder of derivatives, and which scans are done.
    job
        What is done with each; its source is replaced by that which `sources` tell.
    sources
        How the domain of a scan is found.
    processes
        How many scans are worked on side by side.
    log
        Takes a line for each scan that is finished.

    Raises as `plan_tasks` and `begin_derivatives`.
    """
    tasks = plan_tasks(index, out_dir, selection, job, sources)
    _begin(index, out_dir, selection, job)
    listed = [_listed(scan, output, index.root, out_dir) for scan, output in _outputs(index, out_dir, job)]
    closed = [_closed(folder, index, out_dir) for folder in selection.closed(index)]
    write_list(out_dir, [*listed, *closed], job.label)
    found = {task: finished(task, task.job(job)) for task in tasks}
    for task, outcome in found.items():
        if outcome:
            _remember(task, outcome)
    todo = [task for task, outcome in found.items() if outcome is None]
    for task, outcome in track(
        _done(todo, job, processes), "harmonizing", len(tasks), len(tasks) - len(todo)
    ):
        found[task] = outcome
        log(f"{task.scan}: {outcome.status}, {outcome.reason or outcome.verdict}")
    refused = (refused_scan(folder.path, folder) for folder in selection.closed(index))
    return [*(outcome for outcome in found.values() if outcome), *refused, *gone_scans(index, selection)]


def _begin(index: BidsIndex, out_dir: Path, selection: Selection, job: HarmonizeJob) -> None:
    """Describe the folder of results, which runs with other targets may be describing at the same time."""
    require_writable(out_dir / LOGS)
    with claimed(claims_path(out_dir), DESCRIPTION, wait=True):
        _require_one_setting(index, out_dir, selection, job)  # since the first look another may have begun
        settings = with_setting(earlier_description(index, out_dir), job.label, job_settings(job))
        begin_derivatives(index, out_dir, "mrharmony", settings)


def _outputs(index: BidsIndex, out_dir: Path, job: HarmonizeJob) -> list[tuple[BidsScan, Path]]:
    return with_outputs(index, lambda scan: output_path(scan, out_dir, job.label))


def gone_scans(index: BidsIndex, selection: Selection) -> list[Outcome]:
    """Return the outcomes of listed scans that the data set no longer has."""
    fault = MrharmonyError("is in the list, but no scan of the data set any more. Check the list.")
    return [refused_scan(index.root / name, fault) for name in selection.gone(index)]


def _done(
    tasks: Sequence[ScanTask], job: HarmonizeJob, processes: Processes
) -> Iterator[tuple[ScanTask, Outcome]]:
    """Yield the outcomes of tasks; those that another run is at come last, when that is done with them."""
    count, threads = min(processes.count or usable_cores(), len(tasks)), processes.threads
    if count <= 1:
        limit_threads(threads)  # equal results whatever the number of workers
    work = partial(_work, pickle.dumps(job))
    left, taken, broken = tuple(tasks), [], False
    while left:
        now = left
        try:
            for task, outcome in zip(now, side_by_side(work, now, count, threads), strict=True):
                left = left[1:]
                if outcome is None:
                    taken.append(task)
                else:  # what was finished when another process was killed was not kept from before
                    yield task, replace(outcome, kept=outcome.kept and not broken)
        except WorkerEnded:
            broken = True
            suspects = [task for task in left if _is_begun(task)]
            if not suspects:
                raise
            left = tuple(task for task in left if task not in suspects)
            for task in suspects:  # one may have been ended between its result and its record
                yield task, replace(_tried_alone(work, task), kept=False)
    for task in taken:
        yield task, work(task, wait=True) or _of_another_run(task)


def _tried_alone(work: Callable[[ScanTask], Outcome | None], task: ScanTask) -> Outcome:
    """Do a scan whose process was ended once more, with no other beside it."""
    try:
        return alone(work, task) or _of_another_run(task)
    except WorkerEnded:
        outcome = Outcome(task.scan, None, None, f"{task.scan}: {KILLED}", (), failed=True)
        write_record(task.out_dir, _record(task, outcome))
        return outcome


@lru_cache(maxsize=1)
def _opened(pickled: bytes) -> HarmonizeJob:
    """Return the job that all scans have in common, opened once a process, so that networks load once."""
    job = pickle.loads(pickled)  # noqa: S301 - of this very run
    assert isinstance(job, HarmonizeJob)
    return job


def _work(pickled: bytes, task: ScanTask, *, wait: bool = False) -> Outcome | None:
    """Do a scan unless another run is at it, or has done it meanwhile; None where it is being done."""
    job = task.job(_opened(pickled))
    with claimed(claims_path(task.out_dir), task.name, wait=wait) as free:
        if not free:
            return None
        if overtaken := _overtaken(task, job):
            return refused_scan(task.scan, overtaken)
        if outcome := finished(task, job):
            _remember(task, outcome)
            return outcome
        return _harmonize(task, job)


def _overtaken(task: ScanTask, job: HarmonizeJob) -> MrharmonyError | None:
    """Say that another run replaces the folder's results since this one began; None where none does."""
    made = setting_of(read_json(task.out_dir / DESCRIPTION) or {}, job.label)
    other = other_setting(job_settings(job), made) if made else None
    if other is None:
        return None
    return MrharmonyError(
        f"{task.out_dir}: another run has begun to replace all results by those with {other}. Let it end, or "
        "name another folder."
    )


def _harmonize(task: ScanTask, job: HarmonizeJob) -> Outcome:
    """Harmonize a scan and record it; a folder that takes no record takes no result either."""
    start, begun = time.monotonic(), utc_now()
    try:
        write_record(task.out_dir, _record(task, None, started=begun))
        outcome = _harmonized(task, job)
        seconds, peak = round(time.monotonic() - start, 1), round(peak_memory(), 2)
        record = _record(task, outcome, started=begun, seconds=seconds, peak_memory_gib=peak)
        write_record(task.out_dir, record)
    except NotWritten as error:
        outcome = refused_scan(task.scan, error)
        with suppress(NotWritten):  # not even the reason can be written there
            write_record(task.out_dir, _record(task, outcome, started=begun))
        return outcome
    if task.looked_at:
        _look_ahead(task)
    return outcome


def _look_ahead(task: ScanTask) -> None:
    """Look at a new result for the page of the group, which else would have to open it."""
    from mrharmony.jobs.group_images import ImagePair  # noqa: PLC0415 - for one command of many, half a second
    from mrharmony.jobs.kept_looks import look_ahead  # noqa: PLC0415

    if (note := earlier_result(task.output)) and task.output.is_file():
        look_ahead(ImagePair(sidecar_path(task.output), note, pictured=True), task.out_dir)


def _harmonized(task: ScanTask, job: HarmonizeJob) -> Outcome:
    forget_peak()
    outcome = harmonize_scan(job, task.scan, task.output)
    if outcome.output and (overtaken := _overtaken(task, job)):
        discard_result(task.output)
        return refused_scan(task.scan, overtaken)
    if outcome.output is not None:
        return outcome
    if not _may_stay(earlier_result(task.output), task, job):
        discard_result(task.output)
    elif task.output.is_file():
        return replace(outcome, reason=f"{outcome.reason} {_STAYS}")
    return outcome


def _may_stay(note: HarmonizedSidecar | None, task: ScanTask, job: HarmonizeJob) -> bool:
    """Whether an earlier result is still that of its scan, although nothing could be made anew.

    One that was made with a saved preparation stays too where that cannot be taken any more, as on a disk
    that is not mounted: neither the scan nor the way has changed.
    """
    if note is None:
        return False
    wanted = _wanted(note, task, job)
    if job.prepared is not None and wanted.get("preparation") is None:
        wanted = {key: wanted[key] for key in wanted if key not in ("preparation", "program_version")}
    return _says(note, wanted)


def _record(task: ScanTask, outcome: Outcome | None, **figures: object) -> ScanRecord:
    """Return the record of a scan: of its outcome, or that work on it has begun."""
    done = outcome is not None and outcome.output is not None
    status = "begun" if outcome is None else "done" if done else outcome.status
    return ScanRecord(
        scan=task.scan.relative_to(task.data_set).as_posix(),
        output=task.name,
        status=status,
        verdict=outcome.verdict if outcome else None,
        reason=outcome.reason if outcome else None,
        findings=tuple(finding_record(finding) for finding in outcome.findings) if outcome else (),
        host=socket.gethostname(),
        program_version=VERSION,
        scan_state=file_state(task.scan) if done else None,
        output_state=file_state(task.output) if done else None,
        **figures,
    )


def finished(task: ScanTask, job: HarmonizeJob) -> Outcome | None:
    """Return the outcome of an earlier run where the same was done and its result is whole; writes nothing.

    A scan that was written by force is done again without: it will be refused.
    """
    note = earlier_result(task.output)
    if note is None or not task.output.is_file():
        return None
    has_map = note.mean_uncertainty is not None and uncertainty_path(task.output).is_file()
    lacks_map = job.uncertainty and not has_map
    lacks_page = job.page and not page_path(task.output).is_file()
    if lacks_map or lacks_page or (note.verdict == "fail" and not job.force):
        return None
    record = read_record(task.out_dir, task.name)
    trusted = record is not None and record.status == "done" and _unchanged(record, task)
    if not trusted and not _is_whole(task.output, note):
        return None
    if not _is_of(note, task, job, note.source_sha256 if trusted else None):
        return None
    return Outcome(task.scan, task.output, note.verdict, None, (), kept=True)


def _remember(task: ScanTask, outcome: Outcome) -> None:
    """Write the record of a kept result where there is none, or none that spares reading it again."""
    record = read_record(task.out_dir, task.name)
    if record is None or record.status != "done" or not _unchanged(record, task):
        write_record(task.out_dir, _record(task, outcome))


def _unchanged(record: ScanRecord, task: ScanTask) -> bool:
    """Whether scan and result have the size and the times of when the scan was done."""
    states = (record.scan_state, record.output_state)
    return None not in states and states == (file_state(task.scan), file_state(task.output))


def _is_whole(output: Path, note: HarmonizedSidecar) -> bool:
    """Whether an image is the one that its sidecar was written with."""
    with suppress(MrharmonyError):
        return note.image_sha256 == file_sha256(output)
    return False


def _is_of(
    note: HarmonizedSidecar | None, task: ScanTask, job: HarmonizeJob, sha256: str | None = None
) -> bool:
    """Whether a sidecar says that its image was made of this very scan in this very way.

    `sha256` is the scan's hash where it is known.
    """
    if note is None:
        return False
    return _says(note, _wanted(note, task, job, sha256))


def _says(note: HarmonizedSidecar, wanted: Mapping[str, Any]) -> bool:
    return note.model_dump(include=set(wanted)) == wanted


def _wanted(
    note: HarmonizedSidecar, task: ScanTask, job: HarmonizeJob, sha256: str | None = None
) -> dict[str, Any]:
    """Return what the sidecar of a scan's result would say of the way it was made.

    A scan that cannot be read any more counts as the one of the sidecar, whose preparation is not looked at.
    """
    with suppress(MrharmonyError):
        sha256 = sha256 or file_sha256(task.scan)
    wanted = {
        **scan_settings(job),
        "program_version": VERSION,
        "source_sha256": sha256 or note.source_sha256,
    }
    if sha256:
        wanted["preparation"] = saved_sha256(ScanFile(task.scan, prepared=job.prepared), sha256)
    return wanted


def _is_begun(task: ScanTask) -> bool:
    record = read_record(task.out_dir, task.name)
    return record is not None and record.status == "begun"


def _of_another_run(task: ScanTask) -> Outcome:
    """Return what another run made of a scan."""
    record = read_record(task.out_dir, task.name)
    reason = (record and record.reason) or f"{task.scan}: another run is at it. Run again when that is done."
    return Outcome(task.scan, None, record.verdict if record else None, reason, ())


def _listed(scan: BidsScan, output: Path, root: Path, out_dir: Path) -> ListedScan:
    way, result = scan.path.relative_to(root).as_posix(), output.relative_to(out_dir).as_posix()
    return ListedScan(way, result, scan.subject, scan.session, scan.domain)


def _closed(folder: ScanRefused, index: BidsIndex, out_dir: Path) -> ListedScan:
    """Record a folder whose scans cannot be known, and return its place in the list."""
    way = folder.path.relative_to(index.root).as_posix()
    write_record(out_dir, ScanRecord(scan=way, output=way, status="refused", reason=str(folder)))
    return ListedScan(way, way, index.subject_of(folder.path), None, None)


def _require_one_setting(index: BidsIndex, out_dir: Path, selection: Selection, job: HarmonizeJob) -> None:
    """Raise `MrharmonyError` where results with another target or settings would be among those of a job."""
    wanted, made = job_settings(job), setting_of(earlier_description(index, out_dir), job.label)
    other = other_setting(wanted, made) if made else None
    if other and not job.overwrite:
        clash, beside = _of_targets(made, wanted, job)
        raise MrharmonyError(
            f"{out_dir}: holds results with {other}{clash}. Name another folder{beside}, or replace all of "
            "them with overwrite=True."
        )
    staying = selection.left_out(index) if other else ()
    for output in (output_path(scan, out_dir, job.label) for scan in staying):
        note = earlier_result(output)
        if note and (other := other_setting(wanted, note.model_dump(include=set(wanted)))):
            raise MrharmonyError(
                f"{output}: has {other}, and its scan is not chosen, but all results of a folder are of one "
                "kind. Choose all scans, or name another folder."
            )


def _of_targets(made: Mapping[str, Any], wanted: Mapping[str, Any], job: HarmonizeJob) -> tuple[str, str]:
    """Return why results of two targets cannot share a folder, or how they can; empty for one target."""
    if made.get("target") == wanted["target"]:
        return "", ""
    if job.name_target:
        return f"; names of files have harmonizedTo{job.label} for both", ""
    return "", ", keep both in this one with name_target=True"
