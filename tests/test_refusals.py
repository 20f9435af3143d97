"""What it refuses, and how it says so: the page of the documentation is what the program says.

`MRHARMONY_WRITE_REFUSALS=1 pytest tests/test_refusals.py` writes the page anew.
"""

import os
from pathlib import Path

import pytest

from helpers.commands import Run, sentences
from helpers.refusals import CASES

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "refusals.md"
HEAD = """# What it refuses, and how it says so

Every refusal is one sentence that names the file, the fault and the remedy. The exit status is 3 where some
scans were refused and the others are done, and 2 where nothing was begun. Nothing is lost or half-written.
The tests make this table: each line is a file that they write, and what the program then says.

| what is wrong | what is said | status |
|---|---|---|
"""


def said(run: Run, folder: Path, kind: str) -> tuple[str, int]:
    """Return what the program says of a case, and its exit status."""
    status, output, errors = run(*CASES[kind](folder))
    lines = [line for line in sentences(errors) if line[-8:] != "refused." and not line.startswith("1 ")]
    assert len(lines) == 1, (lines, output)
    return lines[0].replace(f"{folder}/", "").replace("|", "\\|"), status


@pytest.mark.parametrize("kind", CASES)
def test_the_page_says_what_the_program_says(kind: str, run: Run, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentence, status = said(run, tmp_path, kind)
    assert status in (2, 3)
    assert "Traceback" not in sentence
    assert "unexpected" not in sentence
    line = f"| {kind} | {sentence} | {status} |\n"
    if os.environ.get("MRHARMONY_WRITE_REFUSALS"):
        begun = kind != next(iter(CASES))
        text = PAGE.read_text("utf-8") if begun else HEAD
        PAGE.write_text(text + line, "utf-8")
    assert line in PAGE.read_text("utf-8")


def test_the_page_has_no_line_of_a_case_that_is_gone():
    assert PAGE.read_text("utf-8").count("\n| ") == len(CASES) + 1
