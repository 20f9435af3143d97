from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.template_heads import template_anatomy
from mrharmony.core.findings import MrharmonyError
from mrharmony.simulate.anatomy import CSF, WM, Anatomy, template_maps, ventricle_region
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.warp import LATTICE_MM, Warp, compose, head_size, random_shape, ventricle_warp
from mrharmony.space.grid import Grid

SEED = 5


@pytest.fixture(scope="module")
def coarse() -> Grid:
    return Grid.working(4.0)


@cache
def head_with(ventricle_scale: float) -> Anatomy:
    """A coarse head that is the same but for its ventricles."""
    return virtual_head(np.random.default_rng(SEED), Grid.working(4.0), ventricle_scale=ventricle_scale)


def centroid(anatomy: Anatomy) -> np.ndarray:
    return anatomy.affine[:3, :3] @ np.argwhere(anatomy.brain_mask).mean(axis=0) + anatomy.affine[:3, 3]


def test_tissues_are_shares_and_nothing_lies_outside_the_brain(head: Anatomy) -> None:
    total = head.tissues.sum(axis=0)
    assert head.tissues.dtype == np.float32
    assert head.tissues.min() >= 0
    assert total.max() <= 1 + 1e-5
    assert np.all(head.ventricles <= head.tissues[CSF] + 1e-6)
    assert 0 <= head.myelination.min() < head.myelination.max() <= 1
    assert np.array_equal(head.labels() > 0, head.brain_mask)
    assert set(np.unique(head.labels())) == {0, 1, 2, 3, 4}


def test_volumes_are_those_of_people(head: Anatomy) -> None:
    litres = head.tissues.sum(axis=(1, 2, 3)) * 8e-6
    assert 1.0 < litres.sum() < 2.0
    assert 0.4 < litres[1] < 1.1
    assert 0.3 < litres[2] < 0.8
    assert 0.01 < litres[3] < 0.06


def test_the_same_seed_gives_the_same_head(coarse: Grid) -> None:
    first, again, other = (
        virtual_head(np.random.default_rng(seed), coarse) for seed in (SEED, SEED, SEED + 1)
    )
    assert first.tissues.tobytes() == again.tissues.tobytes()
    assert first.ventricle_scale == again.ventricle_scale != other.ventricle_scale
    assert np.abs(first.tissues - other.tissues).mean() > 0.005


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_warps_are_invertible(factor: float) -> None:
    tissues, affine = template_maps(2)
    ventricles = tissues[CSF] * ventricle_region(tissues.shape[1:], affine)
    shape = random_shape(np.random.default_rng(SEED))
    warp = Warp(compose(ventricle_warp(ventricles, affine, factor), shape), np.eye(4))
    gradient = np.stack(np.gradient(warp.displacement.numpy(), LATTICE_MM, axis=(1, 2, 3)), axis=-1)
    jacobian = np.linalg.det(np.moveaxis(gradient, 0, -2) + np.eye(3, dtype=np.float32))
    assert jacobian.min() > 0
    assert float(shape.abs().max()) > 4


def test_ventricles_grow_by_the_factor_asked_for() -> None:
    factors = (0.6, 1.0, 1.6, 2.5)
    volumes = [head_with(factor).ventricle_volume_ml for factor in factors]
    assert volumes == sorted(volumes)
    assert np.array(volumes) / volumes[1] == pytest.approx(factors, rel=0.08)


def test_enlarged_ventricles_leave_the_rest_of_the_head_in_place(coarse: Grid) -> None:
    small, large = head_with(1.0), head_with(2.5)
    assert large.brain_mask.sum() == pytest.approx(small.brain_mask.sum(), rel=0.005)
    lateral = np.abs(coarse.positions()[..., 0]) > 52
    assert np.abs(large.tissues - small.tissues)[:, lateral].max() < 0.02


@pytest.mark.parametrize("factor", [0.0, 9.0, float("nan")])
def test_absurd_ventricles_are_refused(coarse: Grid, factor: float) -> None:
    with pytest.raises(ValueError, match="ventricle_scale"):
        virtual_head(np.random.default_rng(0), coarse, ventricle_scale=factor)


def test_an_anatomy_without_ventricles_cannot_have_larger_ones() -> None:
    with pytest.raises(MrharmonyError, match="no ventricles"):
        ventricle_warp(np.zeros((10, 10, 10), np.float32), np.eye(4), 2.0)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_head_size_stays_within_its_spread(seed: int) -> None:
    size = 1 / np.diag(head_size(np.random.default_rng(seed), 1.0, 0.08))[:3]
    assert np.all(np.abs(size - 1) <= 0.08)


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_poses_are_rigid_and_small(seed: int) -> None:
    pose = random_pose(np.random.default_rng(seed))
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3))
    assert np.linalg.det(pose) == pytest.approx(1)
    assert np.rad2deg(np.arccos((np.trace(pose[:3, :3]) - 1) / 2)) < 15


def test_a_pose_moves_the_head_as_it_says(coarse: Grid) -> None:
    pose = random_pose(np.random.default_rng(3))
    still, moved = (virtual_head(np.random.default_rng(SEED), coarse, pose=p) for p in (None, pose))
    assert pose[:3, :3] @ centroid(moved) + pose[:3, 3] == pytest.approx(centroid(still), abs=0.5)


def test_a_head_keeps_the_anatomy_that_it_is_based_on(head: Anatomy, grid: Grid) -> None:
    new = virtual_head(np.random.default_rng(SEED), grid, base=head, ventricle_scale=1.0)
    template = template_anatomy(grid)

    def overlap(one: Anatomy, other: Anatomy) -> float:
        a, b = one.tissues[WM] > 0.5, other.tissues[WM] > 0.5
        return float(2 * (a & b).sum() / (a.sum() + b.sum()))

    assert overlap(new, head) > overlap(new, template)


def test_a_coarse_voxel_holds_the_average_of_the_fine_ones() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (20, -10, 20)
    coarse = Grid((12, 12, 12), affine)
    fine_affine = np.eye(4)
    fine_affine[:3, 3] = affine[:3, 3] - 0.5
    fine = template_anatomy(Grid((24, 24, 24), fine_affine))
    averaged = fine.tissues.reshape(4, 12, 2, 12, 2, 12, 2).mean(axis=(2, 4, 6))
    assert np.abs(template_anatomy(coarse).tissues - averaged).mean() < 0.02


def test_a_crop_stays_where_it_was(head: Anatomy) -> None:
    part = head.crop(slice(3, 20), slice(5, 50), slice(7, 30))
    assert part.shape == (17, 45, 23)
    assert part.affine[:3, 3] == pytest.approx(head.affine[:3, :3] @ [3, 5, 7] + head.affine[:3, 3])
    assert np.array_equal(part.tissues, head.tissues[:, 3:20, 5:50, 7:30])
