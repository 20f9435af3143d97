"""The street of rooms: no import goes up, not even inside a function; every room has its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINTER = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(configuration: Path) -> subprocess.CompletedProcess[str]:
    code = LINTER.replace("no_cache=True", f"no_cache=True, config_filename={str(configuration)!r}")
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_room_imports_from_a_room_above_it():
    done = lint(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout


def test_an_import_that_goes_up_would_be_found(tmp_path):
    overturned = tmp_path / ".importlinter.toml"
    text = (ROOT / "pyproject.toml").read_text("utf-8").partition("[tool.importlinter]")[2]
    rooms = ('    "jobs",\n    "report",\n', '    "report",\n    "jobs",\n')
    assert rooms[0] in text
    overturned.write_text("[tool.importlinter]" + text.replace(*rooms), "utf-8")
    done = lint(overturned)
    assert done.returncode == 1 and "mrharmony.jobs" in done.stdout
