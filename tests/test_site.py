"""The documentation site is built without a warning or a network; the lesson's cells run and show themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mrharmony.core.version import __version__

pytest.importorskip("myst_nb", reason="needs the extra docs")

ROOT = Path(__file__).parents[1]
LOADED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^"']*""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-c", ROOT / "docs"]
    done = subprocess.run(
        [*command, "-b", "html", "-d", folder / "doctrees", ROOT, folder / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"
