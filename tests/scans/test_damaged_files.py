"""Damaged input is refused in one sentence, or used as it promises; the whole campaign is a benchmark."""

import sys
import time
from pathlib import Path

import pytest
from benchmarks.robustness import fuzz
from benchmarks.robustness._mutations import Kind
from benchmarks.robustness.fuzz import campaign

from mrharmony.core.findings import MrharmonyError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits the memory of a process so"
)
CASES = 15


@pytest.mark.parametrize("kind", fuzz.KINDS, ids=lambda kind: kind.name)
def test_nothing_escapes(kind: Kind):
    campaign(kind, cases=1, seed=0)  # what is imported once is no time of a case
    counts, escapes = campaign(kind, CASES, seed=1)
    assert escapes == []
    assert counts["refused"] + counts["accepted"] == CASES


def _refuse_in_a_page(_: Path) -> None:
    raise MrharmonyError("one and another, " * 50)


@pytest.mark.parametrize(
    "opened",
    [lambda _: 1 / 0, _refuse_in_a_page, lambda _: bytes(2**31), lambda _: time.sleep(60)],
    ids=["fault", "page", "memory", "time"],
)
def test_what_is_no_refusal_is_an_escape(opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.05)
    counts, escapes = campaign(Kind("kind", lambda _, folder: folder, opened), cases=1, seed=0)
    assert counts["escaped"] == len(escapes) == 1
