"""Temporary files and folders: whose they are, and how those of a killed process are cleared."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DAY = 86_400.0  # s


def _place() -> str:
    """Return where a process number means this process: its machine, and its container there, if any."""
    container = ""
    with suppress(OSError):
        container = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it names no path
    return re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:32] + "".join(filter(str.isdigit, container))


_PLACE = _place() or "host"
_NAME = re.compile(r"\.mrharmony-(?P<place>[A-Za-z0-9]+)-(?P<process>\d+)-[0-9a-f]{16}\.tmp")
_own: set[Path] = set()
_cleared: set[tuple[int, Path]] = set()  # process and folder; a fork has its own


def new_temporary(folder: Path) -> Path:
    """Return the path of a temporary file or folder to be, named after this process and where it runs.

    What killed processes have left in the folder is cleared when it is first used.
    """
    if (os.getpid(), folder) not in _cleared:
        _cleared.add((os.getpid(), folder))
        clear_left(folder)
    path = folder / f".mrharmony-{_PLACE}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    _own.add(path)
    return path


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in the system's place for temporary files, for this user alone; remove it at the end.

    It also goes where the process is told to end, and what killed processes have left there is cleared.
    """
    folder = new_temporary(Path(tempfile.gettempdir()))
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        discard(folder)


def count_as_own(folder: Path) -> None:
    """Remove a temporary folder that a library has made too, where the process is told to end."""
    _own.add(folder)


def discard(path: Path) -> None:
    """Remove a temporary file or folder if it is there; a system that refuses has refused to write it too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    _own.discard(path)


def discard_own() -> None:
    """Remove all that this process has not finished, as it ends."""
    for path in tuple(_own):
        with suppress(OSError):
            discard(path)


def clear_left(folder: Path) -> None:
    """Remove what ended processes have left in a folder; that of running ones stays.

    A process of another machine or container cannot be asked: what it left goes after a day.
    """
    with suppress(OSError):
        for path in folder.glob(".mrharmony-*.tmp"):
            if _is_left(path):
                discard(path)


def _is_left(path: Path) -> bool:
    named = _NAME.fullmatch(path.name)
    if named is None:
        return False
    if named["place"] == _PLACE:
        return not _runs(int(named["process"]))
    return time.time() - path.stat().st_mtime > _DAY


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True
