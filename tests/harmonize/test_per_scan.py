"""What is asked of a scan once: remembered for the same scan, taken anew for another."""

import numpy as np

from helpers.phantoms import GRID, phantom, prepared
from mrharmony.preparation.canonical import brain_on_grid, lies_on


def test_a_result_is_remembered_for_the_same_scan_and_taken_anew_for_an_equal_one():
    asked = []

    def mean(scan):
        asked.append(scan)
        return float(scan.native.voxels.mean())

    scan, twin = prepared(phantom(0)), prepared(phantom(0))
    assert scan.once(mean) == scan.once(mean) == twin.once(mean)
    assert [id(one) for one in asked] == [id(scan), id(twin)]
    scan.once(mean)
    assert len(asked) == 2


def test_a_scan_on_the_template_grid_is_taken_as_it_is_and_agrees_with_resampling():
    scan = prepared(phantom(0))
    assert lies_on(scan, GRID)
    brain = brain_on_grid(scan)
    resampled, mask = scan.canonical(GRID)
    assert np.array_equal(brain.mask, mask)
    assert np.allclose(brain.volume.voxels, resampled.voxels, atol=1e-5)
