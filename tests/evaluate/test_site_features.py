"""The features show what scanners differ in, and only that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.evaluate.site_classifiers import site_slices
from mrharmony.evaluate.site_features import QUANTILES, site_features, slice_features
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.grid import Grid

GRID = Grid.working(4.0)
REGIONS = 36


def ball(seed=0):
    """A rough ball in the place of the brain."""
    rng = np.random.default_rng(seed)
    x, y, z = np.moveaxis(GRID.positions(), -1, 0)
    mask = (x / 66) ** 2 + ((y + 17) / 84) ** 2 + ((z - 10) / 66) ** 2 < 1
    return CanonicalBrain(Volume(np.where(mask, rng.uniform(0.3, 1, GRID.shape), 0), GRID.affine), mask, 1.0)


def changed(brain, change):
    voxels = np.where(brain.mask, change(brain.volume.voxels), 0)
    return brain._replace(volume=brain.volume.with_voxels(voxels))


def parts(brain):
    """Quantiles; means, spreads, gradients along three axes and noise of each region."""
    features = site_features(brain)
    return features[: len(QUANTILES)], features[len(QUANTILES) :].reshape(6, REGIONS)


@settings(deadline=None, max_examples=10)
@given(gain=st.floats(0.5, 2))
def test_a_gain_multiplies_intensities_and_moves_the_logarithms_alike(gain):
    brain = ball()
    (quantiles, regions), (brighter, scaled) = parts(brain), parts(changed(brain, lambda x: gain * x))
    np.testing.assert_allclose(brighter, gain * quantiles, rtol=1e-4)
    np.testing.assert_allclose(scaled[0], gain * regions[0], rtol=1e-4)
    np.testing.assert_allclose(scaled[1:], regions[1:] + np.log(gain), atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_along_an_axis_lowers_that_gradient_most(axis):
    brain = ball()
    _, sharp = parts(brain)
    _, soft = parts(changed(brain, lambda x: gaussian_filter1d(x, 1.0, axis)))
    losses = (sharp - soft)[2:5].mean(axis=1)
    assert losses.argmax() == axis
    assert losses[axis] > np.delete(losses, axis).max() + 0.1


@settings(deadline=None, max_examples=10)
@given(sigma=st.floats(0.01, 0.2))
def test_the_noise_of_a_uniform_brain_is_measured_right(sigma):
    noise = np.random.default_rng(1).standard_normal(GRID.shape)
    _, regions = parts(changed(ball(), lambda x: 0.7 + sigma * noise))
    assert np.exp(regions[5]).mean() == pytest.approx(sigma, rel=0.05)


def test_a_receive_field_shows_in_the_regions_that_it_brightens():
    brain, right = ball(), GRID.positions()[..., 0]
    _, plain = parts(brain)
    _, tilted = parts(changed(brain, lambda x: x * (1 + 0.002 * right)))
    change = (tilted[0] / plain[0]).reshape(3, 4, 3).mean(axis=(1, 2))
    assert change[1] == pytest.approx(1, abs=0.01)
    assert change[0] < 0.95
    assert change[2] > 1.05


@pytest.mark.parametrize("see", [site_features, slice_features, site_slices])
def test_what_lies_outside_of_the_mask_is_not_seen(see):
    brain = ball()
    spoiled = brain._replace(volume=brain.volume.with_voxels(np.where(brain.mask, brain.volume.voxels, 50)))
    np.testing.assert_array_equal(see(spoiled), see(brain))


def test_how_a_brain_was_cut_out_does_not_show_in_the_slices():
    whole = changed(ball(), lambda x: np.full_like(x, 0.8))
    cut = whole.mask & (GRID.positions()[..., 2] < 50)
    np.testing.assert_array_equal(
        site_slices(changed(whole._replace(mask=cut), lambda x: x)), site_slices(whole)
    )


def test_ten_percent_are_a_tenth_in_every_response_of_a_slice():
    brain = ball()
    change = slice_features(changed(brain, lambda x: np.exp(0.1) * x)) - slice_features(brain)
    np.testing.assert_allclose(change, 0.1, atol=1e-3)


@pytest.mark.parametrize("see", [site_features, slice_features, site_slices])
@pytest.mark.parametrize("fault", ["empty", "thin", "not finite"])
def test_a_brain_without_sound_intensities_is_refused(see, fault):
    brain = ball()
    mask, voxels = brain.mask.copy(), brain.volume.voxels.copy()
    if fault == "empty":
        mask[:] = False
    elif fault == "thin":
        mask[:, 1::2] = False
    else:
        voxels[20, 28, 20] = np.nan
    with pytest.raises(MrharmonyError, match="prepare it again"):
        see(CanonicalBrain(Volume(voxels, GRID.affine), mask, 1.0))


def test_a_brain_that_lies_elsewhere_has_no_slices_to_compare():
    brain = ball()
    moved = GRID.affine.copy()
    moved[1, 3] += 60
    with pytest.raises(MrharmonyError, match="alignment"):
        slice_features(brain._replace(volume=Volume(brain.volume.voxels, moved)))
    without_middle = brain.mask & (np.abs(GRID.positions()[..., 1]) > 25)
    with pytest.raises(MrharmonyError, match="central slice"):
        site_slices(brain._replace(mask=without_middle))
