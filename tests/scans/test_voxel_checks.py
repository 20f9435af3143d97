"""Intensities that no T1w scan has are found."""

import numpy as np
import pytest

from mrharmony.scans.reading import check_scan, read_scan


def with_values(make, *values):
    voxels = make.voxels(dtype=np.float64)
    voxels.flat[: len(values)] = values
    return voxels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_without_value_are_counted_and_refused(make, levels, dtype):
    path = make.nifti(voxels=with_values(make, np.nan, np.inf, -np.inf).astype(dtype))
    findings = check_scan(path)
    assert levels(findings) == {"non-finite-voxels": "error"}
    assert findings[0].message.endswith("3 (0.18%) hold NaN or infinity.")


def test_intensities_beyond_float32_are_refused(make, levels):
    assert levels(check_scan(make.nifti(voxels=with_values(make, 1e300)))) == {"intensity-overflow": "error"}
    assert levels(check_scan(make.nifti(scl_slope=1e38, scl_inter=0))) == {"intensity-overflow": "error"}


def test_an_image_of_nothing_but_nan_is_refused(make, levels):
    path = make.nifti(voxels=np.full(make.shape, np.nan, np.float32))
    assert levels(check_scan(path))["non-finite-voxels"] == "error"


@pytest.mark.parametrize("value", [0, 7, -7])
def test_a_constant_image_is_refused(make, levels, value):
    path = make.nifti(voxels=np.full(make.shape, value, np.int16))
    assert levels(check_scan(path))["constant-image"] == "error"


def test_a_label_map_is_refused(make, levels):
    assert levels(check_scan(make.nifti(voxels=make.voxels() % 19))) == {"few-grey-levels": "error"}


def test_few_grey_levels_are_a_warning(make, levels):
    assert levels(check_scan(make.nifti(voxels=make.voxels() % 20))) == {"few-grey-levels": "warning"}
    assert levels(check_scan(make.nifti(voxels=make.voxels() % 63))) == {"few-grey-levels": "warning"}
    assert check_scan(make.nifti(voxels=make.voxels() % 64)) == ()


def test_a_large_image_with_contrast_in_few_voxels_is_not_a_label_map(make, levels):
    voxels = np.zeros((160, 160, 100), np.int16)  # large enough for grey levels to be sampled
    voxels[1::2, 0, 0] = np.arange(100, 180)
    assert check_scan(make.nifti(voxels=voxels)) == ()


def test_a_few_negative_intensities_are_a_warning(make, levels):
    path = make.nifti(voxels=with_values(make, -3, -8))
    findings = check_scan(path)
    assert levels(findings) == {"negative-intensities": "warning"}
    assert "2 voxels are negative, down to -8" in findings[0].message
    assert read_scan(path).volume.voxels.min() == -8


def test_mostly_negative_intensities_are_refused(make, levels):
    assert levels(check_scan(make.nifti(voxels=make.voxels() - 100))) == {"mostly-negative": "error"}
    assert levels(check_scan(make.nifti(scl_slope=-1, scl_inter=0))) == {"mostly-negative": "error"}


@pytest.mark.parametrize(
    ("least", "remedy"),
    [
        (-1000, "All of them are -1000: if that is the background, give a copy with 0 there."),
        (-1001, "Give the magnitude image as the scanner made it, not a z-scored, phase or CT image."),
    ],
)
def test_a_background_of_one_negative_value_is_known(make, least, remedy):
    voxels = np.where(make.voxels() < 90, -1000, make.voxels())
    voxels.flat[0] = least
    fixes = {finding.code: finding.fix for finding in check_scan(make.nifti(voxels=voxels.astype(np.int16)))}
    assert fixes["mostly-negative"] == remedy


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_of_64_bits_are_a_warning_while_float32_holds_them(make, levels, dtype):
    voxels = make.voxels(dtype=dtype) * 2**17
    voxels.flat[0] = 2**24
    path = make.nifti(voxels=voxels)
    assert levels(check_scan(path)) == {"integer64": "warning"}
    np.testing.assert_array_equal(read_scan(path).volume.voxels, voxels)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.int64, 2**24 + 1), (np.int64, -(2**24) - 1), (np.int64, -(2**63)), (np.uint64, 2**64 - 1)],
)
def test_integers_of_64_bits_that_float32_cannot_hold_are_refused(make, levels, dtype, value):
    voxels = make.voxels(dtype=dtype)
    voxels.flat[0] = value
    assert levels(check_scan(make.nifti(voxels=voxels)))["integer64"] == "error"


@pytest.mark.parametrize("factor", [1e18, 1e30, 1e-30])
def test_intensities_whose_squares_leave_float32_are_refused(make, levels, factor):
    path = make.nifti(voxels=(make.voxels() * factor).astype(np.float32))
    assert levels(check_scan(path)) == {"intensity-range": "error"}


def test_hot_voxels_are_counted_and_read_as_the_brightest_of_the_others(make, levels):
    sound = read_scan(make.nifti(voxels=with_values(make))).volume.voxels
    hot = with_values(make)
    hot[3, 4, 5] = 1e8
    scan = read_scan(make.nifti(voxels=hot))
    assert levels(scan.findings) == {"hot-voxels": "warning"}
    assert "1 voxels are over" in scan.findings[0].message
    difference = np.argwhere(scan.volume.voxels != sound)
    assert difference.tolist() == [[3, 4, 5]]
    assert 100 < scan.volume.voxels[3, 4, 5] <= 120


def test_a_centred_mp2rage_image_is_recognised_and_shifted(make, levels):
    uniform = (make.voxels() / 119 - 0.5).astype(np.float32)
    scan = read_scan(make.nifti(voxels=uniform))
    assert levels(scan.findings) == {"centred-mp2rage": "warning"}
    np.testing.assert_array_equal(scan.volume.voxels, uniform + np.float32(0.5))
    assert levels(check_scan(make.nifti(voxels=uniform * 6))) == {"mostly-negative": "error"}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("value", [0, 7])
def test_blank_slices_between_slices_of_the_head_are_told(make, levels, axis, value):
    voxels = make.voxels()
    slices = np.moveaxis(voxels, axis, 0)
    slices[3:5] = value
    findings = check_scan(make.nifti(voxels=voxels))
    assert levels(findings) == {"blank-slices": "warning"}
    assert f"along voxel axis {axis + 1}, 2 are blank" in findings[0].message
    assert "number 4." in findings[0].message


def test_blank_slices_outside_the_head_are_no_matter(make, levels):
    voxels = make.voxels()
    voxels[:2] = voxels[-2:] = voxels[:, :, -1:] = 0
    voxels[0, 0, 0] = 9  # a single bright voxel of air is no head
    assert levels(check_scan(make.nifti(voxels=voxels))) == {}
    voxels[:2] = voxels[-2:] = voxels[:, :, -1:] = voxels.max() / 2  # a background may have any value
    assert levels(check_scan(make.nifti(voxels=voxels))) == {}
