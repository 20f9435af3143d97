"""Domains: the sites, scanners and protocols that a scan can come from or go to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from mrharmony.core.findings import MrharmonyError


@dataclass(frozen=True)
class Domain:
    """A site, scanner or protocol: the name users type and the prompt the model understands.

    `protocol` is a `simulate.protocol.Protocol` where that is all there is: the model has no scans of it.
    """

    name: str
    prompt: str
    protocol: object | None = None


def composed(name: str) -> str:
    """Return a name in the one spelling that names of domains are kept in, Unicode's NFC.

    `ü` may also be `u` and two dots, as some programs write it: nobody sees a difference. Names are composed
    where they enter, in tables, options and arguments. Models keep the spelling that they were written with,
    since their files refer to each other by it; `ModelCard.find` knows their names in either.
    """
    return unicodedata.normalize("NFC", name)


def same_name(one: str, other: str) -> bool:
    """Say whether two names mean the same domain: case, hyphens, dots and spaces make no difference."""
    return _letters(one) == _letters(other)


def _letters(name: str) -> str:
    return "".join(character for character in composed(name).lower() if character.isalnum())


def require_distinct(names: Iterable[str]) -> None:
    """Raise `MrharmonyError` where two domains have names that mean the same."""
    for one, other in combinations(names, 2):
        if same_name(one, other):
            raise MrharmonyError(
                f"{other}: cannot be told from {one}. "
                "Leave one out, or call one otherwise; if a table names them, in a copy of it."
            )
