"""Scan and rescan: the floor is small, and not zero."""

import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.anatomy import repeat_floor


def test_the_floor_of_two_scans_of_one_head(scan_at_a, rescan_at_a):
    floor = repeat_floor([(scan_at_a, rescan_at_a)])
    assert floor.heads == 1
    assert 28 < floor.scores.psnr < 45
    assert all(0 < size < 5 for size in floor.volume_difference_percent.values())
    assert all(0.93 < dice < 1 for dice in floor.dice.values())
    assert floor.displacement_mm < 0.3


def test_a_scan_and_itself_have_no_floor(scan_at_a):
    floor = repeat_floor([(scan_at_a, scan_at_a)])
    assert floor.scores.mse == 0
    assert set(floor.volume_difference_percent.values()) == {0.0}


def test_no_pair_is_refused():
    with pytest.raises(MrharmonyError, match="scanned twice"):
        repeat_floor([])
