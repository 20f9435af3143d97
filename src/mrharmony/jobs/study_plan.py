"""What a run over a data set would do, and what it costs in time, memory and disk, before it is begun."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from mrharmony.core.memory import usable_memory
from mrharmony.core.workers import usable_cores
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.participants import ScanTask, finished
from mrharmony.jobs.records import read_record
from mrharmony.methods.registry import DEFAULT_METHOD
from mrharmony.preparation.saved import PreparedFiles

_MILLION = 1e6
# Of one process on one core, by benchmarks/results/speed/harmonize.md: a head of 11.5 million voxels (1 mm)
# and one of 92 million (0.5 mm).
BASE_GIB, GIB_PER_MILLION = 1.3, 0.015
HEAD_MILLIONS = 11.5
RAW_SECONDS, PREPARED_SECONDS = 24.0, 8.0
# Of the compressed result: a brain takes a fifth of a head's box, and 4 bytes hardly shrink.
BYTES_PER_VOXEL = {"brain": 0.6, "head": 3.2}
_ENOUGH = 3  # records, for a median
_SAMPLE = 200  # scans whose headers are read to choose the number of processes


@dataclass(frozen=True)
class StudyPlan:
    """What would be done with the chosen scans of a data set, and its cost.

    Parameters
    ----------
    kept
        Number of scans that an earlier run finished.
    scans
        Those to do.
    refused
        A sentence for each scan to do whose file cannot be opened.
    sources
        Numbers of scans to do by the name of the domain that they come from; None stands for unknown.
    workers
        Processes.
    seconds_each, measured_here
        Of a scan on one core, None where nobody has measured it; from this folder's records or from ours.
    memory_each_gib, disk_gib
        Of a process, and of the results.
    """

    kept: int
    scans: tuple[Path, ...]
    refused: tuple[str, ...]
    sources: dict[str | None, int]
    workers: int
    seconds_each: float | None
    measured_here: bool
    memory_each_gib: float
    disk_gib: float

    @property
    def todo(self) -> int:
        """The number of scans to do."""
        return len(self.scans)

    @property
    def hours(self) -> float | None:
        """The time that it will take with these processes."""
        each = self.seconds_each
        return None if each is None else each * math.ceil(self.todo / self.workers) / 3600

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        sources = {name or "unknown": count for name, count in self.sources.items()}
        figures = {name: value for name, value in vars(self).items() if name != "scans"}
        return {
            "todo": self.todo,
            **figures,
            "refused": list(self.refused),
            "sources": sources,
            "hours": self.hours,
        }

    def __str__(self) -> str:
        """Return it as lines for a terminal."""
        if not self.scans:
            return f"nothing to do: {self.kept} scans are finished"
        known = ", ".join(f"{count} {name or 'unknown'}" for name, count in self.sources.items())
        hours, where = self.hours, "as scans here took" if self.measured_here else "a rough guess"
        time = "not measured for this method" if hours is None else _duration(hours)
        each = "" if self.seconds_each is None else f" ({self.seconds_each:.0f} s a scan, {where})"
        processes = f"{self.workers} process{'es' if self.workers > 1 else ''}"
        lines = (
            f"scans   {self.todo} to do, {self.kept} kept, {len(self.refused)} of them cannot be opened",
            f"from    {known}",
            f"time    {time}{each}, {processes}",
            f"memory  {self.workers} × {self.memory_each_gib:.1f} GiB",
            f"disk    {self.disk_gib:.1f} GiB",
        )
        return "\n".join([*lines, *self.refused])


def choose_workers(scans: Sequence[Path], asked: int | None, memory_gib: float | None) -> int:
    """Return how many scans are worked on side by side: as many as cores and memory allow, at least one.

    Parameters
    ----------
    scans
        The scans to do; the largest of a sample decides what a process needs.
    asked
        The most processes; the usable cores if None.
    memory_gib
        The most memory of all of them, what is free if None.
    """
    sample = scans[:: max(len(scans) // _SAMPLE, 1)]
    need = memory_need(max((_voxels(scan) or 0 for scan in sample), default=0))
    room = usable_memory() if memory_gib is None else memory_gib
    most = min(asked or usable_cores(), max(len(scans), 1))
    return max(int(min(room / need, most)), 1)


def memory_need(voxels: float) -> float:
    """Return the memory that a process needs for a scan of so many voxels, GiB."""
    return BASE_GIB + GIB_PER_MILLION * voxels / _MILLION


def plan_study(
    tasks: Sequence[ScanTask], job: HarmonizeJob, asked: int | None = None, memory_gib: float | None = None
) -> StudyPlan:
    """Return what a run would do with these scans; nothing is written, and only headers are read."""
    todo = [task for task in tasks if finished(task, task.job(job)) is None]
    sizes = {task: _voxels(task.scan) for task in todo}
    voxels = [size for size in sizes.values() if size is not None]
    raw = job.prepared is None or not all(_is_prepared(task.scan, job.prepared) for task in todo)
    seconds, here = _seconds(tasks, job, voxels, RAW_SECONDS if raw else PREPARED_SECONDS)
    unusable = [task.scan for task in todo if not sizes[task]]
    return StudyPlan(
        kept=len(tasks) - len(todo),
        scans=tuple(task.scan for task in todo),
        refused=tuple(f"{scan}: cannot be opened. Run `mrharmony check` on it." for scan in unusable),
        sources=dict(Counter(task.source.name if task.source else None for task in todo).most_common()),
        workers=choose_workers([task.scan for task in todo], asked, memory_gib),
        seconds_each=seconds,
        measured_here=here,
        memory_each_gib=memory_need(max(voxels, default=0)),
        disk_gib=sum(voxels) * BYTES_PER_VOXEL[job.extent] / 2**30,
    )


def _seconds(
    tasks: Sequence[ScanTask], job: HarmonizeJob, voxels: Sequence[int], head_seconds: float
) -> tuple[float | None, bool]:
    """Return the seconds of a scan, and whether they come from the records of this folder.

    Without records they are those of a head of `HEAD_MILLIONS`, scaled.
    """
    records = (read_record(task.out_dir, task.name) for task in tasks)
    took = [record.seconds for record in records if record and record.status == "done" and record.seconds]
    if len(took) >= _ENOUGH:
        return statistics.median(took), True
    if job.harmonizer.name != DEFAULT_METHOD or not voxels:
        return None, False
    heads = statistics.mean(voxels) / _MILLION / HEAD_MILLIONS
    return head_seconds * (0.5 + 0.5 * heads), False


def _is_prepared(scan: Path, folder: Path) -> bool:
    return PreparedFiles.of(scan, folder).note.is_file()


def _voxels(scan: Path) -> int | None:
    """Return the number of voxels that a header claims; None where it cannot be read."""
    try:
        return int(math.prod(nib.load(scan).shape[:3]))
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError):
        return None


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(hours * 60, 1):.0f} min"
