"""Reports: one Markdown file for people, a CSV file of each of its tables, and the raw record apart."""

import argparse
import csv
import io
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import write_json, write_text

_FIGURE = re.compile(r"([-+]?[\d.]+%?)|–|n/a|")


class _Cells(string.Formatter):
    """Formats None as a dash, and an estimate with its interval as `value (low to high)`."""

    def format_field(self, value: object, format_spec: str) -> str:
        if value is None:
            return "–"
        if isinstance(value, Sequence) and not isinstance(value, str):
            estimate, low, high = (format(one, format_spec) for one in value)
            return f"{estimate} ({low} to {high})"
        return str(super().format_field(value, format_spec))


class Report:
    """A report in the making.

    Parameters
    ----------
    title
        Of the report.
    facts
        What a reader has to know first: the command, the heads, the units.
    """

    def __init__(self, title: str, *facts: str) -> None:
        self._parts = [f"# {title}", "\n".join(f"- {fact}" for fact in facts)]
        self._tables: dict[str, list[list[str]]] = {}

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs or headings."""
        self._parts += paragraphs

    def table(self, rows: Iterable[Mapping[str, Any]], columns: str, name: str = "") -> None:
        """Add a table.

        Parameters
        ----------
        rows
            Values by key, a mapping a row.
        columns
            `head: template | head: template`, the templates as of `str.format`.
        name
            Of the CSV file, after the report's own; empty for a report's only or main table.
        """
        cells = _Cells()
        parts = [column.rpartition(": ") for column in columns.split(" | ")]
        filled = [[cells.vformat(template, (), row) for *_, template in parts] for row in rows]
        self._add([[head for head, *_ in parts], *filled], name)

    def markdown_table(self, text: str, name: str = "") -> None:
        """Add a table that is Markdown already."""
        lines = [line.strip().strip("|").split("|") for line in text.strip().splitlines()]
        self._add([[cell.strip() for cell in line] for line in (lines[0], *lines[2:])], name)

    def write(self, stem: Path) -> None:
        """Write `<stem>.md`, and `<stem>.csv` or `<stem>-<name>.csv` for each table."""
        write_text(stem.with_name(f"{stem.name}.md"), str(self))
        for name, rows in self._tables.items():
            content = io.StringIO()
            csv.writer(content, lineterminator="\n").writerows(rows)
            write_text(stem.with_name(f"{stem.name}{name and '-'}{name}.csv"), content.getvalue())

    def __str__(self) -> str:
        return "\n\n".join(part for part in self._parts if part) + "\n"

    def _add(self, rows: list[list[str]], name: str) -> None:
        if name in self._tables:
            raise ValueError(f"the report has a table {name!r} already; give this one another name")
        self._tables[name] = rows
        head, *body = rows
        are_figures = [all(_FIGURE.fullmatch(row[place]) for row in body) for place in range(len(head))]
        rule = ["---:" if is_figure else "---" for is_figure in are_figures]
        self._parts.append("\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body)))


def save(asked: argparse.Namespace, report: Report, record: dict[str, Any], variant: str = "") -> None:
    """Write a script's report to its output, and the raw record to its work folder.

    Parameters
    ----------
    asked
        As `command.start` returns it.
    report, record
        What is shown, and all figures.
    variant
        Which of several tables of the same script this is.
    """
    stem = asked.stem.with_name(f"{asked.stem.name}{variant and '-'}{variant}")
    write_json(asked.work / f"{stem.name}.json", record)
    report.write(stem)
