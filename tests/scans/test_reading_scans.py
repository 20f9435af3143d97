"""What is read is what nibabel reads, in one quiet pass."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.core.findings import ScanRefused, finding_record
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.reading import check_scan, read_brain_mask, read_scan

STORED = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_voxels_and_affine_are_those_that_nibabel_reads(make, dtype, kind, name):
    path = make.nifti(name, voxels=make.voxels(dtype=dtype), kind=kind)
    scan, loaded = read_scan(path), nib.load(path)
    assert scan.findings == ()
    np.testing.assert_array_equal(scan.volume.voxels, loaded.get_fdata())
    np.testing.assert_array_equal(scan.volume.affine, loaded.affine)


@given(
    st.floats(2**-20, 2**20, width=32),
    st.floats(0, 10),
    st.sampled_from(STORED),
    st.sampled_from("<>"),
)
@settings(max_examples=40, deadline=None)
def test_scaling_and_byte_order_are_those_that_nibabel_reads(make_shared, slope, share, dtype, order):
    header = nib.Nifti1Header(endianness=order)
    image = nib.Nifti1Image(make_shared.voxels(dtype=dtype), make_shared.affine, header, dtype=dtype)
    image.header["scl_slope"], image.header["scl_inter"] = slope, slope * share
    path = make_shared.file("scaled.nii", image.to_bytes())
    loaded = nib.load(path)
    assert loaded.header.endianness == order
    np.testing.assert_array_equal(read_scan(path).volume.voxels, np.float32(loaded.get_fdata()))


def test_extensions_before_the_voxels_are_skipped(make):
    image = nib.Nifti1Image(make.voxels(), make.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    path = make.file("scan.nii.gz", image.to_bytes())
    np.testing.assert_array_equal(read_scan(path).volume.voxels, make.voxels())


def test_nothing_of_nibabel_reaches_the_user(make, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    for fields in ({"qform_code": 77}, {"scl_slope": 1e38}, {"srow_x": [np.nan] * 4}, {"datatype": 999}):
        assert check_scan(make.nifti(**fields))
    assert (caplog.records, list(recwarn), capfd.readouterr()) == ([], [], ("", ""))


def test_all_findings_come_at_once(make, levels):
    path = make.nifti("scan.nii.gz", voxels=-make.voxels(), srow_x=[np.nan] * 4, xyzt_units=1)
    path.write_bytes(path.read_bytes() + b"garbage")
    assert levels(check_scan(path)) == {
        "non-finite-affine": "error",
        "odd-units": "warning",
        "mostly-negative": "error",
        "gzip-trailing-bytes": "warning",
    }


def test_findings_are_easy_to_print_and_to_store(make):
    (finding,) = check_scan(make.nifti(xyzt_units=1))
    record = json.loads(json.dumps(finding_record(finding)))
    assert set(record) == {"level", "code", "message", "fix"}
    assert (record["level"], record["code"]) == ("warning", "odd-units")
    assert not any("\n" in text for text in record.values())


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_the_hash_is_that_of_the_bytes_that_were_read_whatever_becomes_of_the_file(make, name):
    path = make.mgh(name) if "mgz" in name else make.nifti(name)
    path.write_bytes(path.read_bytes() + b"foreign bytes" * 20_000)
    read = hashlib.sha256(path.read_bytes()).hexdigest()
    scan = read_scan(path)
    path.write_bytes(b"another scan")
    assert scan.sha256 == read


def test_an_image_in_memory_has_no_hash(make):
    assert read_scan(nib.Nifti1Image(make.voxels(), make.affine)).sha256 is None


def test_a_whole_head_is_read_within_three_seconds(make):
    grid = np.indices((256, 256, 256), dtype=np.int16)
    path = make.nifti("head.nii.gz", voxels=(grid[0] * 3 + grid[1] + grid[2] % 7).astype(np.int16))
    start = time.process_time()
    assert read_scan(path).volume.shape == (256, 256, 256)
    assert time.process_time() - start < 3


LITTLE_MEMORY = """
import resource, sys
from mrharmony.scans.reading import check_scan
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
print([finding.code for finding in check_scan(sys.argv[1])])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process so")
def test_a_scan_larger_than_the_memory_is_a_finding(make):
    path = make.nifti(dim=[3, 600, 600, 600, 1, 1, 1, 1], datatype=2, bitpix=8)
    with path.open("r+b") as stream:
        stream.truncate(352 + 600**3)  # sparse: takes no room on the disk
    run = [sys.executable, "-c", LITTLE_MEMORY, str(path)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "['out-of-memory']\n"


@pytest.mark.skipif("MRHARMONY_DATA" not in os.environ, reason="MRHARMONY_DATA names no real scans")
def test_real_scans_are_read_without_warnings():
    scans = BidsIndex.open(os.environ["MRHARMONY_DATA"]).scans
    for scan in scans:
        assert [finding for finding in check_scan(scan.path) if finding.level != "info"] == []


_BALL = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 13  # 1.15 l in voxels of 5 mm
_NOISE = np.random.default_rng(0).uniform(0.1, 1, _BALL.shape).astype(np.float32)


def _mask_beside_a_scan(voxels: np.ndarray):
    affine = np.diag([5.0, 5, 5, 1])
    return read_brain_mask(nib.Nifti1Image(voxels, affine), read_scan(nib.Nifti1Image(_NOISE, affine)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_in_memory_that_the_header_cannot_hold_are_refused(bad: float):
    header = nib.Nifti1Image(_BALL.astype(np.int16), np.eye(4)).header
    voxels = _NOISE.astype(np.float32)
    voxels[0, 0, 0] = bad
    image = nib.Nifti1Image(voxels, np.diag([5.0, 5, 5, 1]), header)
    with pytest.raises(ScanRefused, match=r"Not all voxels are finite: 1 \("):
        read_scan(image)


def test_a_masked_array_is_refused():
    masked = np.ma.masked_less(_NOISE, 0.5)
    with pytest.raises(ScanRefused, match="masked array"):
        read_scan(nib.Nifti1Image(masked, np.diag([5.0, 5, 5, 1])))


def test_a_mask_without_orientation_is_told_to_take_the_header_of_the_scan(tmp_path):
    affine = np.diag([5.0, 5, 5, 1])
    lost = nib.Nifti1Image(_BALL.astype(np.uint8), None)
    nib.save(lost, tmp_path / "mask.nii.gz")
    nib.save(nib.Nifti1Image(_NOISE, affine), tmp_path / "scan.nii.gz")
    with pytest.raises(ScanRefused, match=r"Give it the header of scan\.nii\.gz") as refused:
        read_brain_mask(tmp_path / "mask.nii.gz", read_scan(tmp_path / "scan.nii.gz"))
    assert "assume_ras" not in str(refused.value)


@pytest.mark.parametrize(
    ("voxels", "codes"),
    [
        (_BALL.astype(np.uint8), []),
        (255 * _BALL.astype(np.uint8), []),
        (0.7 * _BALL.astype(np.float32), []),
        (_BALL * (1 + np.arange(32, dtype=np.int16) % 7), []),  # tissues
        (_BALL * _NOISE, ["many-valued-mask"]),
    ],
)
def test_voxels_above_0_of_a_mask_are_brain_and_an_image_as_mask_is_told(voxels, codes):
    mask, findings = _mask_beside_a_scan(voxels)
    np.testing.assert_array_equal(mask, _BALL)
    assert [finding.code for finding in findings] == codes


@pytest.mark.parametrize(
    "voxels", [_NOISE, np.zeros_like(_NOISE), _BALL * _NOISE - 0.9, 1 - _BALL.astype(np.uint8)]
)
def test_a_mask_that_cannot_be_a_brain_is_refused(voxels):
    with pytest.raises(
        ScanRefused, match=r"Its voxels above 0 hold \d+ ml and \d+% of the scan's grid; .* Give a"
    ):
        _mask_beside_a_scan(voxels)
