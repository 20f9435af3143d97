"""The way to the canonical brain and back, with a given alignment and mask."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.spatial.transform import Rotation

from helpers.template_heads import MARKER, marker_position
from mrharmony.core.volume import Volume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import CANONICAL_GRID, Grid
from mrharmony.space.resampling import array_from_ras, array_to_ras, to_ras

ORDERS = [
    np.column_stack([axes, flips])
    for axes in itertools.permutations(range(3))
    for flips in itertools.product([1, -1], repeat=3)
]
BRAIN_CENTRE = (0.0, -17.0, 5.0)  # of the template, mm, about
angles = st.tuples(*[st.floats(-40, 40)] * 3)
shifts = st.tuples(*[st.floats(-50, 50)] * 3)


def rigid(angle, shift=(0, 0, 0)):
    return from_matvec(Rotation.from_euler("xyz", angle, degrees=True).as_matrix(), shift)


def prepared(volume, mask, rigid_to_template=None, size=1.0):
    field = np.ones(volume.shape, np.float32)
    return PreparedScan(
        volume,
        mask,
        field,
        np.eye(4) if rigid_to_template is None else rigid_to_template,
        400.0,
        True,
        (),
        size,
    )


def reordered(volume, mask, order):
    affine = volume.affine @ inv_ornt_aff(order, volume.shape)
    return Volume(apply_orientation(volume.voxels, order), affine), apply_orientation(mask, order)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order.ravel())))
def test_left_stays_left_in_every_voxel_order(brain, order):
    volume, mask = brain
    grid = Grid.working(4)
    expected, _ = prepared(volume, mask).canonical(grid)
    stored, stored_mask = reordered(volume, mask, order)
    scan = prepared(stored, stored_mask)

    canonical, _ = scan.canonical(grid)
    np.testing.assert_allclose(canonical.voxels, expected.voxels, atol=1e-4)
    np.testing.assert_allclose(marker_position(canonical), MARKER, atol=2)

    # Back: the voxels that lie left in the template are the left ones, in whatever order they are stored.
    found_left = np.zeros(stored.shape, bool)
    found_left[stored_mask] = scan.positions(stored_mask)[:, 0] < 0
    left_half = mask & (np.indices(mask.shape)[0] < 38)
    np.testing.assert_array_equal(found_left, apply_orientation(left_half, order))


@pytest.mark.parametrize("order", ORDERS[::5], ids=lambda order: "".join(map(str, order.ravel())))
def test_a_volume_in_ras_order_is_the_same_bytes_whatever_order_it_came_in(brain, order):
    stored, stored_mask = reordered(*brain, order)
    ras = to_ras(stored)
    assert ras.orientation == "RAS"
    np.testing.assert_array_equal(ras.voxels, brain[0].voxels)
    np.testing.assert_allclose(ras.affine, brain[0].affine, atol=1e-9)
    np.testing.assert_array_equal(array_to_ras(stored_mask, stored), brain[1])
    np.testing.assert_array_equal(array_from_ras(brain[1], stored), stored_mask)


@given(angles, shifts, st.sampled_from(ORDERS))
@settings(max_examples=15, deadline=None)
def test_an_oblique_scan_of_the_same_head_gives_the_same_canonical_brain(brain, angle, shift, order):
    volume, mask = brain
    grid = Grid.working(4)
    expected, _ = prepared(volume, mask).canonical(grid)
    world = rigid(angle, shift)
    stored, stored_mask = reordered(Volume(volume.voxels, world @ volume.affine), mask, order)
    canonical, _ = prepared(stored, stored_mask, np.linalg.inv(world)).canonical(grid)
    np.testing.assert_allclose(canonical.voxels, expected.voxels, atol=1e-3)


@given(angles, shifts, angles, st.tuples(*[st.floats(0.4, 5.0)] * 3), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_positions_lead_back_to_the_very_voxels(angle, shift, oblique, zooms, seed):
    mask = np.random.default_rng(seed).random((9, 7, 8)) < 0.3
    affine = rigid(oblique, (-30, 20, 10)) @ np.diag([*zooms, 1.0])
    scan = prepared(Volume(np.ones(mask.shape, np.float32), affine), mask, rigid(angle, shift))
    back = apply_affine(
        np.linalg.inv(scan.rigid_to_template @ affine), scan.positions(mask).astype(np.float64)
    )
    in_millimetres = (back - np.argwhere(mask)) * zooms
    assert np.abs(in_millimetres).max(initial=0) < 1e-4


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order.ravel())))
@given(
    angles,
    shifts,
    angles,
    st.tuples(*[st.floats(0.4, 5.0)] * 3),
    st.floats(0.6, 1.4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=5, deadline=None)
def test_canonical_points_come_back_through_native_voxels_of_any_order(
    order, angle, shift, oblique, zooms, size, seed
):
    shape = (9, 7, 8)
    ras = Volume(np.zeros(shape, np.float32), rigid(oblique, (-30, 20, 10)) @ np.diag([*zooms, 1.0]))
    stored, everywhere = reordered(ras, np.ones(shape, bool), order)
    scan = prepared(stored, everywhere, rigid(angle, shift), size)
    points = np.random.default_rng(seed).uniform([-80, -129, -75], [80, 95, 85], (20, 3))
    canonical = apply_affine(CANONICAL_GRID.affine, CANONICAL_GRID.voxel_of(points))
    for to_template in (scan.rigid_to_template, scan.volume_corrected):
        to_native = np.linalg.inv(to_template @ stored.affine)
        back = apply_affine(to_template @ stored.affine, apply_affine(to_native, canonical))
        np.testing.assert_allclose(back, points, atol=1e-4)
    # A voxel keeps its place in the template in whatever order it is stored.
    expected = (
        prepared(ras, everywhere, scan.rigid_to_template).positions(np.ones(shape, bool)).reshape(*shape, 3)
    )
    places = scan.positions(everywhere).reshape(*stored.shape, 3)
    for axis in range(3):
        np.testing.assert_allclose(
            places[..., axis], apply_orientation(expected[..., axis], order), atol=1e-4
        )


@pytest.mark.parametrize("order", ORDERS[::7], ids=lambda order: "".join(map(str, order.ravel())))
def test_the_volume_corrected_brain_has_the_templates_size_and_left_on_the_left(brain, order):
    volume, mask = brain
    shrinking = from_matvec(0.8 * np.eye(3), 0.2 * np.array(BRAIN_CENTRE))
    small = Volume(volume.voxels, shrinking @ volume.affine)
    scan = prepared(*reordered(small, mask, order), size=0.8)
    as_it_is, found = (scan.canonical(Grid.working(4), corrected_volume=grown) for grown in (False, True))
    assert found[1].sum() * 0.8**3 == pytest.approx(as_it_is[1].sum(), rel=0.01)
    assert found[1].sum() * 4**3 == pytest.approx(mask.sum() * 2.5**3, rel=0.01)
    np.testing.assert_allclose(marker_position(found[0]), MARKER, atol=3)


@given(st.integers(0, 2**32 - 1), st.sampled_from("CF"), st.sampled_from("CF"))
@settings(max_examples=20, deadline=None)
def test_the_box_of_the_brain_holds_what_the_whole_scan_has_there(seed, order, mask_order):
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random((5, 6, 7)) < rng.choice([0.02, 0.5]), order=mask_order)
    mask[tuple(rng.integers(0, mask.shape))] = True
    voxels, bias = (np.asarray(rng.random(mask.shape, np.float32) + 0.5, order=order) for _ in range(2))
    scan = PreparedScan(Volume(voxels, np.eye(4)), mask, bias, np.eye(4), 2.0, True, ())
    assert np.array_equal(scan.in_brain(voxels), voxels[mask])
    assert np.array_equal(scan.intensities_in_box, scan.intensities()[scan.box])
    assert np.array_equal(scan.mask_in_box, mask[scan.box])
    assert all(side.any() for axis in range(3) for side in np.moveaxis(scan.mask_in_box, axis, 0)[[0, -1]])
    assert mask[scan.box].sum() == mask.sum()


def test_positions_follow_the_order_of_boolean_indexing(brain):
    volume, mask = brain
    scan = prepared(volume, mask)
    positions = scan.positions(mask)
    assert positions.dtype == np.float32
    np.testing.assert_allclose(positions[17], apply_affine(volume.affine, np.argwhere(mask)[17]), atol=1e-4)


def test_canonical_brain_is_not_darkened_at_its_border(brain):
    volume, mask = brain
    flat = volume.with_voxels(np.where(mask, 400.0, 7.0))
    for grid in (Grid.working(4), Grid.working(2)):
        canonical, canonical_mask = prepared(flat, mask).canonical(grid)
        np.testing.assert_allclose(canonical.voxels[canonical_mask], 1.0, atol=1e-3)
        assert not canonical.voxels[~canonical_mask].any()


def test_canonical_grid_keeps_the_brains_volume(brain):
    volume, mask = brain
    _, canonical_mask = prepared(volume, mask).canonical(CANONICAL_GRID)
    assert canonical_mask.sum() == pytest.approx(mask.sum() * 2.5**3, rel=0.01)


def test_coarse_grids_average_instead_of_picking(brain):
    volume, mask = brain
    noise = np.random.default_rng(0).normal(400, 40, volume.shape)
    fine, fine_mask = prepared(volume.with_voxels(noise), mask).canonical(Grid.working(2))
    coarse, coarse_mask = prepared(volume.with_voxels(noise), mask).canonical(Grid.working(8))
    assert coarse.voxels[coarse_mask].std() < 0.5 * fine.voxels[fine_mask].std()


def test_intensities_undo_bias_and_scale_and_keep_zero(brain):
    volume, mask = brain
    field = np.broadcast_to(
        np.linspace(0.5, 2, volume.shape[0], dtype=np.float32)[:, None, None], volume.shape
    )
    scan = PreparedScan(volume.with_voxels(volume.voxels * field), mask, field, np.eye(4), 400.0, True, ())
    np.testing.assert_allclose(scan.intensities(), volume.voxels / 400, rtol=1e-5)
    assert not scan.intensities()[volume.voxels == 0].any()


def test_a_prepared_scan_cannot_be_written_into(brain):
    scan = prepared(*brain)
    with pytest.raises(ValueError, match="read-only"):
        scan.brain_mask[0, 0, 0] = True
