"""The lock's transform: what any bilateral grid does to intensities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from mrharmony.core.findings import MrharmonyError
from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW, BilateralGrid

LOWER, UPPER = np.array(FIELD_OF_VIEW)


def random_grid(seed, nodes=(3, 4, 3)):
    rng = np.random.default_rng(seed)
    knots = np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 0.3, 5))])
    rises = rng.uniform(0.0, 3.0, (*nodes, 5)) * np.diff(knots)
    curves = np.concatenate([np.zeros((*nodes, 1)), np.cumsum(rises, axis=3)], axis=3)
    return BilateralGrid(np.array(FIELD_OF_VIEW), knots, curves - knots)


def random_positions(rng, count, margin=20.0):
    return rng.uniform(LOWER - margin, UPPER + margin, (count, 3)).astype(np.float32)


def test_identity_changes_no_bit():
    rng = np.random.default_rng(0)
    intensities = rng.uniform(-1, 4, 100_000).astype(np.float32)
    transformed = BilateralGrid.identity().apply(random_positions(rng, 100_000), intensities)
    assert np.array_equal(transformed, intensities)


def test_node_values_are_met_at_the_nodes_and_knots():
    grid = random_grid(1)
    node = (1, 2, 0)
    position = LOWER + np.array(node) * grid.spacing
    positions = np.tile(position, (grid.knots.size, 1)).astype(np.float32)
    transformed = grid.apply(positions, grid.knots.astype(np.float32))
    np.testing.assert_allclose(transformed, grid.knots + grid.offsets[node], atol=1e-5)


def test_interpolation_agrees_with_scipy_inside_the_grid():
    rng = np.random.default_rng(2)
    grid = random_grid(2)
    axes = [np.linspace(lo, hi, n) for lo, hi, n in zip(LOWER, UPPER, grid.offsets.shape[:3], strict=True)]
    interpolator = RegularGridInterpolator((*axes, grid.knots), grid.offsets + grid.knots)
    positions = random_positions(rng, 70_000, margin=0.0)
    intensities = rng.uniform(0, grid.knots[-1], 70_000).astype(np.float32)
    expected = interpolator(np.column_stack([np.clip(positions, LOWER, UPPER), intensities]))
    np.testing.assert_allclose(grid.apply(positions, intensities), expected, atol=1e-5)


@given(seed=st.integers(0, 10_000))
def test_order_of_intensities_at_one_place_is_kept(seed):
    rng = np.random.default_rng(seed)
    positions = np.repeat(random_positions(rng, 1), 300, axis=0)
    intensities = np.sort(rng.uniform(-0.5, 3, 300)).astype(np.float32)
    assert np.diff(random_grid(seed).apply(positions, intensities)).min() >= -1e-6


@given(seed=st.integers(0, 10_000), axis=st.integers(0, 2), intensity=st.floats(-0.25, 3))
def test_constant_patch_gets_no_more_than_the_stated_gradient(seed, axis, intensity):
    grid = random_grid(seed)
    positions = np.repeat(random_positions(np.random.default_rng(seed), 1), 400, axis=0)
    positions[:, axis] = np.linspace(LOWER[axis] - 10, UPPER[axis] + 10, 400)
    transformed = grid.apply(positions, np.full(400, intensity, dtype=np.float32))
    step = positions[1, axis] - positions[0, axis]
    assert np.abs(np.diff(transformed)).max() <= grid.change_per_mm * step + 1e-5


def test_outside_the_field_of_view_the_border_is_continued():
    grid = random_grid(3)
    border = np.array([[LOWER[0], 0, 0]], dtype=np.float32)
    intensity = np.array([0.4], dtype=np.float32)
    assert grid.apply(border - [[50, 0, 0]], intensity) == grid.apply(border, intensity)


def test_beyond_the_knots_the_slope_is_one():
    grid = random_grid(4)
    place = np.zeros((2, 3), dtype=np.float32)
    beyond = (grid.knots[-1] + np.array([0.5, 1.5])).astype(np.float32)
    assert np.diff(grid.apply(place, beyond)) == pytest.approx(1.0, abs=1e-5)


def test_sampling_on_a_finer_lattice_changes_nothing():
    grid = random_grid(5, nodes=(3, 3, 3))
    fine_knots = np.unique(np.concatenate([grid.knots, (grid.knots[1:] + grid.knots[:-1]) / 2]))
    fine = grid.on_lattice(BilateralGrid.identity((5, 5, 5), tuple(fine_knots)))
    rng = np.random.default_rng(5)
    positions, intensities = random_positions(rng, 5000), rng.uniform(0, 2, 5000).astype(np.float32)
    np.testing.assert_allclose(
        fine.apply(positions, intensities), grid.apply(positions, intensities), atol=1e-5
    )


def test_blend_lies_between_and_needs_one_lattice():
    grid = random_grid(6)
    none = BilateralGrid(grid.field_of_view, grid.knots, np.zeros_like(grid.offsets))
    np.testing.assert_allclose(none.blend(grid, 0.25).offsets, grid.offsets / 4)
    with pytest.raises(ValueError, match="lattice"):
        grid.blend(BilateralGrid.identity(), 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_intensities_that_are_not_finite_are_refused(bad):
    with pytest.raises(MrharmonyError, match="intensities"):
        BilateralGrid.identity().apply(np.zeros((1, 3), dtype=np.float32), np.array([bad], dtype=np.float32))


def test_positions_that_are_not_finite_are_refused():
    with pytest.raises(MrharmonyError, match="positions"):
        BilateralGrid.identity().apply(
            np.full((1, 3), np.nan, dtype=np.float32), np.ones(1, dtype=np.float32)
        )


@pytest.mark.parametrize("knots", [(0.0,), (0.0, 0.0), (1.0, 0.0)])
def test_knots_must_increase(knots):
    with pytest.raises(ValueError, match="knots"):
        BilateralGrid.identity(knots=knots)


def test_a_grid_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        BilateralGrid.identity().offsets[0] = 1
