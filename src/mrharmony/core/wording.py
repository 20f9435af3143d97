"""Words that several sentences share."""

from __future__ import annotations


def count_of(number: int, thing: str) -> str:
    """Return a number with its noun, such as `1 scan` and `2 scans`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
