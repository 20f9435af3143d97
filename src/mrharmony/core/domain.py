"""Domains: the sites, scanners and protocols that a scan can come from or go to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from mrharmony.core.findings import MrharmonyError

_CONTROLS = frozenset({"Cc", "Cf"})
# Letters and marks that Unicode lets nobody see: fillers, joiners of marks, and selectors of variants.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True)
class Domain:
    """A site, scanner or protocol: the name users type and the prompt the model understands.

    `protocol` is a `simulate.protocol.Protocol` where that is all there is: the model has no scans of it.
    """

    name: str
    prompt: str
    protocol: object | None = None


def composed(name: str) -> str:
    """Return a name in the one spelling that names of domains and of columns are kept in, Unicode's NFC.

    `ü` may also be `u` and two dots, as some programs write it: nobody sees a difference. Names are composed
    where they enter, in tables and arguments; what an option names, `find_name` finds. Models keep
    the spelling that they were written with, since their files refer to each other by it.
    """
    return unicodedata.normalize("NFC", name)


def same_name(one: str, other: str) -> bool:
    """Say whether two names mean the same domain.

    Case, width, punctuation, symbols, spaces and what nobody sees make no difference; letters, digits and the
    marks on them do. So `1.1` means `11`, and `A+` means `A-`: folders of sessions (`ses-11`) and names of
    results (`desc-harmonizedToA`) have letters and digits only, and two such domains would be one there.
    Names that have none are told apart by pictures in them.
    """
    return _telling(one) == _telling(other)


def find_name(names: Iterable[str], wanted: str) -> str | None:
    """Return the one of several domains that a name means: the one spelled so, else one that means the same.

    None where there is none. Raises `MrharmonyError` where several mean the same, and none is spelled so.
    """
    known = dict.fromkeys(names)
    alike = [name for name in known if composed(name) == composed(wanted)]
    alike = alike or [name for name in known if same_name(name, wanted)]
    if len(alike) > 1:
        raise MrharmonyError(f"{wanted}: may mean {' or '.join(alike)}. Write one of these.")
    return alike[0] if alike else None


def _telling(name: str) -> str:
    """Return what tells a name from others."""
    seen = "".join(c for c in name if unicodedata.category(c) not in _CONTROLS and not _UNSEEN.match(c))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    folded = folded.replace("i\u0307", "i")  # what case folding makes of the capital letter of İzmir
    letters, on_letter = "", False
    for character in folded:
        if not unicodedata.category(character).startswith("M"):  # a mark, such as a vowel of Devanagari
            on_letter = character.isalnum()
        letters += character if on_letter else ""
    return letters or "".join(character for character in folded if unicodedata.category(character) == "So")


def require_distinct(names: Iterable[str]) -> None:
    """Raise `MrharmonyError` where two domains have names that mean the same."""
    for one, other in combinations(names, 2):
        if same_name(one, other):
            raise MrharmonyError(
                f"{other}: cannot be told from {one}. "
                "Leave one out, or call one otherwise; if a table names them, in a copy of it."
            )
