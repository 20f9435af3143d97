"""Outputs are named after their scan."""

import pytest

from mrharmony.scans.names import output_stem, scan_suffix


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-01_T1w.nii.gz", "sub-01"),
        ("folder.v2/sub-01_ses-a_run-1_T1w.nii", "sub-01_ses-a_run-1"),
        ("T1.mgz", "T1"),
        ("T1w.nii.gz", "T1w"),
        ("my head.v2.NII.GZ", "my head.v2"),
        ("orig.mgh", "orig"),
    ],
)
def test_an_output_is_named_after_the_scan_without_suffix_and_t1w(name, stem):
    assert output_stem(name) == stem


def test_the_longest_suffix_counts():
    assert scan_suffix("a.nii.gz") == ".nii.gz"
    assert scan_suffix("a.NII") == ".nii"
    assert scan_suffix("a.gz") is None
