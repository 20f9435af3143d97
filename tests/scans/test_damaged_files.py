"""Damaged files are refused in one sentence, or read as they promise; the whole campaign is a benchmark."""

import sys

import pytest
from benchmarks.robustness._mutations import images
from benchmarks.robustness.fuzz import campaign


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process so")
@pytest.mark.parametrize("kind", images.KINDS, ids=lambda kind: kind.name)
def test_nothing_escapes(kind):
    campaign(kind, cases=1, seed=0)  # what is imported once is no time of a case
    counts, escapes = campaign(kind, cases=22, seed=1)
    assert escapes == []
    assert counts["refused"] > 0
