"""Bootstrap intervals hold the mean, narrow with more heads, and repeat with the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.bootstrap import bootstrap_estimate, bootstrap_interval

FIGURES = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


@settings(deadline=None, max_examples=30)
@given(values=FIGURES, seed=st.integers(0, 100))
def test_interval_lies_within_the_values_and_repeats_with_its_seed(values, seed):
    found = bootstrap_interval(values, seed, resamples=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.value == pytest.approx(np.mean(values))
    assert found == bootstrap_interval(values, seed, resamples=200)


def test_interval_is_that_of_the_normal_mean():
    values = np.random.default_rng(0).standard_normal(400)
    found = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.01)
    assert found.high == pytest.approx(values.mean() + half, abs=0.01)


def test_lower_confidence_is_narrower():
    values = np.arange(30)
    wide, narrow = (bootstrap_interval(values, 0, level) for level in (0.95, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("values", [[], [1.0, float("inf")], [float("nan")]])
def test_nothing_and_infinite_figures_are_refused(values):
    with pytest.raises(MrharmonyError, match="finite"):
        bootstrap_interval(values, 0)


def test_heads_are_drawn_within_their_strata():
    strata = ["a"] * 3 + ["b"] * 5

    def share_of_a(heads):
        return float((heads < 3).mean())

    found = bootstrap_estimate(share_of_a, strata, seed=0, resamples=50)
    assert found.low == found.high == found.value == 3 / 8


def test_heads_of_one_person_are_drawn_together():
    people = ["a", "b", "a", "c", "b", "d", "e", "f", "f"]
    drawn = []

    def keep(heads):
        drawn.append(sorted(heads))
        return 0.0

    strata = ["one"] * 4 + ["other"] * 3 + ["one", "other"]
    bootstrap_estimate(keep, strata, seed=0, resamples=50, people=people)
    for heads in drawn:
        assert heads.count(0) == heads.count(2)  # both of a, who is in the first stratum alone
        assert heads.count(1) == heads.count(4)  # both of b, who is in both strata, as f is
        assert heads.count(1) + heads.count(7) == 2
        assert heads.count(0) + heads.count(3) == 2  # a and c
        assert heads.count(5) + heads.count(6) == 2


def test_people_whom_nobody_is_like_are_drawn_all_the_same():
    values = np.random.default_rng(0).normal(size=8)
    sites = ["a", "b", "a", "c", "a", "d", "b", "c"]  # four people, each at another two sites
    people = ["one", "one", "two", "two", "three", "three", "four", "four"]
    found = bootstrap_estimate(lambda heads: float(values[heads].mean()), sites, 0, people=people)
    free = bootstrap_estimate(lambda heads: float(values[heads].mean()), [0] * 8, 0, people=people)
    assert (found.low, found.high) == (free.low, free.high)
    assert found.low < found.value < found.high


def test_scans_that_are_there_twice_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=12)

    def width(some, people):
        found = bootstrap_estimate(lambda heads: float(some[heads].mean()), [0] * len(some), 0, people=people)
        return found.high - found.low

    once, twice = list(range(12)), [*range(12), *range(12)]
    assert width(np.tile(values, 2), twice) == pytest.approx(width(values, once), rel=0.05)


def test_a_figure_that_the_heads_do_not_define_is_refused():
    with pytest.raises(MrharmonyError, match="do not define"):
        bootstrap_estimate(lambda heads: float("nan"), [0, 0], seed=0)


def test_samples_that_do_not_define_the_figure_are_left_out():
    found = bootstrap_estimate(
        lambda heads: 1.0 if len(set(heads)) > 1 else float("nan"), [0, 0, 0], seed=0, resamples=50
    )
    assert (found.low, found.high) == (1.0, 1.0)
