"""The lock from its prior on: a curve times a smooth gain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.core.volume import FloatArray
from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.lock.gain_prior import fit_lock, gain_prior

LOCK = LockSettings()


def voxels(count: int = 20_000, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    places = rng.uniform(*FIELD_OF_VIEW, (count, 3)).astype(np.float32)
    return places, rng.uniform(0.05, 1.1, count).astype(np.float32)


def test_nothing_to_explain_is_the_identity_to_the_bit():
    places, source = voxels()
    assert np.array_equal(fit_lock(places, source, source, LOCK).apply(places, source), source)


def test_a_curve_times_a_gain_is_found_again():
    places, source = voxels()
    contrast = (1 + 0.002 * places[:, 0]) * (0.2 + 0.7 * source)
    found = gain_prior(places, source, contrast, LOCK).apply(places, source)
    assert np.abs(found - contrast).mean() < 0.006
    assert np.abs(found - contrast).mean() < 0.1 * np.abs(source - contrast).mean()


def test_what_one_place_lacks_is_told_by_the_others():
    places, source = voxels()
    contrast = ((1 + 0.003 * places[:, 1]) * source**0.8).astype(np.float32)
    unseen = (places[:, 1] > 20) & (source > 0.6)
    errors = []
    for fit in (fit_lock, lambda *parts: fit_bilateral_grid(*parts[:3], settings=parts[3])):
        lock = fit(places[~unseen], source[~unseen], contrast[~unseen], LOCK)
        errors.append(np.abs(lock.apply(places, source) - contrast)[unseen].mean())
    assert errors[0] < 0.6 * errors[1]


@settings(max_examples=15, deadline=None)
@given(power=st.floats(0.4, 2.5), tilt=st.floats(-0.004, 0.004), seed=st.integers(0, 99))
def test_the_lock_keeps_its_bounds_from_any_prior(power: float, tilt: float, seed: int):
    places, source = voxels(4000, seed)
    contrast = ((1 + tilt * places[:, 2]) * source**power).astype(np.float32)
    lock = fit_lock(places, source, contrast, LOCK)
    assert lock.slope_range[0] >= LOCK.slopes[0] - 1e-6
    assert lock.slope_range[1] <= LOCK.slopes[1] + 1e-6
    assert lock.change_per_mm <= LOCK.change_per_mm + 1e-9


@pytest.mark.parametrize("extent_lift", [0.0, 0.3])
def test_black_stays_black_where_it_has_to(extent_lift: float):
    places, source = voxels(5000)
    lock = fit_lock(places, source, 0.1 + source, LOCK.model_copy(update={"lift": extent_lift}))
    black = lock.apply(places[:10], np.zeros(10, np.float32))
    assert (black <= extent_lift + 1e-6).all()
