"""Worker processes: one thread each, and none outlives the process that started it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from mrharmony.core.findings import MrharmonyError

Job = TypeVar("Job")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return how many cores this process may use: on a shared machine, fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> None:
    """Keep this process to one thread: two scans side by side are faster than one scan on two threads."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    torch.set_num_threads(1)
    threadpool_limits(1)


def worker_pool(
    count: int, preloaded: Sequence[str] = (), tasks_each: int | None = None
) -> ProcessPoolExecutor:
    """Return workers of one thread each, which end when this process does, even if it is killed.

    Parameters
    ----------
    count
        How many run side by side.
    preloaded
        Modules to import once, in a process that all workers are forked from; without any, each worker
        imports what it needs itself.
    tasks_each
        Number of tasks after which a worker is replaced by a fresh one; never by default.
    """
    context = multiprocessing.get_context("forkserver" if preloaded else "spawn")
    if preloaded:
        context.set_forkserver_preload(list(preloaded))
    return ProcessPoolExecutor(count, context, _begin, max_tasks_per_child=tasks_each)


def side_by_side(work: Callable[[Job], Result], jobs: Sequence[Job], count: int) -> Iterator[Result]:
    """Yield the result of each job as it is done; when one fails, those that have not begun are cancelled.

    Parameters
    ----------
    work
        Does one job, in another process if `count` is more than 1; picklable, like the jobs.
    jobs
        The jobs.
    count
        How many run at a time.

    Raises
    ------
    MrharmonyError
        A process was ended from outside.
    """
    if count <= 1:
        yield from map(work, jobs)
        return
    pool = worker_pool(count)
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as failure:
        raise MrharmonyError(
            "a worker process was ended from outside, usually for lack of memory: run again with fewer "
            "workers, or with fewer programs beside it; finished work is kept."
        ) from failure
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    one_thread()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)  # from a thread, nothing else ends the process; files are written whole or not at all
