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


def test_no_page_needs_anything_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert {str(page): found for page in pages if (found := ELSEWHERE.findall(page.read_text("utf-8")))} == {}


def test_the_lesson_shows_what_its_cells_give_and_nothing_of_the_machine(site: Path):
    page = (site / "docs" / "tutorials" / "notebook.html").read_text("utf-8")
    assert "unknown source to mprage-3t, pass" in page
    assert re.search(r"mrharmony, domain</p></td>\s*<td[^>]*><p>0\.\d{3}<", page)
    outputs = page.split("<article")[1].split("</article>")[0]
    pictures = re.findall(r"<img\b[^>]*>", outputs)
    assert len(pictures) == 4
    assert all(re.search(r"\balt=[\"'][^\"']{40}", picture) for picture in pictures)
    downloads = [path.read_text("utf-8") for path in site.rglob("*.ipynb")]
    assert len(downloads) == 1
    for text in (page, *downloads):
        assert not [place for place in (str(ROOT), "site-packages", str(site)) if place in text]
