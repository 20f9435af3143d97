from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.motion import HeadMotion, Motion, draw_motion, move
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import draw_scan, render, scan_head
from mrharmony.space.grid import Grid

SCANNER = load_scanners()["irspgr-3t-motion"]
QUIET = SCANNER.model_copy(update={"noise": 0.0})


@pytest.fixture(scope="module")
def coarse() -> Anatomy:
    return virtual_head(np.random.default_rng(2), Grid.working(4.0), ventricle_scale=1.0)


def test_a_moved_scan_can_be_replayed(coarse: Anatomy) -> None:
    draw = draw_scan(SCANNER, np.random.default_rng(0))
    first, again = (render(coarse, SCANNER, draw, np.random.default_rng(1)) for _ in range(2))
    assert draw.motion is not None
    assert first.tobytes() == again.tobytes()


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_heads_lie_where_they_were_at_the_centre_of_kspace(seed: int, moves: int) -> None:
    motion = draw_motion(Motion(moves=moves), np.random.default_rng(seed))
    segment = np.searchsorted(motion.moments, [0.43, 0.5, 0.57])
    assert len(set(segment)) == 1
    assert not motion.angles_deg[segment].any()
    assert not motion.shifts_mm[segment].any()
    assert np.all(np.diff(motion.moments) >= 0)


def test_a_head_that_stays_is_seen_as_it_is(coarse: Anatomy) -> None:
    image = coarse.tissues[2:3]
    still = HeadMotion(np.array([0.2, 0.8], np.float32), *np.zeros((2, 3, 3), np.float32))
    assert move(image, coarse.affine, still).real == pytest.approx(image, abs=1e-5)


def test_a_head_that_lies_elsewhere_throughout_is_seen_there(coarse: Anatomy) -> None:
    image = coarse.tissues[2:3]
    shifts = np.full((2, 3), (4.0, 0.0, 0.0), np.float32)
    elsewhere = HeadMotion(np.array([0.2], np.float32), np.zeros((2, 3), np.float32), shifts)
    moved = move(image, coarse.affine, elsewhere).real
    assert moved[:, :-1] == pytest.approx(image[:, 1:], abs=0.02)


def test_more_motion_disturbs_more(coarse: Anatomy) -> None:
    images = []
    for size in (0.0, 0.5, 2.0):
        motion = Motion(moves=4, rotation_deg=size, translation_mm=size)
        scanner = QUIET.model_copy(update={"motion": motion})
        images.append(scan_head(coarse, scanner, np.random.default_rng(5)).voxels)
    errors = [np.abs(image - images[0]).mean() / images[0].mean() for image in images[1:]]
    assert 0.001 < errors[0] < errors[1] < 0.3
