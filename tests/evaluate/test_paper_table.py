"""The paper's Table 2: its layout, its own numbers, and scores that agree with known ones."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.paper import (
    PaperRow,
    as_picture,
    image_scores,
    paper_table,
    slice_places,
    slice_scores,
    tone_distance,
    tone_quantiles,
)


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
    assert scores.images == 5


def test_images_of_a_slice_are_each_compared_with_that_slice(slices):
    _, truth = slices
    offsets = np.array([0.1, 0.2, 0.3], np.float32)
    images = truth[None] + offsets[:, None, None, None]
    scores = image_scores(images, truth)
    squares = np.repeat(offsets, 5) ** 2
    assert scores.images == 15
    assert (scores.mse, scores.mse_sd, scores.mse_best) == pytest.approx(
        (squares.mean(), squares.std(), 0.01), rel=1e-5
    )
    one = image_scores(images[:, [2]], truth[[2]])
    assert (one.images, one.mse_sd) == (3, pytest.approx(squares.std(), rel=1e-5))


def test_table_has_a_line_a_row_and_the_papers_own_numbers(slices):
    ours, same = slice_scores(*slices), slice_scores(slices[1], slices[1])
    rows = [PaperRow("A to B", "ours", ours, same, 0.25), PaperRow("A to B", "none", same)]
    lines = paper_table(rows).splitlines()
    assert len(lines) == 6
    assert all(line.count("|") == 11 for line in lines)
    assert lines[2].startswith("| A to B | ours | 5 | ")
    assert lines[2].endswith("| 1.000 | 0.0000 | 0.250 |")
    assert lines[3] == "| A to B | none | 5 | 1.000 (± 0.000) | 1.000 | 0.000 (± 0.000) | 0.000 | – | – | – |"
    paper = "| 100 | 0.581 (± 0.046) | 0.652 | 0.038 (± 0.023) | 0.023 | – | – | – |"
    assert lines[4] == f"| ADNI2 to ADNI3 | the paper, Table 2 {paper}"
    without_truth = paper_table([PaperRow("A to B", "ours", ours)]).splitlines()
    assert all(line.count("|") == 9 for line in without_truth)


def test_a_shift_of_all_intensities_is_its_own_tone_distance(slices):
    _, truth = slices
    masks = np.zeros(truth.shape, bool)
    masks[:, 4:16, 4:16] = True
    tones = np.stack([tone_quantiles(truth[[n]], masks[[n]]) for n in range(len(truth))])
    assert tone_distance(truth[None], masks, tones) == 0
    outside = np.where(masks, truth, 7)
    assert tone_distance(outside[None], masks, tones) == 0
    assert tone_distance(truth[None] + np.float32(0.1), masks, tones) == pytest.approx(0.1, rel=1e-5)


def test_pictures_are_in_the_range_of_one_and_slices_in_the_brain(scan_at_a):
    stack = np.moveaxis(scan_at_a.mask, 1, 0)
    places = slice_places(stack, count=10, seed=2500)
    assert np.array_equal(places, slice_places(stack, count=10, seed=2500))
    assert len(set(places)) == 10
    filled = stack.sum(axis=(1, 2))
    assert filled[places].min() >= filled.max() / 2
    pictures = as_picture(np.moveaxis(scan_at_a.volume.voxels, 1, 0)[places])
    assert pictures.min() == 0
    assert 0.7 < pictures.max() <= 1


def test_more_slices_than_there_are_is_refused(scan_at_a):
    with pytest.raises(MrharmonyError, match="ask for fewer"):
        slice_places(scan_at_a.mask, count=1000, seed=0)


def test_slices_of_other_shapes_are_refused(slices):
    with pytest.raises(MrharmonyError, match="one shape"):
        slice_scores(slices[0], slices[1][:, :10])
