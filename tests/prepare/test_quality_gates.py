"""What the gates say of good brains, bad masks and other contrasts."""

from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import binary_dilation, binary_erosion

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.preparation.alignment import Alignment, align_to_template
from mrharmony.preparation.quality import MaskQuality, mask_quality, quality_findings

AS_IT_LIES = Alignment(np.eye(4), 1.0, 0.97)


@pytest.fixture(scope="module")
def good(head) -> MaskQuality:
    volume, mask = head
    return mask_quality(volume, mask, align_to_template(volume, mask))


def codes(quality: MaskQuality) -> list[str]:
    return [finding.code for finding in quality_findings(quality)]


def figures(volume: Volume, mask: BoolArray) -> MaskQuality:
    return mask_quality(volume, mask, AS_IT_LIES)


def test_the_templates_own_head_passes_every_gate(good):
    assert quality_findings(good) == ()
    assert good.one_piece == 1
    assert good.symmetry > 0.98
    assert good.template_dice > 0.97
    assert good.white_to_grey > 1.1


def test_a_mask_that_takes_in_the_scalp_has_an_unclear_border(head):
    volume, mask = head
    assert "unclear-border" in codes(figures(volume, binary_dilation(mask, iterations=7)))


def test_a_mask_that_cuts_the_brain_has_a_less_clear_border(head, good):
    volume, mask = head
    cut = figures(volume, binary_erosion(mask, iterations=8))
    assert cut.border_contrast < good.border_contrast - 0.15


@pytest.mark.parametrize("stripped", [False, True])
def test_a_mask_that_is_too_small_has_brain_around_it(head, stripped):
    volume, mask = head
    brain = volume.with_voxels(np.where(mask, volume.voxels, 0)) if stripped else volume
    small = mask.copy()
    while small.sum() > 0.77 * mask.sum():
        small = binary_erosion(small)
    assert "mask-too-small" in codes(figures(brain, small))
    assert "mask-too-small" not in codes(figures(brain, mask))


def test_a_mask_of_coarse_voxels_that_is_one_too_small_has_brain_around_it(head):
    volume, mask = head
    step = round(5 / volume.zooms[0])
    coarse = (slice(None, None, step),) * 3
    affine = volume.affine @ np.diag([step, step, step, 1])
    scan, whole = Volume(volume.voxels[coarse], affine), mask[coarse]
    assert "mask-too-small" not in codes(figures(scan, whole))
    assert "mask-too-small" in codes(figures(scan, binary_erosion(whole)))


def test_a_mask_that_fills_the_field_of_view_has_nothing_around_it(head):
    volume, mask = head
    all_of_it = figures(volume, np.ones_like(mask))
    assert (all_of_it.darkness_around, all_of_it.closed_surface) == (1, 1)


def _without_cerebellum(where: np.ndarray) -> BoolArray:
    return (where[..., 2] < -22) & (where[..., 1] < -35)


def _without_temporal_pole(where: np.ndarray) -> BoolArray:
    return (where[..., 0] < -20) & (where[..., 2] < 0) & (where[..., 1] > -25)


def _without_occipital_rear(where: np.ndarray) -> BoolArray:
    return where[..., 1] < -75


@pytest.mark.parametrize("lost", [_without_cerebellum, _without_temporal_pole, _without_occipital_rear])
def test_a_mask_that_lacks_a_part_of_the_brain_is_told_in_noise_too(head, lost):
    volume, mask = head
    sd = 0.1 * np.median(volume.voxels[mask])
    scan = volume.with_voxels(np.abs(volume.voxels + np.random.default_rng(0).normal(0, sd, mask.shape)))
    where = apply_affine(volume.affine, np.moveaxis(np.indices(mask.shape), 0, -1))
    assert "mask-lacks-part" not in codes(figures(scan, mask))
    assert "mask-lacks-part" in codes(figures(scan, mask & ~lost(where)))


def test_a_mask_without_a_part_of_one_hemisphere_is_lopsided(head):
    volume, mask = head
    half = mask.copy()
    half[: mask.shape[0] // 2, : mask.shape[1] // 2] = False
    assert "lopsided-mask" in codes(figures(volume, half))


def test_a_head_whose_axes_the_header_exchanges_is_told(head, good):
    volume, mask = head
    lying, brain = Volume(volume.voxels.swapaxes(0, 2), volume.affine), mask.swapaxes(0, 2)
    turned = mask_quality(lying, brain, align_to_template(lying, brain))
    assert codes(turned) == ["head-turned"]
    assert 80 < turned.turned < 100
    assert good.turned < 5
    assert codes(replace(good, turned=59.0)) == []


def test_a_figure_just_below_its_limit_reads_as_less(good):
    (finding,) = quality_findings(replace(good, symmetry=0.9299))
    assert "is 0.92 only (usual: at least 0.93)" in finding.message


def test_a_mask_with_far_pieces_is_scattered(head):
    volume, mask = head
    scattered = mask.copy()
    scattered[:, :, :8] = True
    assert "scattered-mask" in codes(figures(volume, scattered))


def test_inverted_contrast_is_refused(head):
    volume, mask = head
    inverted = volume.with_voxels(np.where(mask, volume.voxels.max() - volume.voxels, 0))
    with pytest.raises(MrharmonyError, match="white matter is darker"):
        quality_findings(figures(inverted, mask))


def test_a_brain_upside_down_is_refused(brain):
    volume, mask = brain
    flipped = Volume(volume.voxels, np.diag([1.0, -1.0, -1.0, 1.0]) @ volume.affine)
    with pytest.raises(MrharmonyError, match="upside down or back to front"):
        quality_findings(mask_quality(flipped, mask, align_to_template(flipped, mask)))


def test_a_brain_whose_voxels_run_front_to_back_is_refused(brain):
    volume, mask = brain
    flipped, there = volume.with_voxels(volume.voxels[:, ::-1].copy()), mask[:, ::-1].copy()
    with pytest.raises(MrharmonyError, match="upside down or back to front"):
        quality_findings(mask_quality(flipped, there, align_to_template(flipped, there)))


def test_a_brain_without_contrast_is_refused(head, good):
    volume, mask = head
    even = mask_quality(volume.with_voxels(mask.astype(np.float32)), mask, AS_IT_LIES)
    with pytest.raises(MrharmonyError, match="inside is unlike a T1w image"):
        quality_findings(replace(good, inside=even.inside, overturned=even.overturned))


def test_an_unusual_inside_is_refused_only_where_white_matter_is_hardly_brighter(good):
    with pytest.raises(MrharmonyError, match="no FLAIR"):
        quality_findings(replace(good, inside=0.62, overturned=0.3, white_to_grey=1.1))
    lesions = replace(good, inside=0.62, overturned=0.3, white_to_grey=1.3)
    assert codes(lesions) == ["unlike-template-inside"]


def test_an_unusual_brain_gets_a_warning_with_its_figure_and_what_is_usual(good):
    (finding,) = quality_findings(replace(good, similarity=0.92))
    assert (finding.level, finding.code) == ("warning", "unlike-template")
    assert "0.92" in finding.message


def test_what_was_found_and_is_unlike_a_brain_asks_for_a_mask(good):
    with pytest.raises(MrharmonyError, match=r"what was found is unlike a brain.*or give a brain mask"):
        quality_findings(replace(good, similarity=0.87))


def test_a_face_of_the_field_of_view_is_no_border(head):
    volume, mask = head
    middle = mask.shape[2] // 2
    above = Volume(volume.voxels[:, :, middle:], volume.affine)
    whole = figures(volume, mask).border_contrast
    assert figures(above, mask[:, :, middle:]).border_contrast == pytest.approx(whole, abs=0.1)
