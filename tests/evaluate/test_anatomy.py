"""Anatomy scores are blind to contrast and see everything else."""

import numpy as np
import pytest

from helpers.brains import with_voxels
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.evaluate.anatomy import (
    block_displacements,
    compare_anatomy,
    dice_by_tissue,
    edge_correspondence,
    in_contrast_of,
)

CURVES = {
    "gamma below 1": lambda s: s**0.6,
    "gamma above 1": lambda s: 2 * s**1.5,
    "sigmoid": lambda s: 1 / (1 + np.exp(-4 * (s - 0.5))),
}


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_monotone_curve_changes_no_anatomy(curve, scan_at_a, tissues_at_a):
    seen = with_voxels(scan_at_a, curve(scan_at_a.volume.voxels))
    scores = compare_anatomy(scan_at_a, seen, tissues_at_a)
    assert max(abs(drift) for drift in scores.volume_drift_percent.values()) < 0.2
    assert min(scores.dice.values()) > 0.998
    assert scores.edge_correspondence > 0.999
    assert scores.displacement_95th_percentile_mm < 0.02


def test_two_scanners_see_nearly_the_same_anatomy(scan_at_a, scan_at_b, tissues_at_a):
    scores = compare_anatomy(scan_at_a, scan_at_b, tissues_at_a)
    assert scores == compare_anatomy(scan_at_a, scan_at_b)
    assert min(scores.dice.values()) > 0.93
    assert scores.edge_correspondence > 0.95
    assert scores.displacement_mm < 0.5


def test_other_grids_are_refused(scan_at_a):
    elsewhere = Volume(scan_at_a.volume.voxels, np.diag([1.0, 2, 2, 1]) @ scan_at_a.volume.affine)
    with pytest.raises(MrharmonyError, match="one grid"):
        compare_anatomy(scan_at_a, scan_at_a._replace(volume=elsewhere))


def test_contrast_that_was_flattened_is_not_restored(scan_at_a):
    flat = with_voxels(scan_at_a, np.minimum(scan_at_a.volume.voxels, 0.6))
    restored = in_contrast_of(scan_at_a, flat)
    assert np.isfinite(restored.volume.voxels).all()
    bright = scan_at_a.volume.voxels > 0.7
    assert restored.volume.voxels[bright].std() < 0.05 * scan_at_a.volume.voxels[bright].std()


@pytest.mark.parametrize("move", [(1, 0, 0), (0, 1, 0), (0, 1, 1)])
def test_displacement_is_the_shift_in_mm(move, scan_at_a):
    image, inner = scan_at_a.volume.voxels, scan_at_a.mask
    median, percentile_95 = block_displacements(
        image, np.roll(image, move, (0, 1, 2)), inner, (2.0, 2.0, 2.0)
    )
    assert median == pytest.approx(2 * np.linalg.norm(move), rel=0.25)
    assert median <= percentile_95


def test_gain_and_offset_move_nothing(scan_at_a):
    image, inner = scan_at_a.volume.voxels, scan_at_a.mask
    _, percentile_95 = block_displacements(image, 1.1 * image + 0.05 * inner, inner, (2.0, 2.0, 2.0))
    assert percentile_95 < 0.1


def test_edges_upside_down_are_no_correspondence():
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 8)).astype(np.float32)
    everywhere = np.ones(ramp.shape, dtype=bool)
    assert edge_correspondence(ramp, ramp, everywhere) == pytest.approx(1)
    assert edge_correspondence(ramp, 0.5 * ramp, everywhere) == pytest.approx(0.8)
    assert edge_correspondence(ramp, -ramp, everywhere) == pytest.approx(-1)
    assert edge_correspondence(0 * ramp, 0 * ramp, everywhere) == 1


def test_dice_of_known_overlap():
    first, second = np.array([0, 1, 1, 2], np.uint8), np.array([0, 1, 2, 2], np.uint8)
    assert dice_by_tissue(first, second) == pytest.approx({"csf": 2 / 3, "grey": 2 / 3, "white": 1.0})
