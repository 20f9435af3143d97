"""A scan and its output on few voxels: contrast is measured, the coil's shading and the position are not."""

from functools import cache

import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.evaluate.group_measures import MeasuredPair, measure_pair
from mrharmony.space.blocks import block_means
from mrharmony.space.template import template, template_brain_mask


@cache
def _brain() -> Volume:
    """The template's brain on voxels of 3 mm, 90th percentile 1."""
    every = (slice(None, None, 3),) * 3
    voxels = np.where(template_brain_mask()[every], template().voxels[every], 0)
    scaled = voxels / np.percentile(voxels[voxels > 0], 90)
    return Volume(scaled.astype(np.float32), template().affine @ np.diag([3.0, 3.0, 3.0, 1.0]))


def _shaded(voxels: FloatArray) -> FloatArray:
    """Return a brain as a coil on its left and front shows it, in other units."""
    left, front, _ = (np.linspace(-1, 1, size) for size in voxels.shape)
    field = np.exp(0.4 * left[:, None, None] + 0.3 * front[None, :, None] * left[:, None, None])
    return np.asarray(700 * voxels * field, np.float32)


def _darker_grey(voxels: FloatArray) -> FloatArray:
    return np.asarray(np.where(voxels > 0, np.interp(voxels, [0, 0.7, 1, 3], [0, 0.5, 1, 3]), 0), np.float32)


@cache
def _pair() -> MeasuredPair:
    brain = _brain()
    return measure_pair(_shaded(_darker_grey(brain.voxels)), brain)


def test_shading_is_taken_out_and_contrast_is_not():
    pair, brain = _pair(), _brain()
    assert pair.before and pair.shading
    plain = measure_pair(_darker_grey(brain.voxels), brain).before
    assert plain
    assert np.abs(pair.before.histogram - plain.histogram).sum() < 0.15
    assert np.abs(pair.before.histogram - pair.after.histogram).sum() > 0.4
    places = np.argwhere(brain.voxels > 0.5)[::50]
    field = _shaded(np.ones_like(brain.voxels))[tuple(places.T)]
    found = pair.shading.at(places.astype(float))
    assert np.corrcoef(np.log(field), np.log(found))[0, 1] > 0.99


def test_an_unchanged_scan_measures_alike():
    brain = _brain()
    pair = measure_pair(500 * brain.voxels, brain)
    assert pair.before
    np.testing.assert_allclose(pair.before.features, pair.after.features, atol=0.01)
    assert pair.before.fluid_ml == pytest.approx(pair.after.fluid_ml, rel=0.02)
    assert 50 < pair.after.fluid_ml < 900


def test_where_a_head_lies_does_not_show():
    brain = _brain()
    turn = from_matvec(Rotation.from_euler("x", 15, degrees=True).as_matrix(), [12, -9, 20])
    moved = measure_pair(None, Volume(brain.voxels, turn @ brain.affine)).after
    np.testing.assert_allclose(moved.features[:61], _pair().after.features[:61], atol=0.06)


def test_without_a_source_the_output_is_measured_alone():
    pair = measure_pair(None, _brain())
    assert pair.before is None
    assert pair.after.histogram.sum() == pytest.approx(1)


def test_an_empty_source_is_refused():
    brain = _brain()
    with pytest.raises(MrharmonyError, match="no positive intensities"):
        measure_pair(np.zeros_like(brain.voxels), brain)
    with pytest.raises(MrharmonyError, match="empty"):
        measure_pair(None, Volume(np.zeros((9, 9, 9), np.float32), np.eye(4)))


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 4), (5, 1, 2)])
def test_means_of_blocks_leave_out_what_fills_none(factors: tuple[int, int, int]):
    voxels = np.random.default_rng(0).random((11, 9, 10), np.float32)
    means = block_means(voxels, factors)
    assert means.shape == tuple(size // n for size, n in zip(voxels.shape, factors, strict=True))
    for place in np.ndindex(means.shape):
        block = voxels[tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, factors, strict=True))]
        assert means[place] == pytest.approx(block.mean(), rel=1e-5)
