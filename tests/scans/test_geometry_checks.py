"""Where a scan lies is doubted where its header contradicts itself, and never guessed."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrharmony.core.findings import ScanRefused
from mrharmony.scans.geometry import form_difference
from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.writing import write_scan


def turned(affine, degrees):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return turn @ affine


def save_with_forms(make, sform, qform, name="scan.nii"):
    image = nib.Nifti1Image(make.voxels(), make.affine)
    image.set_sform(sform, 1 if sform is not None else 0)
    image.set_qform(qform, 1 if qform is not None else 0)
    nib.save(image, make.folder / name)
    return make.folder / name


def test_forms_that_disagree_are_told_in_mm_and_degrees_and_the_sform_wins(make, levels):
    shifted = make.affine.copy()
    shifted[:3, 3] += (3, 0, 4)
    path = save_with_forms(make, make.affine, shifted)
    scan = read_scan(path)
    assert levels(scan.findings) == {"forms-disagree": "warning"}
    assert "5.00 mm apart (turned by 0.00°)" in scan.findings[0].message
    np.testing.assert_array_equal(scan.volume.affine, make.affine)


@given(st.floats(-179, 179), st.tuples(*[st.floats(-50, 50)] * 3))
def test_the_difference_of_forms_is_the_rotation_and_the_worst_corner(degrees, shift):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    other = turned(affine, degrees)
    other[:3, 3] += shift
    difference = form_difference(affine, other, (20, 20, 20))
    assert difference.degrees == pytest.approx(abs(degrees), abs=1e-5)
    assert not difference.mirrored
    corners = [np.array([i, j, k, 1.0]) for i in (-0.5, 19.5) for j in (-0.5, 19.5) for k in (-0.5, 19.5)]
    worst = max(np.linalg.norm((affine @ corner - other @ corner)[:3]) for corner in corners)
    assert difference.millimetres == pytest.approx(worst)


def test_forms_that_mirror_each_other_ask_to_check_left_and_right(make):
    mirrored = make.affine @ np.diag([-1.0, 1, 1, 1])
    (finding,) = check_scan(save_with_forms(make, make.affine, mirrored))
    assert "mirror" in finding.message
    assert "left and right" in finding.fix


def test_forms_that_differ_by_rounding_agree(make):
    rounded = make.affine.copy()
    rounded[:3, 3] += 0.05
    assert check_scan(save_with_forms(make, make.affine, rounded)) == ()


def test_a_qform_without_sense_is_a_warning_beside_a_sound_sform(make, levels):
    path = make.nifti(quatern_b=1, quatern_c=1)
    assert levels(check_scan(path)) == {"bad-qform": "warning"}
    assert levels(check_scan(make.nifti(quatern_b=1, quatern_c=1, sform_code=0))) == {
        "non-finite-affine": "error"
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_affine_that_is_not_finite_is_refused(make, levels, value):
    assert levels(check_scan(make.nifti(srow_y=[0, value, 0, 0]))) == {"non-finite-affine": "error"}
    path = make.nifti(sform_code=0, qoffset_x=value)
    assert levels(check_scan(path)) == {"non-finite-affine": "error"}


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [-2, 2.5, 0, 5], [0, 1e-4, 0, 5]])
def test_a_singular_affine_is_refused(make, levels, row):
    path = make.nifti(srow_x=[-1, 1.25, 0, 30], srow_y=row)
    assert levels(check_scan(path)) == {"singular-affine": "error"}


def test_a_scan_that_does_not_say_how_it_lies_is_refused_until_the_user_vouches(make, levels):
    path = make.nifti(sform_code=0, qform_code=0)
    assert levels(check_scan(path)) == {"missing-affine": "error"}
    with pytest.raises(ScanRefused, match="assume_ras=True if"):
        read_scan(path)
    scan = read_scan(path, assume_ras=True)
    assert levels(scan.findings) == {"missing-affine": "warning"}
    assert scan.volume.orientation == "RAS"
    assert scan.volume.zooms == pytest.approx((1, 1.25, 1.5))
    centre = scan.volume.affine @ [*(np.array(make.shape) - 1) / 2, 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-9)


def test_vouching_changes_nothing_for_a_scan_that_says_how_it_lies(make):
    path = make.nifti()
    assert check_scan(path, assume_ras=True) == ()
    np.testing.assert_array_equal(read_scan(path, assume_ras=True).volume.affine, make.affine)


@pytest.mark.parametrize("zooms", [(1, 1, np.nan), (1, 0.05, 1), (1, 1, 11)])
def test_zooms_that_no_head_scan_has_are_refused(make, levels, zooms):
    path = make.nifti(pixdim=[1, *zooms, 1, 1, 1, 1], qform_code=0)
    assert levels(check_scan(path))["bad-zooms"] == "error"


@pytest.mark.parametrize("zooms", [(0, 1.25, 1.5), (-1, 1.25, 1.5), (-1, -1.25, -1.5)])
def test_zooms_that_every_tool_repairs_are_judged_as_repaired_under_a_sound_sform(make, levels, zooms):
    path = make.nifti(pixdim=[1, *zooms, 1, 1, 1, 1])
    assert levels(check_scan(path))["header-repaired"] == "warning"
    scan, loaded = read_scan(path), nib.load(path)
    np.testing.assert_array_equal(scan.volume.affine, loaded.affine)
    assert scan.header.get_zooms() == loaded.header.get_zooms()
    alone = make.nifti(pixdim=[1, *zooms, 1, 1, 1, 1], sform_code=0)
    assert levels(check_scan(alone))["bad-zooms"] == "error"


def test_a_quaternion_too_long_by_rounding_gets_its_length_and_one_of_another_length_does_not(make, levels):
    half = np.float32(np.sqrt((1 + 4.8e-7) / 2))
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        path = make.nifti(kind=kind, sform_code=0, quatern_b=half, quatern_c=half, quatern_d=0)
        assert levels(check_scan(path)) == {"header-repaired": "info"}
        scan = read_scan(path)
        write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, None)
        written = nib.load(make.folder / "out.nii.gz").affine
        np.testing.assert_array_equal(written, scan.volume.affine)
        np.testing.assert_allclose(written[:3, :3], [[0, 1.25, 0], [1, 0, 0], [0, 0, 1.5]], atol=1e-6)
    wrong = make.nifti(sform_code=0, quatern_b=0.8, quatern_c=0.8)
    assert levels(check_scan(wrong)) == {"non-finite-affine": "error"}


@pytest.mark.parametrize("distance", [1.1e4, 1.2e5, -1e30, 3e38])
def test_a_scan_in_another_building_is_refused(make, levels, distance):
    affine = make.affine.copy()
    affine[1, 3] = distance
    path = make.nifti(srow_y=affine[1])
    assert levels(check_scan(path)) == {"far-away": "error"}
    assert levels(check_scan(make.nifti(sform_code=0, qoffset_z=distance))) == {"far-away": "error"}
    assert levels(check_scan(make.mgh(Pxyz_c=[0, distance, 0]))) == {"far-away": "error"}
    assert levels(check_scan(make.nifti(qoffset_z=distance))) == {"bad-qform": "warning"}


def test_a_field_of_view_wider_than_a_scanner_is_refused(make, levels):
    path = make.nifti(voxels=make.voxels((112, 12, 12)), affine=np.diag([9.0, 9, 9, 1]))
    assert levels(check_scan(path)) == {"too-large": "error"}


def test_an_affine_in_metres_is_refused(make, levels):
    affine = np.diag([0.001, 0.001, 0.001, 1])
    assert levels(check_scan(make.nifti(affine=affine, xyzt_units=1))) == {
        "bad-zooms": "error",
        "odd-units": "warning",
    }


def test_units_other_than_mm_are_a_warning_where_the_numbers_are_mm(make, levels):
    assert levels(check_scan(make.nifti(xyzt_units=1))) == {"odd-units": "warning"}
    assert check_scan(make.nifti(xyzt_units=0)) == ()
    assert check_scan(make.nifti(xyzt_units=255)) == ()


def test_zooms_that_contradict_the_affine_are_a_warning(make, levels):
    path = make.nifti(pixdim=[-1, 2, 2, 2, 0, 0, 0, 0], qform_code=0)
    assert levels(check_scan(path)) == {"zooms-mismatch": "warning"}


def test_thick_slices_are_a_warning(make, levels):
    path = make.nifti(affine=np.diag([1.0, 1, 3, 1]))
    assert levels(check_scan(path)) == {"anisotropic": "warning"}


def test_an_oblique_scan_is_told_with_its_angle(make, levels):
    findings = check_scan(make.nifti(affine=turned(make.affine, 12)))
    assert levels(findings) == {"oblique": "info"}
    assert "12.0°" in findings[0].message


def test_sheared_axes_are_a_warning(make, levels):
    sheared = make.affine.copy()
    sheared[1, 2] = 0.2
    path = save_with_forms(make, sheared, None)
    assert levels(check_scan(path))["sheared-affine"] == "warning"


def test_left_handed_axes_in_any_order_are_fine(make):
    for permutation in ([1, 0, 2, 3], [2, 0, 1, 3], [2, 1, 0, 3]):
        assert check_scan(make.nifti(affine=make.affine[permutation] @ np.diag([1, -1.0, 1, 1]))) == ()
