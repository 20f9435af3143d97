"""A part of many things that stands for all of them, the same whoever chooses it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

ENOUGH = 300  # scans, for a site effect: thousands do not show it better
Named = tuple[str, str]  # group and name of a thing


def some_of_each(things: Sequence[Named], most: int) -> list[int]:
    """Return the numbers of about `most` things, as many of each group, or of all if there are no more.

    Those of a group whose names have the smallest hashes are taken. So the choice is as good as random, and
    where a few are missing, nearly all others stay chosen.
    """
    if len(things) <= most:
        return list(range(len(things)))
    groups: dict[str, list[int]] = {}
    for number, (group, _) in enumerate(things):
        groups.setdefault(group, []).append(number)
    share = max(most // len(groups), 1)
    return sorted(n for numbers in groups.values() for n in _by_hash(numbers, things)[:share])


def _by_hash(numbers: Iterable[int], things: Sequence[Named]) -> list[int]:
    return sorted(
        numbers,
        key=lambda n: hashlib.sha256(things[n][1].encode("utf-8", "surrogateescape")).digest(),
    )
