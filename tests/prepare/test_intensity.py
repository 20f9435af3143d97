import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.findings import MrharmonyError
from mrharmony.space.intensity import intensity_scale


@pytest.fixture(scope="module")
def intensities(brain) -> np.ndarray:
    volume, mask = brain
    return volume.voxels[mask]


@given(st.floats(1e-3, 1e4))
def test_scale_grows_with_the_intensities(intensities, gain):
    assert intensity_scale(gain * intensities) == pytest.approx(gain * intensity_scale(intensities), rel=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_a_random_part_of_the_brain_has_the_scale_of_the_whole(intensities, seed):
    part = np.random.default_rng(seed).choice(intensities, 5000)
    assert intensity_scale(part) == pytest.approx(intensity_scale(intensities), rel=0.03)


def test_outliers_and_noise_hardly_move_it(intensities):
    rng = np.random.default_rng(0)
    scale = intensity_scale(intensities)
    vessels = np.concatenate([intensities, np.full(intensities.size // 100, 50 * scale)])
    assert intensity_scale(vessels) == pytest.approx(scale, rel=0.02)
    assert intensity_scale(intensities + rng.normal(0, 0.05 * scale, intensities.size)) == pytest.approx(
        scale, rel=0.02
    )


def test_enlarged_ventricles_hardly_move_it(intensities):
    scale = intensity_scale(intensities)
    fluid = np.random.default_rng(0).random(intensities.size) < 0.1
    assert intensity_scale(np.where(fluid, 0.1 * scale, intensities)) == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [-1.0, -2.0], [np.nan, 1.0]])
def test_a_brain_without_intensities_is_refused(values):
    with pytest.raises(MrharmonyError, match="no positive intensities"):
        intensity_scale(np.array(values))
