"""Sentences stay on one line, whatever the names and values of files hold."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.findings import MrharmonyError, ScanRefused, error


@given(st.text())
def test_a_sentence_is_one_line_and_nothing_of_it_is_lost(text: str):
    sentence = str(MrharmonyError(f"{text}: is damaged."))
    assert len(sentence.splitlines()) == 1
    assert text.isprintable() <= (sentence == f"{text}: is damaged.")
    assert str(MrharmonyError(sentence)) == sentence


def test_so_is_the_reason_of_a_refused_scan():
    refused = ScanRefused("a\nb.nii", (error("a-code", "The version is 'a\r\nb'.", "Look at it."),))
    assert str(refused) == r"a\nb.nii: The version is 'a\r\nb'. Look at it."


def test_a_sentence_comes_whole_from_another_process():
    assert str(pickle.loads(pickle.dumps(MrharmonyError("a\tb")))) == r"a\tb"  # noqa: S301 - our own
    refused = ScanRefused("a.nii", (error("a-code", "It is damaged.", "Copy it again."),))
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301 - our own
    assert (str(again), again.path, again.findings) == (str(refused), refused.path, refused.findings)
