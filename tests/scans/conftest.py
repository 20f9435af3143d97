"""Small scans, sound and malformed, made by the tests themselves."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from helpers.scan_maker import ScanMaker
from mrharmony.core.findings import Finding


@pytest.fixture
def make(tmp_path: Path) -> ScanMaker:
    """Write scans into the test's own folder."""
    return ScanMaker(tmp_path)


@pytest.fixture(scope="session")
def make_shared(tmp_path_factory: pytest.TempPathFactory) -> ScanMaker:
    """The same for hypothesis, whose examples share one folder."""
    return ScanMaker(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def levels() -> Callable[[Iterable[Finding]], dict[str, str]]:
    """Return a function: the level of every finding by its code."""

    def by_code(findings: Iterable[Finding]) -> dict[str, str]:
        return {finding.code: finding.level for finding in findings}

    return by_code
