"""Paths that a caller gives, as they enter the interface."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TypeGuard

from mrharmony.core.findings import MrharmonyError

GivenPath = str | os.PathLike[str]


def is_path(given: object) -> TypeGuard[GivenPath]:
    """Whether a value is text or a path; bytes are neither."""
    return isinstance(given, str | os.PathLike) and isinstance(os.fspath(given), str)


def at_home(path: Path) -> Path:
    """Return a path with the home folder in place of a leading `~`."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


def as_path(given: object, argument: str) -> Path:
    """Return the path of a file or folder that may be missing; `~` is the home folder, as for nibabel.

    Raises `MrharmonyError` with the argument's name for what is no path, or can be the name of nothing: a
    null byte or half of a character is in it, or it is too long.
    """
    if not is_path(given):
        raise MrharmonyError(
            f"{argument}: a value of type {type(given).__name__} is no path. Give text or a pathlib.Path."
        )
    path = at_home(Path(given))
    try:
        os.lstat(path)
    except ValueError as failure:
        raise MrharmonyError(
            f"{argument}: {os.fspath(path)!r:.60} has a character that no file name can have. Choose another."
        ) from failure
    except OSError as failure:
        if failure.errno == errno.ENAMETOOLONG:
            raise MrharmonyError(
                f"{argument}: {os.fspath(path)!r:.60}… is too long for a file name. Choose a shorter one."
            ) from failure
    return path
