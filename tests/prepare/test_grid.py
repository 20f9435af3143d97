import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from mrharmony.space.grid import CANONICAL_GRID, Grid
from mrharmony.space.template import template, template_brain_mask

coordinate = st.floats(-100, 100, allow_nan=False, width=32)


def test_canonical_grid_is_the_papers():
    assert CANONICAL_GRID.shape == (160, 224, 160)
    assert CANONICAL_GRID.zooms == (1.0, 1.0, 1.0)


def test_the_template_which_is_larger_than_most_brains_fits_with_room_on_all_sides():
    brain = apply_affine(template().affine, np.argwhere(template_brain_mask()))
    voxels = CANONICAL_GRID.voxel_of(brain)
    room_below, room_above = voxels.min(axis=0), np.array(CANONICAL_GRID.shape) - 1 - voxels.max(axis=0)
    assert min(room_below.min(), room_above.min()) > 2
    np.testing.assert_allclose(room_below, room_above, atol=1)


@pytest.mark.parametrize("zoom", [2.0, 4.0])
def test_working_voxels_are_averages_of_whole_canonical_voxels(zoom):
    working, block = Grid.working(zoom), int(zoom)
    fine = CANONICAL_GRID.positions()[:block, :block, :block].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(working.positions()[0, 0, 0], fine)
    assert tuple(np.array(working.shape) * block) == CANONICAL_GRID.shape


def test_mirrored_indices_are_mirrored_positions():
    positions = Grid.working(2).positions()
    np.testing.assert_array_equal(positions[::-1, :, :, 0], -positions[..., 0])


@pytest.mark.parametrize("zoom", [3.0, 0.0, -1.0])
def test_voxels_that_do_not_fill_the_field_of_view_are_refused(zoom):
    with pytest.raises(ValueError, match="field of view"):
        Grid.working(zoom)


def test_rotated_and_reversed_affines_are_refused():
    with pytest.raises(ValueError, match="positive diagonal"):
        Grid((2, 2, 2), np.diag([-1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="positive diagonal"):
        Grid((2, 2, 2), np.eye(4)[[1, 0, 2, 3]])


def test_positions_and_voxels_are_inverse_at_every_voxel():
    grid = Grid.working(8)
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    np.testing.assert_allclose(grid.voxel_of(grid.positions()), voxels, atol=1e-4)


@given(st.tuples(coordinate, coordinate, coordinate), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_position_of_the_voxel_of_a_position_is_the_position(position, zoom):
    grid = Grid.working(zoom)
    voxel = grid.voxel_of(np.array(position, np.float32))
    np.testing.assert_allclose(apply_affine(grid.affine, voxel), position, atol=1e-3)
