"""FreeSurfer's files are read like NIfTI, and come out as NIfTI."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.writing import write_scan


@pytest.mark.parametrize("name", ["scan.mgz", "scan.mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_voxels_and_affine_are_those_that_nibabel_reads(make, name, dtype):
    path = make.mgh(name, make.voxels(dtype=dtype))
    scan, loaded = read_scan(path), nib.load(path)
    assert scan.findings == ()
    np.testing.assert_array_equal(scan.volume.voxels, loaded.get_fdata())
    np.testing.assert_array_equal(scan.volume.affine, loaded.affine)


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.floats(-99, 99)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_the_output_is_nifti_with_the_same_geometry_to_the_bit(make_shared, angles, zooms, origin):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * zooms
    affine[:3, 3] = origin
    path, out = make_shared.mgh(affine=affine), make_shared.folder / "out.nii.gz"
    scan = read_scan(path)
    write_scan(out, scan.volume.voxels, scan, None)
    before, after = nib.load(path), nib.load(out)
    assert after.affine.tobytes() == before.affine.tobytes() == scan.volume.affine.tobytes()
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.shape == before.shape
    assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (1, 1)
    assert after.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())


def test_sheared_axes_are_not_forced_into_a_qform(make):
    affine = make.affine.copy()
    affine[1, 2] = 0.5
    path = make.mgh(affine=affine)
    scan, out = read_scan(path), make.folder / "out.nii.gz"
    write_scan(out, scan.volume.voxels, scan, None)
    assert int(nib.load(out).header["qform_code"]) == 0
    np.testing.assert_array_equal(nib.load(out).affine, scan.volume.affine)


def test_a_footer_is_no_trailing_data(make):
    path = make.mgh("scan.mgh")
    path.write_bytes(path.read_bytes() + b"tags of FreeSurfer")
    assert check_scan(path) == ()


def test_a_scan_without_orientation_is_refused_until_the_user_vouches(make, levels):
    path = make.mgh(goodRASFlag=0)
    assert levels(check_scan(path)) == {"missing-affine": "error"}
    scan, out = read_scan(path, assume_ras=True), make.folder / "out.nii.gz"
    assert scan.volume.orientation == "RAS"
    write_scan(out, scan.volume.voxels, scan, None)
    assert (int(nib.load(out).header["sform_code"]), int(nib.load(out).header["qform_code"])) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"version": 2}, "wrong-magic"),
        ({"type": 2}, "unsupported-datatype"),
        ({"dims": [12, 14, 10, 2]}, "many-volumes"),
        ({"dims": [12, 0, 10, 1]}, "bad-dimensions"),
        ({"dims": [30000, 30000, 30000, 1]}, "absurd-size"),
        ({"dims": [700, 700, 700, 1]}, "impossible-size"),
        ({"dims": [12, 14, 11, 1]}, "truncated-data"),
        ({"delta": [1, 0, 1]}, "singular-affine"),
        ({"Mdc": np.full((3, 3), np.nan)}, "non-finite-affine"),
    ],
)
def test_malformed_headers_are_refused(make, levels, fields, code):
    assert levels(check_scan(make.mgh(**fields)))[code] == "error"


def test_nifti_under_the_name_of_mgh_is_refused(make, levels):
    assert levels(check_scan(make.file("scan.mgz", make.nifti_bytes()))) == {"wrong-magic": "error"}
