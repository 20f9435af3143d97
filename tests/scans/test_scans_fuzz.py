"""Whatever bytes a file has, checking it ends in findings or in a sound scan, never in an exception."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.core.findings import ScanRefused
from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.writing import write_scan

NAMES = ["fuzz.nii", "fuzz.nii.gz", "fuzz.mgh", "fuzz.mgz"]
HEADER_BYTES = 360


def sound_bytes(make, name, kind):
    return make.mgh("base.mgh").read_bytes() if ".mg" in name else make.nifti_bytes(kind=kind)


def assert_findings_or_scan(make, path):
    findings = check_scan(path)
    refused = any(finding.level == "error" for finding in findings)
    if refused:
        with pytest.raises(ScanRefused):
            read_scan(path)
        return
    shortened = any("quaternion was too long" in finding.message for finding in findings)
    scan, loaded = read_scan(path), loaded_by_nibabel(path, shortened)
    assert scan.findings == findings
    assert_same_affine(scan.volume.affine, loaded.affine, shortened)
    if not {"hot-voxels", "centred-mp2rage"} & {finding.code for finding in findings}:
        np.testing.assert_array_equal(scan.volume.voxels.ravel(), np.float32(loaded.get_fdata()).ravel())
    assert np.isfinite(scan.volume.voxels).all()
    assert np.isfinite(scan.volume.affine).all()
    write_scan(make.folder / "written.nii.gz", scan.volume.voxels, scan, None)
    written = nib.load(make.folder / "written.nii.gz")
    assert_same_affine(written.affine, loaded.affine, shortened)
    assert written.header.get_zooms() == loaded.header.get_zooms()[:3]
    assert np.isfinite(written.get_fdata()).all()


def loaded_by_nibabel(path, lenient):
    """Load an image; leniently also where a quaternion is too long by rounding, which nibabel refuses."""
    with pytest.MonkeyPatch.context() as patch:
        if lenient:
            for header in (nib.Nifti1Header, nib.Nifti2Header):
                patch.setattr(header, "quaternion_threshold", 1e-4)
        return nib.load(path)


def assert_same_affine(ours, theirs, rounded):
    """Assert equal bytes, or equal to single precision."""
    if rounded:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())
    else:
        assert ours.tobytes() == theirs.tobytes()


def test_a_quaternion_that_nibabel_refuses_is_read_as_others_read_it(make_shared):
    content = bytearray(make_shared.nifti_bytes(kind=nib.Nifti1Image))
    content[254], content[260] = 0, 2  # without sform; the quaternion too long by 2.4e-7
    path = make_shared.file("long.nii", bytes(content))
    with pytest.raises(ValueError, match="w2 should be positive"):
        nib.load(path)
    assert not any(finding.level == "error" for finding in check_scan(path))
    assert_findings_or_scan(make_shared, path)


@given(
    st.sampled_from(NAMES),
    st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    st.lists(st.tuples(st.integers(0, HEADER_BYTES), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_headers_with_random_bytes(make_shared, name, kind, mutations):
    content = bytearray(sound_bytes(make_shared, name, kind))
    for position, value in mutations:
        content[position] = value
    assert_findings_or_scan(make_shared, make_shared.file(name, bytes(content)))


FLOATS = [
    "srow_x",
    "srow_y",
    "srow_z",
    "quatern_b",
    "quatern_c",
    "qoffset_y",
    "pixdim",
    "scl_slope",
    "scl_inter",
]
CODES = ["sform_code", "qform_code", "xyzt_units", "datatype", "bitpix", "dim"]
EXTREMES = st.sampled_from([0, -0.0, 1, -1, 0.5, 1e-40, 1e38, -1e38, np.nan, np.inf, -np.inf])


@given(
    st.dictionaries(st.sampled_from(FLOATS), EXTREMES, max_size=3),
    st.dictionaries(st.sampled_from(CODES), st.integers(0, 255), max_size=1),
)
@settings(max_examples=200, deadline=None)
def test_headers_with_extreme_fields(make_shared, floats, codes):
    assert_findings_or_scan(make_shared, make_shared.nifti("fuzz.nii", **floats, **codes))


@given(st.sampled_from(["fuzz.nii.gz", "fuzz.mgz"]), st.data())
@settings(max_examples=200, deadline=None)
def test_compressed_files_with_random_bytes(make_shared, name, data):
    content = bytearray(gzip.compress(sound_bytes(make_shared, name, nib.Nifti1Image)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    (make_shared.folder / name).write_bytes(content[:cut] if cut % 2 else content)
    assert_findings_or_scan(make_shared, make_shared.folder / name)


@given(st.sampled_from(NAMES), st.binary(max_size=1200))
@settings(max_examples=150, deadline=None)
def test_files_of_nothing_but_random_bytes(make_shared, name, content):
    path = make_shared.file(name, content)
    assert any(finding.level == "error" for finding in check_scan(path))


def test_nothing_leaks_while_bytes_are_random(make_shared, recwarn):
    random = np.random.default_rng(0)
    content = make_shared.nifti_bytes()
    for _ in range(100):
        mutated = bytearray(content)
        for position in random.integers(4, 344, 20):
            mutated[position] = random.integers(256)
        check_scan(make_shared.file("fuzz.nii", bytes(mutated)))
    assert list(recwarn) == []
