"""A browser that opens pages and listens to their complaints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

CHROMIUM = Path("/usr/bin/chromium")
Browser: TypeAlias = Any  # of playwright, which may be missing
Tab: TypeAlias = Any
Open = Callable[[Path], Tab]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM.is_file():
        pytest.skip(f"needs a browser at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a file in a tab; after the test, it has complained of nothing and asked for nothing."""
    complaints: list[str] = []
    tabs = []

    def opened(file: Path) -> Tab:
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        own = file.as_uri()
        tab.on("request", lambda request: complaints.extend([request.url] if request.url != own else []))
        tab.goto(own)
        tabs.append(tab)
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    # Without a graphics card WebGL tells that reading a canvas is slow.
    ours = [text for text in complaints if not text.startswith("data:") and "GL Driver Message" not in text]
    assert ours == []
