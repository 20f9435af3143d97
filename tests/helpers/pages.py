"""Whether a page is sound HTML that everybody can use."""

from html.parser import HTMLParser
from typing import Any, TypeAlias

import pytest

Tab: TypeAlias = Any  # of playwright, which may be missing


def assert_balanced(page: str) -> None:
    """Fail unless every tag that is opened is closed, in order."""
    tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("img", "input", "meta"):
                tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert tags.pop() == tag

    Balance().feed(page)
    assert not tags


def assert_accessible(tab: Tab) -> None:
    """Fail where axe-core finds a violation of WCAG 2.1, levels A and AA, in the page of a tab."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert found.violations_count == 0, found.generate_report()
