"""Compressed scans are verified to their last byte, and never fill the memory."""

import gzip
import io
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.findings import ScanFault
from mrharmony.scans.reading import check_scan, read_scan
from mrharmony.scans.stream import PIECE_BYTES, decompress


def content(data: bytes):
    return b"".join(decompress(io.BytesIO(data), []))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(0, 200_000))
def test_members_in_a_row_are_one_content_and_padding_is_none(members, padding):
    stream = b"".join(map(gzip.compress, members)) + b"\0" * padding
    assert content(stream) == b"".join(members)


@given(st.binary(max_size=2000), st.data())
def test_every_truncation_is_noticed(data, draw):
    stream = gzip.compress(data)
    cut = draw.draw(st.integers(1, len(stream) - 1))
    with pytest.raises(ScanFault) as fault:
        content(stream[:cut])
    assert fault.value.findings[0].code == "truncated-gzip"


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_a_bit_that_flips_is_noticed_or_changes_nothing(data, draw):
    stream = bytearray(gzip.compress(data))
    position = draw.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        assert content(bytes(stream)) == data
    except ScanFault as fault:
        assert fault.findings[0].level == "error"


def test_a_bomb_comes_in_small_pieces():
    bomb = gzip.compress(bytes(50 * 2**20))
    tracemalloc.start()
    for piece in decompress(io.BytesIO(bomb), []):
        assert len(piece) <= PIECE_BYTES
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * PIECE_BYTES


def test_a_truncated_scan_is_refused_even_if_only_its_trailer_is_missing(make, levels):
    path = make.nifti("scan.nii.gz")
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert levels(check_scan(path)) == {"truncated-gzip": "error"}


@pytest.mark.parametrize(("position", "what"), [(-6, "data check"), (-2, "length check"), (60, "")])
def test_a_corrupt_scan_is_refused(make, levels, position, what):
    path = make.nifti("scan.nii.gz")
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)
    findings = check_scan(path)
    assert levels(findings) == {"corrupt-gzip": "error"}
    assert what in findings[-1].message


def test_a_scan_in_several_members_is_read(make):
    data = make.nifti_bytes()
    path = make.folder / "scan.nii.gz"
    path.write_bytes(gzip.compress(data[:1000]) + gzip.compress(b"") + gzip.compress(data[1000:]))
    np.testing.assert_array_equal(read_scan(path).volume.voxels, make.voxels())
    assert check_scan(path) == ()


def test_a_damaged_later_member_is_noticed(make, levels):
    path = make.nifti("scan.nii.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(b"footer")[:-3])
    assert levels(check_scan(path))["truncated-gzip"] == "error"


def test_foreign_bytes_after_the_end_are_a_warning_and_zeros_are_not(make, levels):
    path = make.nifti("scan.nii.gz")
    whole = path.read_bytes()
    path.write_bytes(whole + b"garbage")
    assert levels(check_scan(path)) == {"gzip-trailing-bytes": "warning"}
    np.testing.assert_array_equal(read_scan(path).volume.voxels, make.voxels())
    path.write_bytes(whole + bytes(70_000))
    assert check_scan(path) == ()


def test_a_bomb_behind_the_voxels_is_refused_without_unpacking_it(make, levels):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path = make.folder / "scan.nii.gz"
    with path.open("wb") as stream:
        stream.write(packer.compress(make.nifti_bytes()))
        for _ in range(80):
            stream.write(packer.compress(bytes(2**20)))
        stream.write(packer.flush())
    tracemalloc.start()
    findings = check_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels(findings) == {"decompression-bomb": "error"}
    assert peak < 8 * 2**20
