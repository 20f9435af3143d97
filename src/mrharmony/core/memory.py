"""How much memory there is for this process, and how much it has taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

GIB = 2**30
_LIMITS = (  # of a control group: version 2, and version 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def usable_memory() -> float:
    """Return the memory that is free for this process and its workers, GiB; a container's limit counts."""
    limits = [psutil.virtual_memory().available]
    for file in _LIMITS:
        with suppress(OSError, ValueError):  # `max` stands for no limit
            limits.append(int(file.read_text()))
    return float(min(limits) / GIB)


def forget_peak() -> None:
    """Let `peak_memory` count from now on, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Return the most memory that this process has held, GiB; what it holds now where no peak is known."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / GIB
    return float(psutil.Process().memory_info().rss / GIB)
