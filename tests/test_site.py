"""The documentation site is built without a warning; the cells of its lesson run and are shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("myst_nb", reason="needs the extra docs")

ROOT = Path(__file__).parents[1]
ELSEWHERE = re.compile(r"""\b(?:src|href)=["'](?:https?:)?//[^"']*""")


def test_the_site_is_built_offline_and_without_a_warning_and_shows_what_the_lesson_gives(tmp_path: Path):
    """One test, because the site takes most of a minute: parallel workers would each build it."""
    site = build_site(tmp_path)
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 40
    assert {str(path): found for path, page in pages.items() if (found := ELSEWHERE.findall(page))} == {}
    lesson = pages[site / "docs" / "tutorials" / "notebook.html"]
    assert_outputs_are_shown(lesson)
    downloads = [path.read_text("utf-8") for path in site.rglob("*.ipynb")]
    assert len(downloads) == 1
    for text in (lesson, *downloads):
        assert not [place for place in (str(ROOT), "site-packages", str(tmp_path)) if place in text]


def build_site(folder: Path) -> Path:
    """Run what `make docs` runs."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-T", "-W", "--keep-going", "-c", ROOT / "docs"]
    places = ["-b", "html", "-d", folder / "doctrees", ROOT, folder / "html"]
    done = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def assert_outputs_are_shown(lesson: str) -> None:
    """Fail unless a page has the verdict, the table and all pictures, each described in words."""
    assert "unknown source to mprage-3t, pass" in lesson
    assert re.search(r"mrharmony, domain</p></td>\s*<td[^>]*><p>0\.\d{3}<", lesson)
    article = re.findall(r"<article.*?</article>", lesson, re.DOTALL)
    pictures = re.findall(r"<img\b[^>]*>", article[0])
    assert len(pictures) == 4
    assert all(re.search(r"\balt=[\"'][^\"']{40}", picture) for picture in pictures)
