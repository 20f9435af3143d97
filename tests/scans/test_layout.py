"""Headers that announce no single, real, three-dimensional volume are refused before memory is taken."""

import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.findings import ScanRefused
from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.stream import Storage
from mrharmony.scans.voxels import MAX_VOXELS, Layout, check_size


def dim(*sizes):
    return [len(sizes), *sizes, *[1] * (7 - len(sizes))]


@pytest.mark.parametrize("extra", [(1,), (1, 1)])
def test_one_volume_in_more_axes_is_squeezed_and_said(make, levels, extra):
    path = make.nifti(voxels=make.voxels((*make.shape, *extra)))
    scan = read_scan(path)
    assert levels(scan.findings) == {"squeezed": "info"}
    assert scan.volume.shape == make.shape
    np.testing.assert_array_equal(scan.volume.voxels, nib.load(path).get_fdata().squeeze())


@pytest.mark.parametrize("extra", [(2,), (1, 3)])
def test_several_volumes_are_refused(make, levels, extra):
    path = make.nifti(voxels=make.voxels((*make.shape, *extra)))
    assert levels(check_scan(path)) == {"many-volumes": "error"}


@pytest.mark.parametrize("shape", [(40,), (40, 40)])
def test_fewer_than_three_axes_are_refused(make, levels, shape):
    path = make.nifti(voxels=make.voxels(shape))
    assert levels(check_scan(path)) == {"not-3d": "error"}


@pytest.mark.parametrize("shape", [(40, 40, 7), (1, 40, 40)])
def test_a_thin_axis_is_refused(make, levels, shape):
    path = make.nifti(voxels=make.voxels(shape))
    assert levels(check_scan(path)) == {"too-thin": "error"}


@pytest.mark.parametrize(
    "dimensions", [[0] * 8, [8] + [12] * 7, [-3] + [12] * 7, dim(12, 0, 9), dim(12, -4, 9)]
)
def test_dimensions_without_sense_are_refused(make, levels, dimensions):
    assert levels(check_scan(make.nifti(dim=dimensions))) == {"bad-dimensions": "error"}


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_an_absurd_size_is_refused_before_memory_is_taken(make, levels, name):
    path = make.nifti(name, dim=dim(30000, 30000, 30000))
    tracemalloc.start()
    findings = check_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels(findings) == {"absurd-size": "error"}
    assert peak < 4 * 2**20


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_more_voxels_than_the_file_can_hold_are_refused_before_memory_is_taken(make, levels, name):
    path = make.nifti(name, dim=dim(700, 700, 700))
    tracemalloc.start()
    findings = check_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels(findings) == {"impossible-size": "error"}
    assert peak < 4 * 2**20


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mgz"])
def test_a_tiny_file_that_claims_a_huge_head_is_refused_before_it_is_unpacked(make, levels, name):
    sizes = {"dims": [700, 700, 700, 1], "type": 0} if "mgz" in name else {"dim": dim(700, 700, 700)}
    write = make.mgh if "mgz" in name else make.nifti
    path = write(name, make.voxels(dtype=np.uint8), **sizes)
    with path.open("ab") as stream:
        stream.truncate(400_000)  # as large as 700³ zeros are when they are compressed
    tracemalloc.start()
    findings = check_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels(findings) == {"impossible-size": "error"}
    assert "343,000,000 voxels" in findings[-1].message
    assert peak < 4 * 2**20


def test_an_image_that_nibabel_has_opened_is_judged_before_its_voxels_are_read(make, levels):
    path = make.nifti("scan.nii.gz", dim=dim(12, 14, 10, 20000))
    assert levels(check_scan(nib.load(path))) == {"many-volumes": "error", "impossible-size": "error"}
    lazy = nib.load(make.nifti("gone.nii.gz"))
    Path(lazy.get_filename()).write_bytes(b"no longer gzip")
    assert levels(check_scan(lazy))["unreadable"] == "error"


@pytest.mark.parametrize("name", ["gone.nii", "gone.nii.gz"])
def test_an_image_that_nibabel_has_opened_is_refused_by_its_file(make, name):
    lazy = nib.load(make.nifti(name))
    Path(lazy.get_filename()).unlink()
    with pytest.raises(ScanRefused, match=rf"{name}: It cannot be read \(No such file") as refused:
        read_scan(lazy)
    assert refused.value.path == Path(lazy.get_filename())


def test_the_largest_scan_that_is_promised_passes():
    sizes = {"offset": 352, "min_offset": 352, "slope": 1.0, "inter": 0.0, "has_footer": False}
    layout = Layout((880, 880, 640), "int16", np.dtype("<i2"), storage=Storage(2**40), **sizes)
    assert layout.voxel_count < MAX_VOXELS
    assert list(check_size(layout)) == []


def test_truncated_uncompressed_data_are_refused(make, levels):
    path = make.nifti()
    path.write_bytes(path.read_bytes()[:-1])
    assert levels(check_scan(path)) == {"impossible-size": "error"}
    path.write_bytes(path.read_bytes()[:200])
    assert levels(check_scan(path)) == {"truncated-data": "error"}


def test_compressed_data_that_end_early_but_soundly_are_refused(make, levels):
    path = make.file("scan.nii.gz", make.nifti_bytes()[:-1])
    assert levels(check_scan(path)) == {"truncated-data": "error"}


def test_data_after_the_voxels_are_a_warning(make, levels):
    path = make.file("scan.nii.gz", make.nifti_bytes() + b"more")
    assert levels(check_scan(path)) == {"trailing-data": "warning"}
    assert read_scan(path).volume.shape == make.shape


def test_content_of_another_format_is_refused(make, levels):
    for content in (
        b"<html>" * 200,
        bytes(1000),
        make.nifti_bytes(magic=b"xyz"),
        make.nifti_bytes(magic=b""),
    ):
        assert levels(check_scan(make.file("scan.nii.gz", content))) == {"wrong-magic": "error"}


def test_content_compressed_twice_is_told(make):
    inner = make.nifti("inner.nii.gz").read_bytes()
    (finding,) = check_scan(make.file("scan.nii.gz", inner))
    assert finding.code == "wrong-magic"
    assert "twice" in finding.message


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_header_of_a_pair_is_refused_whatever_its_name(make, levels, kind):
    magic = b"ni1" if kind is nib.Nifti1Image else b"ni2"
    assert levels(check_scan(make.nifti(kind=kind, magic=magic))) == {"split-image": "error"}


@pytest.mark.parametrize("fields", [[("R", "u1"), ("G", "u1"), ("B", "u1")], [(c, "u1") for c in "RGBA"]])
def test_colours_are_refused(make, levels, fields):
    path = make.nifti(voxels=np.zeros(make.shape, dtype=fields))
    assert levels(check_scan(path)) == {"colour-data": "error"}


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(make, levels, dtype):
    assert levels(check_scan(make.nifti(voxels=make.voxels(dtype=dtype)))) == {"complex-data": "error"}


@pytest.mark.parametrize("code", [0, 1, 255, 1536, 7777])
def test_types_that_nobody_reads_are_refused(make, levels, code):
    assert levels(check_scan(make.nifti(datatype=code))) == {"unsupported-datatype": "error"}


def test_an_axis_that_no_head_needs_is_refused(make, levels):
    assert levels(check_scan(make.mgh(dims=[40000, 12, 10, 1]))) == {"absurd-size": "error"}


@pytest.mark.parametrize("offset", [0, 348, -1, 352.5, np.nan, np.inf, -np.inf, 1e30])
def test_voxels_that_start_nowhere_are_refused(make, levels, offset):
    assert levels(check_scan(make.nifti(vox_offset=offset))) == {"bad-offset": "error"}


@pytest.mark.parametrize("slope", [np.nan, np.inf])
def test_a_slope_without_value_is_ignored_with_a_warning(make, levels, slope):
    path = make.nifti(scl_slope=slope, scl_inter=np.nan)
    assert levels(check_scan(path)) == {"bad-scaling": "warning"}
    np.testing.assert_array_equal(read_scan(path).volume.voxels, make.voxels())


def test_an_intercept_without_value_is_refused(make, levels):
    assert levels(check_scan(make.nifti(scl_slope=2, scl_inter=np.nan))) == {"bad-scaling": "error"}


def test_repairs_that_nibabel_makes_are_told(make, levels):
    assert levels(check_scan(make.nifti(bitpix=99))) == {"header-repaired": "info"}
    assert levels(check_scan(make.nifti(qform_code=77))) == {"header-repaired": "warning"}
