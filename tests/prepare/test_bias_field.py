import numpy as np
import pytest
from template_heads import on_grid

from mrharmony.prepare import template
from mrharmony.prepare.bias_field import estimate_bias_field
from mrharmony.volume import Volume


@pytest.fixture(scope="module")
def even(brain) -> tuple[Volume, np.ndarray]:
    """The template's brain without the left-right marker."""
    volume, mask = brain
    t1 = on_grid(template().voxels, volume.shape, volume.affine)
    return volume.with_voxels(np.where(mask, 400 * np.maximum(t1, 0.05), 0)), mask


@pytest.fixture(scope="module")
def true_log_field(even) -> np.ndarray:
    i, j, k = np.meshgrid(*[np.linspace(-1, 1, size) for size in even[0].shape], indexing="ij")
    return 0.4 * i * j - 0.4 * k + 0.3 * j**2


@pytest.fixture(scope="module")
def estimates(even, true_log_field) -> tuple[np.ndarray, np.ndarray]:
    """Estimated fields of the brain without and with a known bias."""
    volume, mask = even
    biased = volume.with_voxels(volume.voxels * np.exp(true_log_field))
    return estimate_bias_field(volume, mask), estimate_bias_field(biased, mask)


def test_a_known_bias_field_is_recovered(even, true_log_field, estimates):
    without, with_bias = (np.log(field[even[1]]) for field in estimates)
    truth = true_log_field[even[1]]
    error = (with_bias - without) - (truth - truth.mean())
    assert error.std() < 0.2 * truth.std()


def test_field_is_positive_bounded_and_centred_in_the_brain(even, estimates):
    for field in estimates:
        assert field.dtype == np.float32
        assert field.min() >= 0.2
        assert field.max() <= 5
        assert np.log(field[even[1]]).mean() == pytest.approx(0, abs=1e-4)


def test_field_is_smooth_across_the_brains_border(estimates):
    for field in estimates:
        for axis in range(3):
            assert np.abs(np.diff(np.log(field), axis=axis)).max() < 0.1  # per 2.5 mm


def test_the_same_scan_gives_the_same_bytes(even, estimates):
    np.testing.assert_array_equal(estimate_bias_field(*even), estimates[0])


def test_zeros_and_negatives_inside_the_brain_do_no_harm(even, estimates):
    volume, mask = even
    rng = np.random.default_rng(0)
    broken = volume.voxels.copy()
    broken[mask & (rng.random(volume.shape) < 0.02)] = 0
    broken[mask & (rng.random(volume.shape) < 0.02)] = -300
    field = estimate_bias_field(volume.with_voxels(broken), mask)
    assert np.abs(np.log(field[mask]) - np.log(estimates[0][mask])).max() < 0.3


def test_a_brain_without_signal_has_no_bias(even):
    volume, mask = even
    np.testing.assert_allclose(estimate_bias_field(volume.with_voxels(-volume.voxels), mask), 1)
