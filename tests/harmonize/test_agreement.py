"""How far an expected contrast leans on the curve between two domains."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mrharmony.methods.agreement import leaning

CONTRASTS = arrays(np.float32, 30, elements=st.floats(0, 1.5, width=32))


@given(CONTRASTS, CONTRASTS, CONTRASTS, CONTRASTS)
def test_it_goes_at_most_half_of_the_way_and_never_away(expected, by_curve, own, in_source):
    moved, way = leaning(expected, by_curve, own, in_source) - expected, by_curve - expected
    assert np.all(np.abs(moved) <= np.abs(way) / 2 + 1e-6)
    assert np.all(moved * way >= 0)


def test_what_is_read_without_error_stays():
    expected, own = np.linspace(0, 1, 30, dtype=np.float32), np.linspace(0.2, 0.9, 30, dtype=np.float32)
    assert np.array_equal(leaning(expected, expected + 0.1, own, own), expected)


@pytest.mark.parametrize(
    ("misread", "apart", "share"), [(0.01, 0.1, 0.005), (0.03, 0.06, 0.125), (0.2, 0.1, 0.5)]
)
def test_the_share_is_that_of_weights_inverse_to_the_squared_errors(misread, apart, share):
    expected, own = np.linspace(0, 1, 30, dtype=np.float32), np.linspace(0.2, 0.9, 30, dtype=np.float32)
    moved = leaning(expected, expected + np.float32(apart), own, own + np.float32(misread)) - expected
    assert moved == pytest.approx(share * apart, rel=1e-3)
