"""The log of a run over a data set: command line, settings, and a line for each scan, with times."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from mrharmony.core.atomic import write_bytes
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.version import __version__
from mrharmony.jobs.records import LOGS


def utc_now() -> str:
    """Return the time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def utc_stamp() -> str:
    """Return the time as it stands in file names."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def settings_bytes(settings: Mapping[str, Any]) -> bytes:
    """Return settings as the TOML file that `--config` takes; names of files keep their bytes."""
    return tomli_w.dumps(settings).encode("utf-8", "surrogateescape")


class RunLog:
    """A file of lines, each with its time, that grows as the run goes on.

    Beside it lies a file of the run's settings, which `--config` takes again.
    """

    def __init__(self, out_dir: Path, command: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Begin the log of a command in `OUT/logs`; `MrharmonyError` where it cannot be written."""
        stem = f"run-{utc_stamp()}-{socket.gethostname()}-{os.getpid()}"
        self.path = out_dir / LOGS / f"{stem}.log"
        write_bytes(self.path.with_suffix(".toml"), settings_bytes(settings))
        self.line(f"mrharmony {__version__}: {' '.join(command)}")

    def line(self, text: str) -> None:
        """Add a line."""
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(f"{utc_now()} {text}\n")
        except OSError as failure:
            raise MrharmonyError(
                f"{self.path}: cannot be written ({failure.strerror}). Check free space and permissions."
            ) from failure
