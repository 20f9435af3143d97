"""What a worker process does first; quick to import, so that it sees the end of its parent soon."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from threading import Thread

from mrharmony.core.temporaries import discard_own

_LOOK_EVERY = 0.3  # s, between two looks of a worker whether its parent is there


def begin_worker(parent: int | None = None, threads: int = 1) -> None:
    """Watch from now on whether the parent is there, and keep this process to some threads.

    `parent` is the parent's process id, None where `multiprocessing` can wait for its end.
    """
    if hasattr(signal, "pthread_sigmask"):  # blocked by `end_in_order`; a pool ends its workers with it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    limit_threads(threads)


def limit_threads(count: int = 1) -> None:
    """Keep this process to a thread or a few: two scans side by side are faster than one on two."""
    import torch  # noqa: PLC0415 - takes seconds, in which a worker already watches its parent
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(count)
    torch.set_num_threads(count)
    threadpool_limits(count)


def _end_with_parent(parent: int | None) -> None:
    """End this process with its parent."""
    if parent is None:
        started_by = multiprocessing.parent_process()
        assert started_by is not None
        started_by.join()
    while os.getppid() == parent:  # loky's workers cannot wait for theirs
        time.sleep(_LOOK_EVERY)
    discard_own()
    os._exit(1)  # from a thread, nothing else ends the process; files are written whole or not at all
