"""A volume's arrays are read-only, and nothing that is made of it follows a later change of the caller's."""

import numpy as np
import pytest

import mrharmony


@pytest.fixture
def voxels():
    return np.random.default_rng(0).uniform(1, 100, (24, 24, 24)).astype(np.float32)


def test_the_arrays_of_a_volume_cannot_be_written(voxels):
    volume = mrharmony.Volume(voxels, np.eye(4))
    for array in (volume.voxels, volume.affine):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0
    voxels[0, 0, 0] = 0  # the caller's own array is still the caller's


def test_only_voxels_that_have_the_type_already_are_not_copied(voxels):
    affine = np.diag([2.0, 2, 2, 1])
    assert np.shares_memory(mrharmony.Volume(voxels, affine).voxels, voxels)
    doubles = voxels.astype(np.float64)
    volume = mrharmony.Volume(doubles, affine)
    doubles[:], affine[:] = 0, np.eye(4)
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.zooms == (2, 2, 2)


def test_a_scan_that_was_read_from_a_volume_is_a_copy(voxels):
    expected = voxels.copy()
    scan = mrharmony.load(mrharmony.Volume(voxels, np.diag([4.0, 4, 4, 1])))
    voxels[:] = 0
    np.testing.assert_array_equal(scan.volume.voxels, expected)


def test_the_volume_of_a_sheared_voxel_is_that_of_its_parallelepiped(voxels):
    sheared = np.array([[1.0, 0.5, 0, 0], [0, -2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    volume = mrharmony.Volume(voxels, sheared)
    assert volume.voxel_mm3 == pytest.approx(6)
    assert np.prod(volume.zooms) > 6.1
