"""What a run takes: seconds on the clock, and seconds of processor over all processes."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class Clock:
    """Counts from when it is made.

    Own processor time and that of ended child processes it finds itself. What workers took that are another
    process's children is added as they report it (`processor_seconds`).
    """

    def __init__(self) -> None:
        self._wall, self._processor, self._reported = time.perf_counter(), _own_seconds(), 0.0

    def add(self, seconds: float) -> None:
        """Count processor time that a worker reports."""
        self._reported += seconds

    def read(self) -> dict[str, float]:
        """Return `wall` and `processor` seconds."""
        processor = _own_seconds() - self._processor + self._reported
        return {"wall": time.perf_counter() - self._wall, "processor": processor}


def processor_seconds(
    task: Callable[Arguments, object], *arguments: Arguments.args, **named: Arguments.kwargs
) -> float:
    """Do a task and return the processor seconds that it took in this process."""
    start = time.process_time()
    task(*arguments, **named)
    return time.process_time() - start


def _own_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
