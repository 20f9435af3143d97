"""Ranks, quantiles and histograms from values sorted once: what NumPy finds, in less time."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from mrharmony.evidence.drift import _eroded
from mrharmony.evidence.intensities import BrainIntensities, histogram, quantiles, stable_order

CASES = {
    "many": np.random.default_rng(0).normal(0.5, 0.4, 10_001),
    "ties": np.random.default_rng(1).integers(-5, 5, 5_000) / 4,
    "zeros of both signs": np.array([0.0, -0.0, 1.0, -0.0, 0.0, -1e-30, 1e-30]),
    "extremes": np.array([3e38, -3e38, 1e-45, -1e-45, 0.0, np.inf, -np.inf]),
    "constant": np.full(7, 0.25),
    "one": np.array([0.5]),
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_order_is_numpys_stable_one(values: np.ndarray):
    values = values.astype(np.float32)
    assert np.array_equal(stable_order(values), np.argsort(values, kind="stable"))
    assert np.array_equal(stable_order(values[::2]), np.argsort(values[::2], kind="stable"))


@pytest.mark.parametrize("name", ["many", "ties", "constant", "one"])
def test_quantiles_and_histogram_are_numpys(name: str):
    values = CASES[name].astype(np.float32)
    probabilities = np.linspace(0, 1, 41)
    np.testing.assert_allclose(
        quantiles(np.sort(values), probabilities), np.quantile(values, probabilities), rtol=1e-6, atol=1e-9
    )
    counts, edges = histogram(np.sort(values), 256)
    wanted, wanted_edges = np.histogram(values, 256)
    assert np.array_equal(counts, wanted)
    assert np.array_equal(edges, wanted_edges)


def test_intensities_are_those_of_the_brain_in_order():
    rng = np.random.default_rng(2)
    source, output = rng.random((2, 6, 7, 8), np.float32)
    mask = rng.random(source.shape) < 0.5
    brain = BrainIntensities.of(source, output, mask)
    assert np.array_equal(brain.before, source[mask])
    assert np.array_equal(brain.after, output[mask])
    assert np.array_equal(brain.before[brain.order], np.sort(source[mask]))
    assert np.array_equal(brain.rising_before, np.sort(source[mask]))
    assert np.array_equal(brain.rising_after, np.sort(output[mask]))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_erosion_is_scipys(share: float):
    mask = np.random.default_rng(3).random((13, 1, 17)) < share
    for shape in ((13, 1, 17), (1, 13, 17)):
        assert np.array_equal(_eroded(mask.reshape(shape), 1), binary_erosion(mask.reshape(shape)))
    large = np.random.default_rng(4).random((20, 21, 22)) < share
    assert np.array_equal(_eroded(large, 3), binary_erosion(large, iterations=3))
