"""Words that several sentences share."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED_AT_MOST = 5


def count_of(number: int, thing: str) -> str:
    """Return a number with its noun, such as `1 scan` and `2 scans`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def count_is(number: int, thing: str) -> str:
    """Return a number with its noun and verb, such as `1 scan is` and `2 scans are`."""
    return f"{count_of(number, thing)} {'is' if number == 1 else 'are'}"


def some_of(names: Sequence[object]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    named = ", ".join(map(str, names[:_NAMED_AT_MOST]))
    return f"{named} and {more} more" if more > 0 else named
