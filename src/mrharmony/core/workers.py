"""Worker processes: one thread each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import TypeVar

from mrharmony.core.ending import block_again
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.temporaries import count_as_own
from mrharmony.core.worker_process import begin_worker

Job = TypeVar("Job")
Result = TypeVar("Result")

_WARNINGS = "PYTHONWARNINGS"
_LONGEST_SOCKET = 104  # bytes of a socket's path; 108 on Linux


class WorkerEnded(MrharmonyError):
    """A worker process that was ended from outside."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process was ended from outside, usually for lack of memory: run again with fewer "
            "workers, or with fewer programs beside it."
        )


def usable_cores() -> int:
    """Return how many cores this process may use: on a shared machine, fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_pool(
    count: int, preloaded: Sequence[str] = (), tasks_each: int | None = None
) -> ProcessPoolExecutor:
    """Return workers of one thread each, which end when this process does, even if it is killed.

    Parameters
    ----------
    count
        How many run side by side.
    preloaded
        Modules to import once, in a process that all workers are forked from; without any, or where the
        path of the folder for temporary files is too long for that, each worker imports what it needs itself.
    tasks_each
        Number of tasks after which a worker is replaced by a fresh one; never by default.
    """
    _start_trackers()
    forks = bool(preloaded) and _holds_a_socket(_temporary_folder())
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(list(preloaded))
    return ProcessPoolExecutor(count, context, begin_worker, max_tasks_per_child=tasks_each)


def side_by_side(
    work: Callable[[Job], Result], jobs: Sequence[Job], count: int, threads: int = 1
) -> Iterator[Result]:
    """Yield the result of each job, in order; when one fails, those that have not begun are left alone.

    Parameters
    ----------
    work
        Does one job, in a process of some threads if `count` is more than 1, else in this process.
    jobs, count, threads
        The jobs, how many run at a time, and the threads of each.

    Raises `WorkerEnded`, a `MrharmonyError`, where a process is ended from outside.
    """
    from joblib import Parallel, delayed  # noqa: PLC0415 - takes time that a single scan has no use for

    if count > 1:
        _start_trackers()
    # The jobs hold paths or whole brains: batches and memory maps of joblib would bring nothing.
    pool = Parallel(
        max(count, 1),
        backend="loky",
        return_as="generator",
        batch_size=1,
        max_nbytes=None,
        idle_worker_timeout=10,
        initializer=begin_worker,
        initargs=(os.getpid(), threads),
    )
    try:
        yield from pool(delayed(work)(job) for job in jobs)
    except BrokenProcessPool as failure:
        raise WorkerEnded from failure


def alone(work: Callable[[Job], Result], job: Job) -> Result:
    """Return the result of one job, done in a process of its own; raises `WorkerEnded` as `side_by_side`."""
    try:
        with worker_pool(1) as pool:
            return pool.submit(work, job).result()
    except BrokenProcessPool as failure:
        raise WorkerEnded from failure


def _temporary_folder() -> Path:
    """Return the folder of multiprocessing's temporary files, which from now on goes with this process."""
    folder = Path(get_temp_dir())
    count_as_own(folder)
    return folder


def _holds_a_socket(folder: Path) -> bool:
    """Say whether the socket by which workers are asked for may have its path in a folder."""
    return len(os.fsencode(folder)) + len("/listener-12345678") < _LONGEST_SOCKET


def _start_trackers() -> None:
    """Start the processes that watch shared resources, which lets signals through, and block these again.

    Workers that are started afterwards have them blocked, and are not interrupted beside this process.
    """
    from joblib.externals.loky.backend import resource_tracker as loky_tracker  # noqa: PLC0415

    before = os.environ.get(_WARNINGS)
    os.environ[_WARNINGS] = "ignore"  # of the trackers, which tell what they tidy up when we end in order
    try:
        resource_tracker.ensure_running()
        loky_tracker.ensure_running()
    finally:
        del os.environ[_WARNINGS]
        if before is not None:
            os.environ[_WARNINGS] = before
    block_again()
