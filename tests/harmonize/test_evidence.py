"""Drift figures and verdicts: silent where only the look changes, loud where the anatomy does."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import spearmanr
from skimage.filters import threshold_multiotsu

from mrharmony.domains.statistics import LANDMARKS, DomainStatistics
from mrharmony.evidence.drift import evidence
from mrharmony.evidence.verdict import LIMITS, judge

SHAPE = (56, 64, 56)
ZOOMS = (2.0, 2.0, 2.0)


def tissue_phantom(seed=0, size=56):
    rng = np.random.default_rng(seed)
    shape = (size, size + 8, size)
    folds = gaussian_filter(rng.standard_normal(shape), size / 14)
    edges = np.quantile(folds, [0.15, 0.6])
    centred = (np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2) / (np.array(shape) / 2.2)
    mask = (centred**2).sum(axis=-1) < 1
    intensities = np.array([0.25, 0.6, 0.95])[np.digitize(folds, edges)]
    blurred = gaussian_filter(intensities, 0.6) + 0.02 * rng.standard_normal(shape)
    return np.where(mask, np.clip(blurred, 0.01, 1.2), 0).astype(np.float32), mask


def test_no_change_is_no_drift():
    source, mask = tissue_phantom()
    figures = evidence(source, source, mask, ZOOMS)
    assert figures.verdict == "pass"
    assert figures.edge_correlation == pytest.approx(1)
    assert figures.rank_correlation == pytest.approx(1)
    drift = (figures.new_edge_share, figures.csf_drift, figures.grey_drift, figures.white_drift)
    assert drift == (0, 0, 0, 0)
    assert figures.mean_change == figures.clipped_share == 0


@pytest.mark.parametrize("gain", [0.02, 50.0])
def test_units_of_the_output_do_not_matter(gain):
    source, mask = tissue_phantom()
    figures = evidence(source, source * np.float32(gain), mask, ZOOMS)
    assert figures.verdict == "pass"
    assert abs(figures.white_drift) < 1e-3


@pytest.mark.parametrize("power", [0.7, 1.4])
def test_another_contrast_of_the_same_anatomy_passes(power):
    source, mask = tissue_phantom()
    figures = evidence(source, source ** np.float32(power), mask, ZOOMS)
    assert figures.verdict == "pass", figures


def test_another_brain_fails():
    source, mask = tissue_phantom(0)
    other, _ = tissue_phantom(1)
    assert evidence(source, np.where(mask, other, 0), mask, ZOOMS).verdict == "fail"


def test_a_shifted_output_does_not_pass():
    source, mask = tissue_phantom()
    moved = np.where(mask, shift(source, (2, 0, 0), order=1, mode="nearest"), 0)
    figures = evidence(source, moved, mask, ZOOMS)
    assert figures.verdict != "pass"
    assert "new_edge_share" in figures.reasons


def test_clipping_is_seen():
    source, mask = tissue_phantom()
    figures = evidence(source, np.minimum(source, 0.9), mask, ZOOMS)
    assert figures.verdict == "fail"
    assert "clipped_share" in figures.reasons


def test_a_blob_invented_in_flat_tissue_is_counted():
    mask = np.ones(SHAPE, dtype=bool)
    rng = np.random.default_rng(0)
    source = (0.6 + 0.01 * rng.standard_normal(SHAPE)).astype(np.float32)
    source[:8] += 0.3
    invented = source.copy()
    invented[24:48, 16:48, 16:40] += 0.3
    figures = evidence(source, invented, mask, ZOOMS)
    assert figures.new_edge_share > 0.2
    assert "new_edge_share" in figures.reasons


def test_lost_tissue_is_measured():
    source, mask = tissue_phantom()
    filled = np.where(mask & (source < 0.4) & (np.indices(source.shape)[0] < 28), 0.6, source)
    assert evidence(source, filled.astype(np.float32), mask, ZOOMS).csf_drift < -0.3


def test_a_constant_output_fails_without_nan():
    source, mask = tissue_phantom()
    figures = evidence(source, np.where(mask, np.float32(0.5), 0).astype(np.float32), mask, ZOOMS)
    assert figures.verdict == "fail"
    assert np.isfinite([value for value in figures.model_dump().values() if isinstance(value, float)]).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([6, 40, 4000]))
@settings(max_examples=15, deadline=None)
def test_ranks_and_volumes_are_those_of_sorting_all_voxels_ties_included(seed, levels):
    rng = np.random.default_rng(seed)
    mask = rng.random((14, 15, 16)) < 0.6
    source = np.float32(rng.integers(0, levels, mask.shape) / levels + 0.1)
    output = np.float32(np.round((source + rng.normal(0, 0.1, mask.shape)) * levels) / levels)
    found = evidence(source, output, mask, (1.0, 1.0, 1.0))
    before, after = source[mask], output[mask]
    assert found.rank_correlation == pytest.approx(spearmanr(before, after).statistic, rel=1e-12)
    counts, edges = np.histogram(before, bins=256)
    threshold = threshold_multiotsu(hist=(counts, (edges[1:] + edges[:-1]) / 2))[0]
    order, reach = np.argsort(before, kind="stable"), max(1, before.size // 100)
    rank = int(np.searchsorted(before[order], threshold))
    became = np.median(after[order[max(rank - reach, 0) : rank + reach]])
    assert found.csf_drift == pytest.approx(np.mean(after < became) / (rank / before.size) - 1, rel=1e-9)


def test_figures_are_the_same_each_time():
    source, mask = tissue_phantom()
    output = source ** np.float32(1.2)
    assert evidence(source, output, mask, ZOOMS) == evidence(source, output, mask, ZOOMS)


def test_a_ball_that_is_filled_is_lost_structure_and_one_that_is_added_new_structure():
    source, mask = tissue_phantom()
    ball = np.linalg.norm(np.moveaxis(np.indices(source.shape), 0, -1) - [28, 32, 28], axis=-1) < 4
    filled = np.where(ball, np.float32(0.6), source)
    same, erased, added = (
        evidence(*pair, mask, ZOOMS) for pair in ((source, source), (source, filled), (filled, source))
    )
    assert max(same.new_structure, same.lost_structure) < 0.02
    assert erased.lost_structure > 0.08
    assert added.new_structure == pytest.approx(erased.lost_structure, rel=0.05)


def test_bright_vessels_that_stay_bright_are_no_new_structure():
    source, mask = tissue_phantom()
    source[20:22, 20:40, 30:32] = np.where(mask[20:22, 20:40, 30:32], 4, 0)
    assert evidence(source, source ** np.float32(1.2), mask, ZOOMS).new_structure < 0.02


def test_a_lookalike_of_the_target_is_near_it_and_another_contrast_is_not():
    source, mask = tissue_phantom()
    target = DomainStatistics(100.0, np.quantile(source[mask], LANDMARKS), np.zeros((4, 5, 4, 33)), 1)
    assert evidence(source, source, mask, ZOOMS, target).target_distance == pytest.approx(0, abs=1e-6)
    other = evidence(source, source ** np.float32(2), mask, ZOOMS, target)
    assert other.target_distance > 0.05
    assert "target_distance" in other.reasons


def at_their_best():
    return {name: 1.0 if limit.least else 0.0 for name, limit in LIMITS.items()}


@pytest.mark.parametrize("name", LIMITS)
def test_each_threshold_decides_the_verdict(name):
    limit, good = LIMITS[name], at_their_best()
    worse = -1 if limit.least else 1
    assert judge(good) == ("pass", ())
    assert judge({**good, name: limit.warn}) == ("pass", ())
    assert judge({**good, name: limit.warn + worse * 1e-6}) == ("warn", (name,))
    if limit.fail is None:
        assert judge({**good, name: 9.0})[0] == "warn"
    else:
        assert judge({**good, name: limit.fail + worse * 1e-6}) == ("fail", (name,))
        assert judge({**good, name: float("nan")})[0] == "fail"


def test_a_drift_counts_in_both_directions():
    assert judge({**at_their_best(), "csf_drift": -1.0, "grey_drift": LIMITS["grey_drift"].warn + 0.01}) == (
        "fail",
        ("csf_drift",),
    )


def test_thresholds_are_those_of_the_committed_calibration():
    text = (Path(__file__).parents[2] / "benchmarks/results/calibration/verdicts.json").read_text("utf-8")
    assert {name: list(limit) for name, limit in LIMITS.items()} == json.loads(text)["limits"]


def test_a_full_head_takes_seconds():
    source, mask = tissue_phantom(size=150)
    start = time.process_time()
    evidence(source, source ** np.float32(1.2), mask, ZOOMS)
    assert time.process_time() - start < 8  # about 2 s alone on one core
