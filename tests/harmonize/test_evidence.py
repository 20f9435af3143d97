"""Drift figures and verdicts: silent where only the look changes, loud where the anatomy does."""

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from mrharmony.harmonize import evidence, judge
from mrharmony.harmonize.evidence import LEAST, MOST

SHAPE = (56, 64, 56)


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
    figures = evidence(source, source, mask)
    assert figures.verdict == "pass"
    assert figures.edge_correlation == pytest.approx(1)
    assert figures.rank_correlation == pytest.approx(1)
    drift = (figures.new_edge_share, figures.csf_drift, figures.grey_drift, figures.white_drift)
    assert drift == (0, 0, 0, 0)
    assert figures.mean_change == figures.clipped_share == 0


@pytest.mark.parametrize("gain", [0.02, 50.0])
def test_units_of_the_output_do_not_matter(gain):
    source, mask = tissue_phantom()
    figures = evidence(source, source * np.float32(gain), mask)
    assert figures.verdict == "pass"
    assert abs(figures.white_drift) < 1e-3


@pytest.mark.parametrize("power", [0.7, 1.4])
def test_another_contrast_of_the_same_anatomy_passes(power):
    source, mask = tissue_phantom()
    figures = evidence(source, source ** np.float32(power), mask)
    assert figures.verdict == "pass", figures


def test_another_brain_fails():
    source, mask = tissue_phantom(0)
    other, _ = tissue_phantom(1)
    assert evidence(source, np.where(mask, other, 0), mask).verdict == "fail"


def test_a_shifted_output_does_not_pass():
    source, mask = tissue_phantom()
    moved = np.where(mask, shift(source, (2, 0, 0), order=1, mode="nearest"), 0)
    figures = evidence(source, moved, mask)
    assert figures.verdict != "pass"
    assert "new_edge_share" in figures.reasons


def test_clipping_is_seen():
    source, mask = tissue_phantom()
    figures = evidence(source, np.minimum(source, 0.9), mask)
    assert figures.verdict == "fail"
    assert "clipped_share" in figures.reasons


def test_a_blob_invented_in_flat_tissue_is_counted():
    mask = np.ones(SHAPE, dtype=bool)
    rng = np.random.default_rng(0)
    source = (0.6 + 0.01 * rng.standard_normal(SHAPE)).astype(np.float32)
    source[:8] += 0.3
    invented = source.copy()
    invented[24:48, 16:48, 16:40] += 0.3
    figures = evidence(source, invented, mask)
    assert figures.new_edge_share > 0.2
    assert "new_edge_share" in figures.reasons


def test_lost_tissue_is_measured():
    source, mask = tissue_phantom()
    filled = np.where(mask & (source < 0.4) & (np.indices(source.shape)[0] < 28), 0.6, source)
    assert evidence(source, filled.astype(np.float32), mask).csf_drift < -0.3


def test_a_constant_output_fails_without_nan():
    source, mask = tissue_phantom()
    figures = evidence(source, np.where(mask, np.float32(0.5), 0).astype(np.float32), mask)
    assert figures.verdict == "fail"
    assert np.isfinite([value for value in figures.model_dump().values() if isinstance(value, float)]).all()


def test_figures_are_the_same_each_time():
    source, mask = tissue_phantom()
    output = source ** np.float32(1.2)
    assert evidence(source, output, mask) == evidence(source, output, mask)


def test_thresholds_decide_the_verdict():
    good = {**{name: 1.0 for name in LEAST}, **{name: 0.0 for name in MOST}}
    assert judge(good) == ("pass", ())
    assert judge({**good, "csf_drift": -0.12}) == ("warn", ("csf_drift",))
    assert judge({**good, "csf_drift": 0.3, "grey_drift": 0.12}) == ("fail", ("csf_drift",))
    assert judge({**good, "edge_correlation": float("nan")})[0] == "fail"


def test_a_full_head_takes_seconds():
    source, mask = tissue_phantom(size=150)
    start = time.process_time()
    evidence(source, source ** np.float32(1.2), mask)
    assert time.process_time() - start < 8  # about 2 s alone on one core
