"""Whether a page is sound HTML."""

from html.parser import HTMLParser


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
