"""Biology scores of volumes whose slope, rank, difference and site shift are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from helpers.virtual_study import Study
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.biology import (
    biology_scores,
    cohens_d,
    cohort_biology,
    few_people,
    without_site_means,
)
from mrharmony.evaluate.tissues import TargetVolumetry

FACTOR = np.linspace(-1, 1, 12)
TRUTH = np.exp(3 + 0.8 * FACTOR + 0.05 * np.cos(9 * FACTOR))
SITES = ["A"] * 6 + ["B"] * 6  # wholly ordered by the factor
GROUPS = ["control"] * 5 + ["patient"] * 7


def test_true_volumes_keep_everything():
    scores = biology_scores(TRUTH, TRUTH, FACTOR, SITES, GROUPS)
    kept = scores.slope_kept, scores.slope_within_sites_kept, scores.rank, scores.difference_kept
    assert kept == pytest.approx((1, 1, 1, 1))
    assert (scores.log_error, scores.site_shift) == (0, 0)
    assert (scores.slope_interval.low, scores.slope_interval.high) == pytest.approx((1, 1))


def test_intervals_hold_what_is_kept_and_widen_with_noise():
    noise = np.random.default_rng(0).standard_normal(12)
    narrow, wide = (biology_scores(TRUTH * np.exp(s * noise), TRUTH, FACTOR, SITES) for s in (0.05, 0.3))
    for scores in (narrow, wide):
        assert scores.slope_interval.low < scores.slope_kept < scores.slope_interval.high
        assert scores.site_shift_interval.low <= scores.site_shift <= scores.site_shift_interval.high
    widths = [s.slope_interval.high - s.slope_interval.low for s in (narrow, wide)]
    assert widths[1] == pytest.approx(6 * widths[0], rel=0.1)


def test_the_interval_of_the_slope_holds_the_truth_as_often_as_it_says_where_sites_have_two_heads():
    rng, sites = np.random.default_rng(3), np.repeat(list("ABCDEF"), 2).tolist()

    def holds():
        factor = rng.standard_normal(12)
        truth = np.exp(factor)
        measured = truth * np.exp(0.5 * rng.standard_normal(12))
        found = biology_scores(measured, truth, factor, sites, resamples=200).slope_interval
        return found.low <= 1 <= found.high

    assert np.mean([holds() for _ in range(60)]) >= 0.87


def test_scans_of_the_target_itself_do_not_lower_the_error():
    measured = TRUTH * np.exp(np.where(np.array(SITES) == "A", 0.3, 0.0))
    assert biology_scores(measured, TRUTH, FACTOR, SITES).log_error == pytest.approx(0.15)
    assert biology_scores(measured, TRUTH, FACTOR, SITES, target="B").log_error == pytest.approx(0.3)
    with pytest.raises(MrharmonyError, match="all heads come from A itself"):
        biology_scores(TRUTH, TRUTH, FACTOR, ["A"] * 12, target="A")


@settings(deadline=None, max_examples=30)
@given(power=st.floats(0.1, 2))
def test_compressed_volumes_lose_that_share_of_the_slope_but_not_the_rank(power):
    scores = biology_scores(TRUTH**power, TRUTH, FACTOR, SITES, GROUPS, resamples=20)
    assert scores.slope_kept == pytest.approx(power)
    assert scores.slope_within_sites_kept == pytest.approx(power)
    assert scores.rank == pytest.approx(1)
    assert scores.difference_kept == pytest.approx(1)


def test_sites_drawn_together_keep_the_slope_within_but_lose_it_between():
    shift = np.where(np.array(SITES) == "A", 1.3, 0.7)
    scores = biology_scores(TRUTH * shift, TRUTH, FACTOR, SITES, GROUPS)
    assert scores.slope_within_sites_kept == pytest.approx(1)
    assert scores.slope_kept < 0.6
    assert scores.difference_kept < 0.8
    assert scores.site_shift == pytest.approx(np.log(1.3 / 0.7))


def test_shuffled_volumes_lose_their_rank():
    shuffled = np.random.default_rng(1).permutation(TRUTH)
    assert abs(biology_scores(shuffled, TRUTH, FACTOR, SITES).rank) < 0.7


def test_rank_compares_with_the_true_volumes_and_not_with_the_factor():
    truth = np.exp([1.0, 2.2, 0.5, 2.1])
    scores = biology_scores(truth, truth, np.arange(4), ["A"] * 4)
    assert spearmanr(truth, np.arange(4)).statistic == pytest.approx(0)
    assert scores.rank == pytest.approx(1)


def test_figures_that_are_not_defined_are_none():
    scores = biology_scores(TRUTH, TRUTH, FACTOR, ["A"] * 12)
    assert (scores.difference_kept, scores.site_shift, scores.site_shift_interval) == (None, None, None)
    confounded = np.repeat([0.0, 1.0], 6)
    assert biology_scores(TRUTH, TRUTH, confounded, SITES).slope_within_sites_kept is None


def test_volumes_of_nothing_still_have_scores():
    scores = biology_scores(np.zeros(12), TRUTH, FACTOR, SITES, GROUPS)
    assert (scores.slope_kept, scores.rank) == pytest.approx((0, 0))
    assert scores.difference_kept is None
    assert np.isfinite(scores.log_error)


@pytest.mark.parametrize(
    ("factor", "truth"),
    [(np.zeros(12), TRUTH), (FACTOR, np.ones(12)), (FACTOR[:5], TRUTH), (FACTOR, np.exp(FACTOR**2))],
)
def test_heads_that_do_not_differ_are_refused(factor, truth):
    with pytest.raises(MrharmonyError):
        biology_scores(TRUTH, truth, factor, SITES)


def test_cohens_d_of_known_groups():
    assert cohens_d(np.array([0.0, 2, 3, 5]), ["a", "a", "b", "b"]) == pytest.approx(3 / np.sqrt(2))
    assert np.isnan(cohens_d(np.array([0.0, 2, 3]), ["a", "a", "b"]))


def test_site_means_are_taken_out():
    values = without_site_means(np.array([1.0, 3, 10, 20]), ["A", "A", "B", "B"])
    assert values == pytest.approx([-1, 1, -5, 5])


def test_cohort_finds_the_slope_beside_a_site_effect():
    sites, factor = SITES, np.tile(np.linspace(50, 80, 6), 2)
    effect = np.where(np.array(sites) == "A", 0.0, 0.7)
    noise = 0.02 * np.random.default_rng(0).standard_normal(12)
    volumes = np.exp(2 + 0.03 * factor + effect + noise)
    groups = ["control", "patient"] * 6
    found = cohort_biology(volumes, factor, sites, groups, resamples=300)
    for slope in (found.slope, found.slopes["A"], found.slopes["B"]):
        assert slope.value == pytest.approx(0.03, abs=0.004)
        assert slope.low <= slope.value <= slope.high
    assert found.partial_correlation.value > 0.98
    assert found.group_difference.value == pytest.approx(0.67, abs=0.4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_correlation_stays_within_its_ends_whatever_the_rounding(sign: int):
    factor = np.random.default_rng(0).uniform(50, 80, 12)
    found = cohort_biology(np.exp(sign * 0.03 * factor), factor, SITES, resamples=300).partial_correlation
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_cohort_without_what_a_figure_needs_leaves_it_out():
    factor = np.concatenate([np.linspace(50, 80, 6), np.full(6, 60.0)])
    found = cohort_biology(np.exp(0.03 * factor), factor, SITES, SITES, resamples=50)
    assert set(found.slopes) == {"A"}
    assert found.group_difference is None


def test_a_factor_that_is_the_site_is_refused():
    with pytest.raises(MrharmonyError, match="varies in no site"):
        cohort_biology(TRUTH, np.repeat([60.0, 70.0], 6), SITES)


@pytest.mark.parametrize(
    ("heads", "groups", "message"),
    [(2, None, "three heads"), (0, None, "three heads"), (12, ["a", "b", "c"] * 4, "not 3: a, b, c")],
)
def test_a_cohort_that_cannot_tell_is_refused_in_words(heads, groups, message):
    with pytest.raises(MrharmonyError, match=message):
        cohort_biology(TRUTH[:heads], FACTOR[:heads], ["A"] * heads, groups)


def test_volumetry_of_the_target_ranks_true_target_scans(study: Study):
    volumetry = TargetVolumetry.fit(study.training["B"])
    heads = sorted((head for head in study.unseen), key=lambda head: head.log_factor)
    small, large = volumetry.measure(heads[0].truth), volumetry.measure(heads[-1].truth)
    assert large.ventricle_ml > 1.5 * small.ventricle_ml
    whole = small.csf_ml + small.grey_ml + small.white_ml
    assert whole == pytest.approx(heads[0].truth.mask.sum() * 64e-3)


def test_volumetry_needs_training_scans():
    with pytest.raises(MrharmonyError, match="training scans"):
        TargetVolumetry.fit([])


def test_figures_of_too_few_people_are_told():
    assert few_people(11, {}).startswith("11 persons: too few. What fewer than 12 show is mostly chance")
    assert few_people(12, {"A": 12}) == ""
    told = few_people(15, {"A": 12, "B": 11, "C": 2})  # ten of them at both A and B
    assert told == "Too few for a slope of their own: B, each below 12 people."
