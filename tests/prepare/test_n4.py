"""N4 gives the field that ITK's N4 gives."""

import ants
import numpy as np
import pytest

from mrharmony.prepare.n4 import log_bias_field


def shaded_brain(shape, seed):
    """An ellipsoid of three tissues with noise under a smooth field, and its mask."""
    rng = np.random.default_rng(seed)
    x, y, z = (np.linspace(-1, 1, size).reshape(np.roll((-1, 1, 1), a)) for a, size in enumerate(shape))
    mask = x**2 + y**2 + z**2 < 0.8
    tissue = np.array([0.3, 0.7, 1.0])[(np.sin(9 * x) + np.cos(8 * y) + np.sin(7 * z) + 3).astype(int) // 2]
    noisy = tissue + 0.03 * rng.standard_normal(shape)
    return np.where(mask, noisy * np.exp(0.3 * x - 0.2 * y * z), 0).astype(np.float32), mask


@pytest.mark.parametrize("shape", [(40, 48, 40), (41, 47, 36)])
def test_the_field_is_that_of_itk(shape):
    image, mask = shaded_brain(shape, seed=1)
    as_itk = ants.n4_bias_field_correction(
        ants.from_numpy(image, spacing=(4.0,) * 3),
        mask=ants.from_numpy(mask.astype(np.float32), spacing=(4.0,) * 3),
        shrink_factor=2,
        convergence={"iters": [50, 50, 50], "tol": 1e-4},
        return_bias_field=True,
    ).numpy()
    np.testing.assert_allclose(log_bias_field(image, mask)[mask], np.log(as_itk)[mask], atol=1e-4)
    assert np.log(as_itk)[mask].std() > 0.05


def test_an_image_without_contrast_has_no_field():
    image, mask = shaded_brain((12, 12, 12), seed=0)
    assert not log_bias_field(np.where(mask, 1, image), mask).any()
    assert not log_bias_field(image, np.zeros_like(mask)).any()
