"""Records of finished parts, so that a script goes on where it was, and runs in processes of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import write_json


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the record in a file; `make` makes it first where the file is missing."""
    if not file.is_file():
        write_json(file, make())
    record: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return record


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock and of all its threads, and its greatest memory, GiB."""

    seconds: float
    processor: float
    gib: float


def run_mrharmony(*words: object) -> Cost:
    """Run a command of mrharmony in a process of its own.

    Raises
    ------
    SystemExit
        The command failed.
    """
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mrharmony", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def run_alone(*words: object) -> dict[str, Any]:
    """Run the running script with other arguments in a process of its own; return the JSON that it prints."""
    module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
