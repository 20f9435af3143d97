"""Paired scores agree with scikit-image's and MONAI's on the same voxels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import MSEMetric, PSNRMetric
from monai.metrics.regression import compute_ssim_and_cs
from skimage.metrics import mean_squared_error as reference_mse
from skimage.metrics import peak_signal_noise_ratio as reference_psnr
from skimage.metrics import structural_similarity as reference_ssim

from mrharmony.evaluate.paired import (
    mean_squared_error,
    paired_scores,
    peak_ratio,
    room_share,
    summarize_identity,
)

SHAPE = (30, 26, 28)
WINDOW_RADIUS = 5  # voxels, of the Gaussian window


def pair(seed):
    """Two alike images and a mask of any size, which may touch the border."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1.2, SHAPE).astype(np.float32)
    output = (truth + 0.1 * rng.standard_normal(SHAPE)).astype(np.float32)
    centre, radius = rng.uniform(0, 26, 3), rng.uniform(2, 20)
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1)
    return output, truth, distance <= max(radius, distance.min())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), data_range=st.sampled_from([1.0, 1.3]))
def test_mse_and_psnr_agree_with_scikit_image_on_the_masked_voxels(seed, data_range):
    output, truth, mask = pair(seed)
    scores = paired_scores(output, truth, mask, data_range)
    inside = truth[mask].astype(float), output[mask].astype(float)
    assert scores.mse == pytest.approx(reference_mse(*inside), abs=1e-6)
    assert scores.psnr == pytest.approx(reference_psnr(*inside, data_range=data_range), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_ssim_agrees_with_scikit_image_on_the_whole_image(seed):
    output, truth, mask = pair(seed)
    _, whole = reference_ssim(
        np.where(mask, output, 0).astype(float),
        np.where(mask, truth, 0).astype(float),
        data_range=1.0,
        full=True,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert paired_scores(output, truth, mask).ssim == pytest.approx(whole[mask].mean(), abs=1e-6)


def test_equal_images_are_perfect():
    _, truth, mask = pair(1)
    scores = paired_scores(truth, truth, mask)
    assert (scores.mse, scores.psnr) == (0.0, float("inf"))
    assert scores.ssim == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_images_that_differ_by_rounding_are_exact_and_at_most_perfect(seed):
    truth = np.random.default_rng(seed).random((16, 16, 16), dtype=np.float32)
    scores = paired_scores(truth * np.float32(1 + 1e-7), truth, np.ones(truth.shape, bool))
    assert scores.mse > 0 and scores.ssim <= 1
    assert summarize_identity([scores]).exact == 1


def test_what_lies_outside_the_mask_does_not_count():
    output, truth, mask = pair(2)
    spoiled = np.where(mask, output, 99).astype(np.float32)
    assert paired_scores(spoiled, truth, mask) == paired_scores(output, truth, mask)


def test_known_error_has_the_known_scores():
    truth = np.zeros((12, 12, 12), dtype=np.float32)
    mask = np.ones(truth.shape, dtype=bool)
    assert mean_squared_error(truth + 0.1, truth, mask) == pytest.approx(0.01)
    assert peak_ratio(0.01) == pytest.approx(20.0)
    assert peak_ratio(0.01, data_range=10.0) == pytest.approx(40.0)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (5, 6, 7), (11, 11, 11)])
def test_a_mask_of_one_voxel_is_scored_anywhere(voxel):
    truth = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    mask = np.zeros(truth.shape, dtype=bool)
    mask[voxel] = True
    assert paired_scores(truth, truth, mask).ssim == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_monai_on_the_same_mask_and_range(seed):
    """MONAI has no mask and drops the rim of windows: the masked images, read inside the mask."""
    output, truth, _ = pair(seed)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[WINDOW_RADIUS:-WINDOW_RADIUS, WINDOW_RADIUS:-WINDOW_RADIUS, WINDOW_RADIUS:-WINDOW_RADIUS] = True
    images = [torch.from_numpy(np.where(inside, image, 0))[None, None] for image in (output, truth)]
    window = {"kernel_size": (2 * WINDOW_RADIUS + 1,) * 3, "kernel_sigma": (1.5,) * 3}
    similarity, _ = compute_ssim_and_cs(*images, spatial_dims=3, data_range=1.0, **window)
    scores = paired_scores(output, truth, inside)
    assert scores.ssim == pytest.approx(float(similarity.double().mean()), abs=1e-6)
    voxels = [torch.from_numpy(image[inside].astype(float))[None] for image in (output, truth)]
    assert scores.mse == pytest.approx(MSEMetric()(*voxels).item(), abs=1e-6)
    assert scores.psnr == pytest.approx(PSNRMetric(max_val=1.0)(*voxels).item(), abs=1e-6)


def test_share_of_the_room_between_the_best_simple_method_and_the_ceiling():
    assert room_share(27.0, 26.0, 30.0) == pytest.approx(0.25)
    assert room_share(26.0, 26.0, 30.0) == 0
    assert room_share(30.0, 26.0, 30.0) == 1
    assert room_share(24.0, 26.0, 30.0) == pytest.approx(-0.5)


@pytest.mark.parametrize("ceiling", [26.0, 25.0, float("inf")])
def test_without_room_there_is_no_share_of_it(ceiling):
    assert room_share(27.0, 26.0, ceiling) is None
