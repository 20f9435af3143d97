from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.simulate.scanning import box_weights, thick_slices, truncate_kspace

SHARES = st.floats(0.2, 1)


def volume(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 1, (1, 9, 12, 10)).astype(np.float32)


@given(st.integers(0, 99), st.tuples(SHARES, SHARES, SHARES))
@settings(max_examples=30)
def test_the_end_of_kspace_keeps_the_mean_and_adds_no_power(
    seed: int, shares: tuple[float, float, float]
) -> None:
    image = volume(seed)
    cut = truncate_kspace(image, shares)
    assert cut.mean() == pytest.approx(image.mean(), rel=1e-4)
    assert (np.abs(cut) ** 2).sum() <= (image**2).sum() * (1 + 1e-4)
    assert np.abs(cut.imag).max() < 1e-4


def test_a_full_matrix_changes_nothing() -> None:
    image = volume(0)
    assert truncate_kspace(image, (1, 1, 1)) is image


def test_an_edge_rings_with_gibbs_overshoot() -> None:
    image = np.zeros((1, 256, 1, 1), np.float32)
    image[:, 64:192] = 1
    profile = truncate_kspace(image, (0.25, 1, 1)).real[0, :, 0, 0]
    assert profile.max() == pytest.approx(1.09, abs=0.02)
    assert profile.min() == pytest.approx(-0.09, abs=0.02)


def test_white_noise_loses_the_share_that_is_not_acquired() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 40, 40, 40), dtype=np.float32)
    assert truncate_kspace(noise, (0.5, 1, 0.6)).real.std() == pytest.approx(np.sqrt(0.5 * 0.6), rel=0.06)


@given(st.floats(1, 9))
def test_a_slice_profile_is_a_rectangle_of_its_width(width: float) -> None:
    weights = box_weights(width)
    offsets = np.arange(len(weights)) - len(weights) // 2
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    # Convolved with the voxel's own rectangle: variances of w² / 12 add up, up to interpolation.
    assert (weights * offsets**2).sum() == pytest.approx((width**2 - 1) / 12, abs=0.26)


def test_thick_slices_average_along_their_axis_only() -> None:
    image = np.zeros((1, 9, 9, 9), np.float32)
    image[0, 4, 4, 4] = 1
    thick = thick_slices(image, (0, 6, 0), (2, 2, 2))
    assert thick[0, 4, :, 4] == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    assert thick.sum() == pytest.approx(1)


def test_slices_thinner_than_the_voxels_change_nothing() -> None:
    image = volume(1)
    assert np.array_equal(thick_slices(image, (1.5, 2, 0), (2, 2, 2)), image)
