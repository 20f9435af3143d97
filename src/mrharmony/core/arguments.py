"""Arguments of Python calls: each check refuses a common mistake in one sentence that names the argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from mrharmony.core.domain import composed
from mrharmony.core.findings import MrharmonyError

_MOST = 2**63 - 1  # of the seeds that torch takes


def require_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    """Raise `MrharmonyError` where a value is none of a few words."""
    if value not in choices:
        raise MrharmonyError(f"{argument}: {value!r:.60} is no choice; choose one of: {', '.join(choices)}.")


def require_count(argument: str, value: object) -> None:
    """Raise `MrharmonyError` where a value, such as a seed, is no whole number from 0 to 2⁶³ - 1."""
    if not isinstance(value, Integral) or not 0 <= int(value) <= _MOST:
        raise MrharmonyError(
            f"{argument}: {value!r:.60} cannot be taken. Give a whole number, at least 0 and below 2**63."
        )


def require_flag(argument: str, value: object) -> None:
    """Raise `MrharmonyError` where a value is neither True nor False; the text `False` would be true."""
    if not isinstance(value, bool):
        raise MrharmonyError(f"{argument}: {value!r:.60} cannot be taken. Give True or False.")


def require_between(argument: str, value: object, least: float, most: float) -> None:
    """Raise `MrharmonyError` where a value is no number between two others, both included."""
    if not isinstance(value, Real) or not least <= float(value) <= most:
        raise MrharmonyError(
            f"{argument}: {value!r:.60} cannot be taken. Give a number from {least:g} to {most:g}."
        )


def require_names(argument: str, names: Iterable[object]) -> list[str]:
    """Return names of domains as composed text; raises `MrharmonyError` where one is missing or is no name.

    Whole numbers are names too; None, NaN and empty text are what tables have where nothing is known.
    """
    found = []
    for number, name in enumerate(names):
        if not isinstance(name, str | Integral) or not str(name).strip():
            raise MrharmonyError(
                f"{argument}[{number}]: {name!r:.60} names no domain. Give each scan's site, scanner or "
                "protocol as text, and leave out scans of which it is unknown."
            )
        found.append(composed(str(name)))
    return found


def as_list(argument: str, given: Any) -> list[Any]:  # noqa: ANN401 - whatever a caller gives
    """Return an argument of several entries as a list; raises `MrharmonyError` where it is a single one."""
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise MrharmonyError(
            f"{argument}: a single {type(given).__name__} cannot be taken. Give a list with one entry for "
            "each scan."
        )
    return list(given)
