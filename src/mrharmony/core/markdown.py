"""Markdown with names in it that others chose: they are shown as they are, and no table breaks on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from mrharmony.core.findings import on_one_line

# An underscore inside a word marks nothing, and `&` only begins an entity such as `&lt;`.
_MARKS = re.compile(r"[\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it letter by letter, on one line."""
    return _MARKS.sub(lambda mark: f"\\{mark[0]}", on_one_line(text))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], figures: Collection[int] = ()) -> str:
    """Return a table in Markdown, with a line break at its end; cells are shown letter by letter.

    `figures` are the numbers of the columns, from 0, that are aligned to the right.
    """
    rule = ["---:" if number in figures else "---" for number in range(len(head))]
    lines = [[escaped(cell) for cell in head], rule, *([escaped(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
