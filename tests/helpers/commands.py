"""The command line in the tests' own process, and what it says beside its progress."""

from __future__ import annotations

import re
from typing import Protocol

_PROGRESS = re.compile(r".+: \d+ of \d+")


class Run(Protocol):
    """Run the command line; returns exit status, standard output and standard error."""

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Give the arguments that follow `mrharmony`."""
        ...


def sentences(errors: str) -> list[str]:
    """Return the lines of standard error that are no progress, which slow machines show line by line."""
    return [line for line in errors.splitlines() if line.strip() and not _PROGRESS.fullmatch(line.strip())]
