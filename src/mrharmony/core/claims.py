"""Claims on pieces of work in a folder that several processes or machines share.

A claim is a POSIX record lock on one byte of one file: the system gives it up when the process ends, however
it ends, so that nothing stale is left behind. Network file systems keep such locks between machines.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrharmony.core.findings import MrharmonyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)
_NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_opened: dict[tuple[int, Path], int] = {}  # by process: closing a file would give up all its claims


@contextmanager
def claimed(file: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Claim the work called `name` as long as the context lasts; yields whether it was free.

    Parameters
    ----------
    file
        The file of the locks, in an existing folder; made where missing, and always empty.
    name
        Of the piece of work.
    wait
        Wait until it is free.

    Where the file system has no locks a sentence says so once, and every claim is granted. Raises
    `MrharmonyError` where the file cannot be opened.
    """
    number = _descriptor(file)
    if number is None:
        yield True
        return
    place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7])
    try:
        fcntl.lockf(number, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError as failure:
        if failure.errno in _HELD_BY_ANOTHER:
            yield False
            return
        if failure.errno not in _NOT_SUPPORTED:
            raise MrharmonyError(
                f"{file}: cannot be locked ({failure.strerror}). Check the disk."
            ) from failure
        _say_that_locks_are_missing(file)
        yield True
        return
    try:
        yield True
    finally:
        fcntl.lockf(number, fcntl.LOCK_UN, 1, place)


def _descriptor(file: Path) -> int | None:
    if fcntl is None:
        return None
    key = (os.getpid(), file)
    if key not in _opened:
        try:
            _opened[key] = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as failure:
            raise MrharmonyError(
                f"{file}: cannot be opened ({failure.strerror}). Check free space and permissions there."
            ) from failure
    return _opened[key]


def _say_that_locks_are_missing(file: Path) -> None:
    key = (os.getpid(), file)
    if _opened.get(key) is not None:
        os.close(_opened.pop(key))
    print(
        f"{file.parent}: this file system has no locks. Let one process at a time work here.", file=sys.stderr
    )
