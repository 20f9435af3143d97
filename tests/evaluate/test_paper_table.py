"""The paper's Table 2: its layout, its own numbers, and scores that agree with known ones."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mrharmony.evaluate import SliceRow, coronal_slices, paper_table, slice_scores
from mrharmony.volume import MrharmonyError


@pytest.fixture
def slices():
    rng = np.random.default_rng(0)
    truth = rng.random((5, 20, 24)).astype(np.float32)
    noise = np.linspace(0.02, 0.2, 5)[:, None, None]
    return np.clip(truth + noise * rng.standard_normal(truth.shape), 0, 1).astype(np.float32), truth


def test_mean_deviation_and_best_are_those_over_slices(slices):
    scores = slice_scores(*slices)
    ssim = [structural_similarity(*pair, data_range=1.0) for pair in zip(*slices, strict=True)]
    mse = ((slices[0].astype(float) - slices[1]) ** 2).mean(axis=(1, 2))
    assert (scores.ssim, scores.ssim_sd, scores.ssim_best) == pytest.approx(
        (np.mean(ssim), np.std(ssim), max(ssim))
    )
    assert (scores.mse, scores.mse_sd, scores.mse_best) == pytest.approx((mse.mean(), mse.std(), mse.min()))
    assert scores.slices == 5


def test_table_has_a_line_a_row_and_the_papers_own_numbers(slices):
    lines = paper_table([SliceRow("ours", *slices), SliceRow("nothing", slices[1], slices[1])]).splitlines()
    assert len(lines) == 6
    assert all(line.count("|") == 7 for line in lines)
    assert lines[2].startswith("| ours | 5 | ")
    assert lines[3] == "| nothing | 5 | 1.000 (± 0.000) | 1.000 | 0.000 (± 0.000) | 0.000 |"
    paper = "| ADNI2 to ADNI3 (paper, Table 2) | 100 | 0.581 (± 0.046) | 0.652 | 0.038 (± 0.023) | 0.023 |"
    assert lines[4] == paper


def test_slices_are_whole_images_in_the_range_of_one(scan_at_a):
    images = coronal_slices(scan_at_a, count=10, seed=2500)
    assert images.shape == (10, 80, 80)
    assert images.min() == 0
    assert 0.7 < images.max() <= 1
    assert np.array_equal(images, coronal_slices(scan_at_a, count=10, seed=2500))


def test_more_slices_than_there_are_is_refused(scan_at_a):
    with pytest.raises(MrharmonyError, match="ask for fewer"):
        coronal_slices(scan_at_a, count=1000, seed=0)


def test_slices_of_other_shapes_are_refused(slices):
    with pytest.raises(MrharmonyError, match="one shape"):
        slice_scores(slices[0], slices[1][:, :10])
