"""The hash by which files are recognised."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mrharmony.core.findings import MrharmonyError


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal; `MrharmonyError` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as failure:
        raise MrharmonyError(f"{path}: cannot be read ({failure.strerror}). Check the path.") from failure
