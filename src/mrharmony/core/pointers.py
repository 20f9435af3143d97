"""Files whose content is elsewhere: pointers of git-annex and Git LFS, and links, also to nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

FETCH = "Fetch the content first (`datalad get` or `git lfs pull`)."
_POINTER = re.compile(rb"version https://git-lfs|(/|(\.\.[/\\])*\.git[/\\])annex[/\\]")
_POINTER_BYTES = 64


def is_pointer(start: bytes) -> bool:
    """Whether a file that starts so is a git-annex or Git LFS pointer instead of its content."""
    return _POINTER.match(start) is not None


def real_path(path: Path) -> Path:
    """Return where a path leads, as `Path.resolve` does, but where a link leads to itself, the link."""
    return Path(os.path.realpath(path))


def link_to_itself(path: Path) -> Path | None:
    """Return the link that leads to itself, the path or one above it, for which the path is nowhere."""
    return next((part for part in (*reversed(path.parents), path) if real_path(part).is_symlink()), None)


def content_missing(path: Path) -> bool:
    """Whether a git-annex or Git LFS pointer, or a link to nothing, is all that is here of a file."""
    try:
        if not path.is_file():  # a pipe would never end
            return path.is_symlink() and not path.exists()
        with path.open("rb") as stream:
            return is_pointer(stream.read(_POINTER_BYTES))
    except (OSError, ValueError):  # a name that no file can have
        return False
