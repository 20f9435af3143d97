"""The lock's promises, kept whatever the fit is asked to do."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from mrharmony.core.findings import MrharmonyError
from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW, BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid

LOWER, UPPER = np.array(FIELD_OF_VIEW)
COARSE = LockSettings(nodes=(3, 3, 3), knots=(0.0, 0.3, 0.6, 0.9, 1.2))


def brain_like(count, seed=0):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(LOWER, UPPER, (count, 3)).astype(np.float32)
    tissue = rng.choice([0.25, 0.6, 0.95], count)
    return positions, np.clip(tissue + 0.08 * rng.standard_normal(count), 0, 1.1).astype(np.float32)


def smooth_transform(positions, source):
    sensitivity = 1 + 0.15 * np.sin(positions[:, 1] / 60)
    return (source**1.4 * sensitivity + 0.05 * source * np.cos(positions[:, 0] / 50)).astype(np.float32)


def adversarial_contrasts(seed, positions, source):
    """A look that no transform of intensities explains: reversed, discontinuous, noisy, out of range."""
    rng = np.random.default_rng(seed)
    contrasts = [
        1 - source,
        9 * source,
        rng.standard_normal(len(source)),
        np.where(positions[:, 0] > 0, 0, 2),
    ]
    return np.asarray(rng.dirichlet(np.ones(4)) @ np.stack(contrasts), dtype=np.float32)


def test_known_smooth_transform_is_recovered_from_noisy_data():
    positions, source = brain_like(200_000)
    wanted = smooth_transform(positions, source)
    noise = 0.05 * np.random.default_rng(1).standard_normal(len(source)).astype(np.float32)
    fitted = fit_bilateral_grid(positions, source, wanted + noise).apply(positions, source)
    assert np.sqrt(np.mean((fitted - wanted) ** 2)) < 0.01


def test_look_equal_to_the_source_gives_exactly_the_identity():
    positions, source = brain_like(20_000)
    grid = fit_bilateral_grid(positions, source, source)
    assert not grid.offsets.any()
    assert np.array_equal(grid.apply(positions, source), source)


def test_look_equal_to_the_prior_gives_the_prior():
    positions, source = brain_like(20_000)
    prior = fit_bilateral_grid(positions, source, smooth_transform(positions, source), settings=COARSE)
    again = fit_bilateral_grid(
        positions, source, prior.apply(positions, source), prior=prior, settings=COARSE
    )
    np.testing.assert_allclose(again.offsets, prior.offsets, atol=1e-5)


def test_where_no_voxel_speaks_the_prior_stays():
    positions, source = brain_like(20_000)
    dark = source < 0.4
    prior = BilateralGrid(np.array(FIELD_OF_VIEW), [0.0, 1.2], np.broadcast_to([0.0, 0.24], (2, 2, 2, 2)))
    grid = fit_bilateral_grid(positions[dark], source[dark], source[dark] * 1.2, prior=prior, settings=COARSE)
    np.testing.assert_allclose(grid.apply(positions, source), source * 1.2, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), least=st.floats(0, 0.5), bound=st.floats(1e-4, 0.01))
def test_bounds_hold_for_any_look(seed, least, bound):
    positions, source = brain_like(4000, seed)
    wanted = COARSE.model_copy(update={"slopes": (least, 4.0), "change_per_mm": bound})
    grid = fit_bilateral_grid(
        positions, source, adversarial_contrasts(seed, positions, source), settings=wanted
    )
    lowest, highest = grid.slope_range
    assert lowest >= least - 1e-9
    assert highest <= 4.0 + 1e-9
    assert grid.change_per_mm <= bound * (1 + 1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_bounds_hold_when_the_prior_breaks_them(seed):
    positions, source = brain_like(2000, seed)
    rough = np.random.default_rng(seed).standard_normal((3, 3, 3, 5))
    prior = BilateralGrid(np.array(FIELD_OF_VIEW), COARSE.knots, rough)
    grid = fit_bilateral_grid(positions, source, source, prior=prior, settings=COARSE)
    assert grid.slope_range[0] >= COARSE.slopes[0] - 1e-9
    assert grid.change_per_mm <= COARSE.change_per_mm * (1 + 1e-9)


def test_black_stays_black_where_there_must_be_no_lift():
    positions, source = brain_like(5000)
    settings = COARSE.model_copy(update={"lift": 0.0})
    grid = fit_bilateral_grid(positions, source, source + 0.3, settings=settings)
    assert not grid.apply(positions, np.zeros_like(source)).any()


def test_black_becomes_grey_where_the_brain_has_black_in_it():
    positions, source = brain_like(5000)
    source[::5] = 0
    contrast = np.where(source == 0, np.float32(0.2), source)
    lifted = fit_bilateral_grid(positions, source, contrast, settings=COARSE).apply(positions, source)
    assert lifted[::5] == pytest.approx(0.2, abs=0.04)
    never = COARSE.model_copy(update={"lift": 0.0})
    assert (
        not fit_bilateral_grid(positions, source, contrast, settings=never)
        .apply(positions, source)[::5]
        .any()
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), wanted=st.floats(-2, 2))
def test_black_is_never_below_black_nor_above_the_greatest_lift(seed, wanted):
    positions, source = brain_like(2000, seed)
    source[::3] = 0
    grid = fit_bilateral_grid(positions, source, source + np.float32(wanted), settings=COARSE)
    black = grid.offsets[..., 0]
    assert black.min() >= 0
    assert black.max() <= COARSE.lift + 1e-9


def test_bounded_solution_is_the_least_squares_optimum():
    positions, source = brain_like(5000)
    contrast = np.where(source < 0.6, 1.2 - source, source).astype(np.float32)
    one_curve = LockSettings(
        nodes=(1, 1, 1),
        knots=COARSE.knots,
        intensity_smoothness=0,
        prior_pull=1e-9,
        slopes=(0.0, 3.0),
        lift=0,
        reweightings=0,
    )
    fitted = fit_bilateral_grid(positions, source, contrast, settings=one_curve)
    knots = np.array(COARSE.knots)
    ramps = np.clip(source[:, None] - knots[:-1], 0, np.diff(knots))
    optimum = lsq_linear(ramps, contrast, bounds=(0.0, 3.0))
    error = np.mean((fitted.apply(positions, source) - contrast) ** 2)
    assert error == pytest.approx(2 * optimum.cost / len(source), rel=2e-3)


def test_a_few_gross_outliers_change_little():
    positions, source = brain_like(50_000)
    wanted = smooth_transform(positions, source)
    spoiled = wanted + 0.02 * np.random.default_rng(3).standard_normal(len(source)).astype(np.float32)
    spoiled[::50] = 3.0
    errors = [
        np.abs(
            fit_bilateral_grid(
                positions, source, spoiled, settings=LockSettings(reweightings=reweightings)
            ).apply(positions, source)
            - wanted
        ).mean()
        for reweightings in (0, 2)
    ]
    assert errors[1] < 0.4 * errors[0]


def test_a_voxel_of_weight_zero_has_no_say():
    positions, source = brain_like(5000)
    contrast = smooth_transform(positions, source)
    weights = np.ones_like(source)
    weights[::2] = 0
    spoiled = np.where(weights > 0, contrast, 7).astype(np.float32)
    kept = weights > 0
    weighted = fit_bilateral_grid(positions, source, spoiled, weights=weights, settings=COARSE)
    alone = fit_bilateral_grid(positions[kept], source[kept], contrast[kept], settings=COARSE)
    np.testing.assert_array_equal(weighted.offsets, alone.offsets)


def test_same_input_gives_the_same_bytes():
    positions, source = brain_like(20_000)
    contrast = smooth_transform(positions, source)
    first, second = (fit_bilateral_grid(positions, source, contrast).offsets.tobytes() for _ in range(2))
    assert first == second


def test_half_a_million_voxels_are_fitted_within_seconds():
    positions, source = brain_like(500_000)
    contrast = smooth_transform(positions, source)
    start = time.process_time()
    fit_bilateral_grid(positions, source, contrast)
    assert time.process_time() - start < 6  # about 1 s alone on one core


@pytest.mark.parametrize("what", ["source", "contrast", "weights"])
def test_values_that_are_not_finite_are_refused(what):
    positions, source = brain_like(100)
    values = {"source": source, "contrast": source.copy(), "weights": np.ones_like(source)}
    values[what] = values[what].copy()
    values[what][3] = np.nan
    with pytest.raises(MrharmonyError, match=what):
        fit_bilateral_grid(positions, **values)


def test_negative_weights_are_refused():
    positions, source = brain_like(100)
    with pytest.raises(MrharmonyError, match="negative"):
        fit_bilateral_grid(positions, source, source, weights=-source)


def test_nothing_to_fit_is_refused():
    positions, source = brain_like(100)
    with pytest.raises(MrharmonyError, match="No voxel"):
        fit_bilateral_grid(positions, source + 50, source)


def test_decreasing_transforms_cannot_be_asked_for():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        LockSettings(slopes=(-1.0, 5.0))
