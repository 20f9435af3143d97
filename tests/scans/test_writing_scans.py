"""Outputs lie where their scan lies, to the bit; they appear whole or not at all, and name nobody."""

import gzip
import itertools
import json
import os

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mrharmony.core.atomic import StagedFile
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.scans.reading import read_scan
from mrharmony.scans.writing import is_ours, write_scan

ORDERS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def round_trip(path, out):
    scan = read_scan(path)
    write_scan(out, scan.volume.voxels * np.float32(1.5), scan, None)
    return scan, nib.load(path), nib.load(out)


def assert_same_geometry(before, after):
    """Equal to the bit in all that places the voxels, and in nothing but that by accident."""
    assert after.shape == before.shape[:3]
    assert after.affine.tobytes() == before.affine.tobytes()
    assert after.header.get_zooms() == before.header.get_zooms()[:3]
    assert nib.aff2axcodes(after.affine) == nib.aff2axcodes(before.affine)


def unzipped(path):
    return gzip.decompress(path.read_bytes())


def save_with_forms(make, sform, qform, kind=nib.Nifti1Image, name="in.nii"):
    image = kind(make.voxels(), make.affine)
    image.set_sform(sform, 1 if sform is not None else 0)
    image.set_qform(qform, 1 if qform is not None else 0)
    nib.save(image, make.folder / name)
    return make.folder / name


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_any_stored_type_comes_back_as_unscaled_float32_on_the_same_grid(make, dtype, kind):
    path = make.nifti(voxels=make.voxels(dtype=dtype), kind=kind)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    assert isinstance(after, kind)
    assert after.get_data_dtype() == np.float32
    raw = kind.header_class(unzipped(make.folder / "out.nii.gz")[: kind.header_class.sizeof_hdr])
    assert (float(raw["scl_slope"]), float(raw["scl_inter"])) == (1, 0)
    np.testing.assert_array_equal(after.get_fdata(), before.get_fdata() * 1.5)


@given(
    st.sampled_from(ORDERS),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.floats(-150, 150)] * 3),
    st.sampled_from(["both", "sform", "qform"]),
    st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
@settings(max_examples=60, deadline=None)
def test_any_axis_order_and_obliquity_is_kept_to_the_bit(
    make_shared, order, angles, zooms, origin, forms, kind
):
    permutation, flips = order
    affine = np.eye(4)
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, permutation] * flips
    affine[:3, :3], affine[:3, 3] = axes * zooms, origin
    path = save_with_forms(
        make_shared, affine if forms != "qform" else None, affine if forms != "sform" else None, kind
    )
    scan, before, after = round_trip(path, make_shared.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    assert scan.volume.affine.tobytes() == before.affine.tobytes()


def test_all_geometry_fields_are_kept_verbatim_where_the_forms_agree(make):
    affine = make.affine.copy()
    affine[:3, :3] = Rotation.from_euler("xyz", (7, -11, 23), degrees=True).as_matrix() @ affine[:3, :3]
    path = make.nifti(affine=affine, sform_code=4, qform_code=2, xyzt_units=10)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    qform = ["qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"]
    for field in [*qform, "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"]:
        assert after.header[field].tobytes() == before.header[field].tobytes(), field
    assert after.header["pixdim"][:4].tobytes() == before.header["pixdim"][:4].tobytes()


def test_a_big_endian_scan_is_kept_to_the_bit(make):
    image = nib.Nifti1Image(make.voxels(), make.affine, nib.Nifti1Header(endianness=">"))
    path = make.file("in.nii", image.to_bytes())
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert before.header.endianness == ">"
    assert_same_geometry(before, after)


def test_a_missing_qform_is_added_from_the_sform(make):
    path = save_with_forms(make, make.affine, None)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    np.testing.assert_allclose(after.get_qform(coded=True)[0], make.affine, atol=1e-5)


def test_a_missing_sform_is_added_where_float32_holds_it_and_otherwise_not(make):
    path = save_with_forms(make, None, make.affine)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    assert int(after.header["sform_code"]) == 1
    oblique = make.affine.copy()
    oblique[:3, :3] = Rotation.from_euler("z", 10, degrees=True).as_matrix() @ oblique[:3, :3]
    path = save_with_forms(make, None, oblique)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    assert int(after.header["sform_code"]) == 0


def test_forms_that_disagree_become_the_sform_twice(make):
    shifted = make.affine.copy()
    shifted[:3, 3] += 7
    path = save_with_forms(make, make.affine, shifted)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    np.testing.assert_allclose(after.get_qform(coded=True)[0], make.affine, atol=1e-5)


def test_a_qform_without_sense_is_replaced(make):
    path = make.nifti(quatern_b=1, quatern_c=1)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    np.testing.assert_allclose(after.get_qform(coded=True)[0], make.affine, atol=1e-5)


def test_zooms_that_contradict_the_affine_are_kept(make):
    path = make.nifti(pixdim=[-1, 2, 2, 2, 0, 0, 0, 0], qform_code=0)
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)


def test_a_scan_with_assumed_orientation_keeps_its_silent_header(make):
    path = make.nifti(sform_code=0, qform_code=0)
    scan = read_scan(path, assume_ras=True)
    write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, None)
    after = nib.load(make.folder / "out.nii.gz")
    assert_same_geometry(nib.load(path), after)
    assert (int(after.header["sform_code"]), int(after.header["qform_code"])) == (0, 0)


def test_a_squeezed_volume_is_written_as_3d(make):
    path = make.nifti(voxels=make.voxels((*make.shape, 1, 1)))
    _, before, after = round_trip(path, make.folder / "out.nii.gz")
    assert_same_geometry(before, after)
    assert after.ndim == 3


def test_nothing_that_may_name_the_patient_is_carried_over(make):
    image = nib.Nifti1Image(make.voxels(), make.affine)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"Jane Roe"
    image.header["cal_max"] = 99
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Roe, 1970"))
    path = make.file("in.nii.gz", image.to_bytes())
    assert b"Jane Roe" in unzipped(path)
    _, _, after = round_trip(path, make.folder / "out.nii.gz")
    assert b"Jane" not in unzipped(make.folder / "out.nii.gz")
    assert len(after.header.extensions) == 0
    assert (float(after.header["cal_min"]), float(after.header["cal_max"])) == (0, 0)


def test_equal_voxels_give_equal_bytes_without_name_and_time(make):
    scan = read_scan(make.nifti())
    for name in ("a.nii.gz", "b.nii.gz"):
        write_scan(make.folder / name, scan.volume.voxels, scan, {"a": 1})
    first = (make.folder / "a.nii.gz").read_bytes()
    assert first == (make.folder / "b.nii.gz").read_bytes()
    assert first[3] == 0  # no name flag
    assert first[4:8] == bytes(4)  # no time
    assert (make.folder / "a.json").read_bytes() == (make.folder / "b.json").read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_without_value_are_never_written(make, value):
    scan = read_scan(make.nifti())
    voxels = scan.volume.voxels.astype(np.float64)
    voxels[3, 4, 5] = value
    with pytest.raises(ValueError, match="finite"):
        write_scan(make.folder / "out.nii.gz", voxels, scan, {})
    assert sorted(path.name for path in make.folder.iterdir()) == ["scan.nii"]


def test_voxels_of_another_shape_are_not_written(make):
    scan = read_scan(make.nifti())
    with pytest.raises(ValueError, match="shape"):
        write_scan(make.folder / "out.nii.gz", scan.volume.voxels[1:], scan, None)


def test_the_sidecar_lies_beside_the_image_in_a_folder_that_is_made(make):
    scan = read_scan(make.nifti())
    out = make.folder / "new" / "ünï cödé" / "sub-01_T1w.nii.gz"
    write_scan(out, scan.volume.voxels, scan, {"Sources": ["été"], "Score": 0.5})
    assert json.loads(out.with_name("sub-01_T1w.json").read_text("utf-8")) == {
        "Sources": ["été"],
        "Score": 0.5,
        "ImageSHA256": file_sha256(out),
    }
    assert sorted(path.name for path in out.parent.iterdir()) == ["sub-01_T1w.json", "sub-01_T1w.nii.gz"]


def test_a_sidecar_with_nan_is_not_written(make):
    scan = read_scan(make.nifti())
    with pytest.raises(ValueError, match="JSON"):
        write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, {"drift": float("nan")})
    assert not (make.folder / "out.nii.gz").exists()


def test_a_stale_sidecar_does_not_outlive_its_image(make):
    scan = read_scan(make.nifti())
    write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, {"a": 1})
    write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, None)
    assert not (make.folder / "out.json").exists()


def test_files_get_the_permissions_that_the_user_has_chosen(make):
    scan = read_scan(make.nifti())
    mask = os.umask(0o027)
    try:
        write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, {})
    finally:
        os.umask(mask)
    assert (make.folder / "out.nii.gz").stat().st_mode & 0o777 == 0o640
    assert (make.folder / "out.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failing", ["fill", "commit"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_image_and_nothing_else(make, monkeypatch, failing, failure):
    scan, out = read_scan(make.nifti()), make.folder / "out.nii.gz"
    write_scan(out, scan.volume.voxels, scan, None)
    old = out.read_bytes()
    names = sorted(make.folder.iterdir())

    def fail(*_):
        raise failure

    monkeypatch.setattr(os, "fsync", fail) if failing == "fill" else monkeypatch.setattr(
        type(out), "replace", fail
    )
    with pytest.raises((MrharmonyError, KeyboardInterrupt)):
        write_scan(out, scan.volume.voxels * 2, scan, {"a": 1})
    assert out.read_bytes() == old
    assert sorted(make.folder.iterdir()) == names


def test_a_failure_before_the_rename_keeps_the_old_pair(make, monkeypatch):
    scan, out = read_scan(make.nifti()), make.folder / "out.nii.gz"
    write_scan(out, scan.volume.voxels, scan, {"run": 1})
    old = out.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(MrharmonyError, match=r"out\.nii\.gz: cannot be written \(Input/output error\)"):
        write_scan(out, scan.volume.voxels * 2, scan, {"run": 2})
    assert out.read_bytes() == old
    assert json.loads((make.folder / "out.json").read_text())["run"] == 1


def test_the_sidecar_comes_last(make, monkeypatch):
    scan, out = read_scan(make.nifti()), make.folder / "out.nii.gz"
    write_scan(out, scan.volume.voxels, scan, {"run": 1})
    order = []
    commit = StagedFile.commit

    def recorded(staged):
        order.append((staged.target.name, (make.folder / "out.json").exists()))
        commit(staged)

    monkeypatch.setattr(StagedFile, "commit", recorded)
    write_scan(out, scan.volume.voxels, scan, {"run": 2})
    assert order == [("out.nii.gz", False), ("out.json", False)]


@pytest.mark.parametrize("name", ["out.nii", "out.mgz", "out", "out.gz"])
def test_a_name_that_is_not_nii_gz_is_refused(make, name):
    scan = read_scan(make.nifti())
    with pytest.raises(MrharmonyError, match=r"ends in \.nii\.gz"):
        write_scan(make.folder / name, scan.volume.voxels, scan, None)


def test_a_scan_is_never_overwritten_by_its_own_output(make):
    scan = read_scan(make.nifti("scan.nii.gz"))
    (make.folder / "link.nii.gz").symlink_to(scan.path)
    for name in ("scan.nii.gz", "link.nii.gz"):
        with pytest.raises(MrharmonyError, match="overwrite the scan itself"):
            write_scan(make.folder / name, scan.volume.voxels, scan, None)


def test_a_folder_in_the_way_is_told(make):
    scan = read_scan(make.nifti())
    (make.folder / "out.nii.gz").mkdir()
    with pytest.raises(MrharmonyError, match="cannot be written"):
        write_scan(make.folder / "out.nii.gz", scan.volume.voxels, scan, None)
    with pytest.raises(MrharmonyError, match="cannot be written"):
        write_scan(scan.path / "out.nii.gz", scan.volume.voxels, scan, None)


def test_an_image_of_ours_is_known_by_its_header(make):
    scan, out = read_scan(make.nifti("scan.nii.gz")), make.folder / "out.nii.gz"
    write_scan(out, scan.volume.voxels, scan, None)
    assert is_ours(out)
    assert not is_ours(scan.path)
    out.write_bytes(b"of another program")
    assert not is_ours(out)
    assert not is_ours(make.folder / "missing.nii.gz")


def test_files_are_hardly_larger_than_those_of_gzip(make, tmp_path):
    scan = read_scan(make.nifti("scan.nii.gz"))
    rng = np.random.default_rng(0)
    voxels = np.where(rng.random(scan.volume.shape) < 0.4, rng.normal(800, 90, scan.volume.shape), 0)
    write_scan(tmp_path / "out.nii.gz", voxels.astype(np.float32), scan, None)
    plain = gzip.compress(unzipped(tmp_path / "out.nii.gz"), 1)
    assert (tmp_path / "out.nii.gz").stat().st_size < 1.02 * len(plain)
