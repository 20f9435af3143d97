"""What is printed with rich: names of files and sites are no markup, and nothing of them is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

import mrharmony
from mrharmony.benchmark.table import terminal_table
from mrharmony.cli.scans import report_outcomes
from mrharmony.core.progress import track
from mrharmony.core.terminal import terminal
from mrharmony.jobs.harmonizing import Outcome

NAMES = ("b[/x]y", "a[old]", "site:brain:")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_look_like_markup_are_printed_as_they_are(name: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(typer.Exit):
        report_outcomes([Outcome(Path("scan"), Path(name), "pass", None, ())], as_json=False)
    terminal().print(terminal_table([{"method": name}]))
    assert capsys.readouterr().out.count(name) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_on_a_terminal_shows_such_a_name(name: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(track([1, 2], name)) == [1, 2]
    assert name in capsys.readouterr().err


def test_there_is_one_way_to_print():
    folder = Path(mrharmony.__file__).parent
    makers = [file.name for file in folder.rglob("*.py") if "Console(" in file.read_text("utf-8")]
    assert makers == ["terminal.py"]
