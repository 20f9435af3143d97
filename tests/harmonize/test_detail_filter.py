"""The detail filter: constants, mirrors, bounds, grids and phases, whatever the gains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrharmony.methods.detail import GAINS
from mrharmony.methods.detail_filter import BINS, filter_brain, frequencies, gain_at

SHAPE = (22, 26, 20)
PLACES = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"))
MASK = (np.square(PLACES / np.array([9, 11, 8])[:, None, None, None])).sum(axis=0) < 1
UPRIGHT = np.diag([2.0, 2.0, 2.0, 1.0])

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def some_gains(seed):
    return np.random.default_rng(seed).uniform(*GAINS, (BINS,) * 3)


def some_brain(seed):
    rng = np.random.default_rng(seed)
    return np.where(MASK, 0.7 + 0.2 * rng.standard_normal(SHAPE), 0).astype(np.float32)


def some_rigid_motion(seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=seed % 2**31).as_matrix() @ np.diag(rng.uniform(0.8, 3, 3))
    return matrix


@few
@given(seeds, seeds, st.floats(0.01, 1000))
def test_a_constant_brain_stays_what_it_is(gains, rigid_to_template, level):
    brain = np.where(MASK, np.float32(level), np.float32(0))
    made = filter_brain(brain, MASK, some_rigid_motion(rigid_to_template), some_gains(gains))
    assert np.allclose(made, brain, rtol=1e-5, atol=0)


@few
@given(seeds, seeds, seeds)
def test_what_is_made_is_finite_0_outside_and_not_below_what_was(brain, rigid_to_template, gains):
    voxels = some_brain(brain)
    made = filter_brain(voxels, MASK, some_rigid_motion(rigid_to_template), some_gains(gains))
    assert made.dtype == voxels.dtype
    assert made.shape == voxels.shape
    assert np.isfinite(made).all()
    assert not made[~MASK].any()
    assert (made >= np.minimum(voxels, 0)).all()


@few
@given(seeds, seeds)
def test_what_lies_outside_the_mask_changes_nothing(brain, gains):
    voxels = some_brain(brain)
    noisy = np.where(MASK, voxels, 5 * np.random.default_rng(brain).random(SHAPE)).astype(np.float32)
    made = [filter_brain(image, MASK, UPRIGHT, some_gains(gains)) for image in (voxels, noisy)]
    assert np.array_equal(*made)


@few
@given(seeds, seeds, st.sampled_from([0, 1, 2]))
def test_the_mirror_image_becomes_the_mirror_image(brain, gains, axis):
    voxels, gains = some_brain(brain), some_gains(gains)
    made = filter_brain(voxels, MASK, UPRIGHT, gains)
    mirrored = filter_brain(np.flip(voxels, axis), np.flip(MASK, axis), UPRIGHT, gains)
    assert np.allclose(np.flip(made, axis), mirrored, atol=1e-5)


@few
@given(seeds, seeds)
def test_the_order_and_direction_of_voxel_axes_make_no_difference(brain, gains):
    voxels, gains = some_brain(brain), some_gains(gains)
    made = filter_brain(voxels, MASK, UPRIGHT, gains)
    turned = UPRIGHT[:, [2, 0, 1, 3]] @ np.diag([-1, 1, 1, 1])
    other = filter_brain(
        np.flip(voxels.transpose(2, 0, 1), 0), np.flip(MASK.transpose(2, 0, 1), 0), turned, gains
    )
    assert np.allclose(np.flip(other, 0).transpose(1, 2, 0), made, atol=1e-5)


@few
@given(seeds, seeds)
def test_gains_stay_between_1_and_the_bounds_and_are_symmetric(gains, rigid_to_template):
    frequency = frequencies([9, 15, 11], some_rigid_motion(rigid_to_template))
    found = gain_at(frequency, some_gains(gains))
    assert (found >= GAINS[0] - 1e-6).all()
    assert (found <= GAINS[1] + 1e-6).all()
    assert np.array_equal(found, gain_at(-frequency, some_gains(gains)))
    assert found[0, 0, 0] == 1


@few
@given(seeds)
def test_a_gain_of_1_everywhere_is_the_identity_to_the_bit(brain):
    voxels = some_brain(brain)
    assert np.array_equal(filter_brain(voxels, MASK, UPRIGHT, np.ones((BINS,) * 3)), voxels)


@pytest.mark.parametrize("gain", GAINS)
def test_a_straight_edge_stays_where_it_is(gain):
    voxels = np.where(MASK, np.where(PLACES[0] > 0, 1.0, 0.4), 0).astype(np.float32)
    made = filter_brain(voxels, MASK, UPRIGHT, np.full((BINS,) * 3, gain))
    profile = made[:, SHAPE[1] // 2, SHAPE[2] // 2]
    centre = SHAPE[0] // 2
    assert abs(profile[centre - 1] + profile[centre] - 1.4) < 0.02  # its middle lies between the same voxels
    assert np.argmax(np.abs(np.diff(profile[4:-4]))) == centre - 1 - 4


def test_nothing_is_made_of_an_empty_mask():
    voxels = some_brain(0)
    assert not filter_brain(voxels, np.zeros_like(MASK), UPRIGHT, some_gains(0)).any()
