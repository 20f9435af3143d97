"""What a command says beside its progress, which slow machines show line by line."""

import re

_PROGRESS = re.compile(r".+: \d+ of \d+")


def sentences(errors: str) -> list[str]:
    """Return the lines of standard error that are no progress."""
    return [line for line in errors.splitlines() if line.strip() and not _PROGRESS.fullmatch(line.strip())]
