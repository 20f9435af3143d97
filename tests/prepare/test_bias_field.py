"""Both estimates of the shading of a brain: N4's, and the one that knows the tissues."""

from collections.abc import Callable

import numpy as np
import pytest

from helpers.template_heads import on_grid
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.preparation.receive_field import n4_bias_field, receive_field
from mrharmony.simulate.bias import bias_field
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import draw_scan, render
from mrharmony.space.grid import Grid
from mrharmony.space.template import template

Estimate = Callable[[Volume, np.ndarray], FloatArray]


def _known_tissues(volume: Volume, mask: np.ndarray) -> FloatArray:
    return receive_field(volume, mask, np.eye(4))


@pytest.fixture(scope="module", params=[n4_bias_field, _known_tissues])
def estimate(request) -> Estimate:
    return request.param


@pytest.fixture(scope="module")
def even(brain) -> tuple[Volume, np.ndarray]:
    """The template's brain without the left-right marker."""
    volume, mask = brain
    t1 = on_grid(template().voxels, volume.shape, volume.affine)
    return volume.with_voxels(np.where(mask, 400 * np.maximum(t1, 0.05), 0)), mask


@pytest.fixture(scope="module")
def true_log_field(even) -> np.ndarray:
    i, j, k = np.meshgrid(*[np.linspace(-1, 1, size) for size in even[0].shape], indexing="ij")
    return 0.4 * i * j - 0.4 * k + 0.3 * j**2


@pytest.fixture(scope="module")
def estimates(estimate: Estimate, even, true_log_field) -> tuple[np.ndarray, np.ndarray]:
    """Estimated fields of the brain without and with a known bias."""
    volume, mask = even
    biased = volume.with_voxels(volume.voxels * np.exp(true_log_field))
    return estimate(volume, mask), estimate(biased, mask)


def test_a_known_bias_field_is_recovered(even, true_log_field, estimates):
    without, with_bias = (np.log(field[even[1]]) for field in estimates)
    truth = true_log_field[even[1]]
    error = (with_bias - without) - (truth - truth.mean())
    assert error.std() < 0.2 * truth.std()


def test_field_is_positive_bounded_and_centred_in_the_brain(even, estimates):
    for field in estimates:
        assert field.dtype == np.float32
        assert field.min() >= 0.2
        assert field.max() <= 5
        assert np.log(field[even[1]]).mean() == pytest.approx(0, abs=1e-4)


def test_field_is_smooth_across_the_brains_border(estimates):
    for field in estimates:
        for axis in range(3):
            assert np.abs(np.diff(np.log(field), axis=axis)).max() < 0.1  # per 2.5 mm


def test_the_same_scan_gives_the_same_bytes(estimate: Estimate, even, estimates):
    np.testing.assert_array_equal(estimate(*even), estimates[0])


def test_zeros_and_negatives_inside_the_brain_do_no_harm(estimate: Estimate, even, estimates):
    volume, mask = even
    rng = np.random.default_rng(0)
    broken = volume.voxels.copy()
    broken[mask & (rng.random(volume.shape) < 0.02)] = 0
    broken[mask & (rng.random(volume.shape) < 0.02)] = -300
    field = estimate(volume.with_voxels(broken), mask)
    assert np.abs(np.log(field[mask]) - np.log(estimates[0][mask])).max() < 0.3


def test_a_brain_without_signal_has_no_bias(estimate: Estimate, even):
    volume, mask = even
    np.testing.assert_allclose(estimate(volume.with_voxels(-volume.voxels), mask), 1)


@pytest.fixture(scope="module")
def virtual():
    """A virtual head on a scanner with a strong receive field, and the logarithm of that field."""
    head, scanner = virtual_head(np.random.default_rng(3), Grid.working(2.0)), load_scanners()["spgr-3t"]
    draw = draw_scan(scanner, np.random.default_rng(4))
    scan = Volume(render(head, scanner, draw, np.random.default_rng(5)), head.affine)
    return scan, head.brain_mask, np.log(bias_field(draw.bias, head.shape, head.affine))


@pytest.fixture(scope="module")
def known_field(virtual) -> FloatArray:
    """Its field by whom the tissues are known to."""
    scan, mask, _ = virtual
    return _known_tissues(scan, mask)


def _left(field: FloatArray, mask: np.ndarray, truth: FloatArray) -> float:
    return float((truth - np.log(field))[mask].std())


def test_who_knows_the_tissues_leaves_less_than_n4(virtual, known_field):
    scan, mask, truth = virtual
    known = _left(known_field, mask, truth)
    assert known < 0.03
    assert known < 0.65 * _left(n4_bias_field(scan, mask), mask, truth)


def test_a_lesion_is_no_field(virtual, known_field):
    scan, mask, _ = virtual
    x, y, z = np.moveaxis(Grid.working(2.0).positions(), -1, 0)
    lesion = mask & ((x - 25) ** 2 + (y + 20) ** 2 + (z - 25) ** 2 < 15**2)
    dark = scan.with_voxels(np.where(lesion, 0.4 * scan.voxels, scan.voxels))
    change = np.log(_known_tissues(dark, mask) / known_field)
    assert np.abs(change[mask]).max() < 0.1
    assert change[mask & ~lesion].std() < 0.01


@pytest.mark.parametrize("kind", ["noise", "inverted", "flat", "one bright voxel", "halves"])
def test_what_is_no_t1w_brain_gets_a_bounded_field(estimate: Estimate, even, kind: str):
    volume, mask = even
    rng = np.random.default_rng(1)
    voxels = {
        "noise": rng.exponential(100, volume.shape),
        "inverted": volume.voxels.max() - volume.voxels,
        "flat": np.full(volume.shape, 100.0),
        "one bright voxel": np.where(volume.voxels == volume.voxels[mask].max(), 1e6, 1.0),
        "halves": np.where(np.indices(volume.shape)[0] < volume.shape[0] / 2, 1.0, 1000.0),
    }[kind]
    field = estimate(volume.with_voxels(np.where(mask, voxels, 0).astype(np.float32)), mask)
    assert np.isfinite(field).all()
    assert field.min() > 0.2 - 1e-6  # bounds of the logarithm, rounded
    assert field.max() < 5 + 1e-5


@pytest.mark.parametrize("slices", [1, 2])
def test_a_mask_of_a_slice_or_two_gets_a_bounded_field(even, slices: int):
    volume, mask = even
    for first in range(30, 36):
        thin = np.zeros_like(mask)
        thin[:, first : first + slices] = mask[:, first : first + slices]
        field = _known_tissues(volume, thin)
        assert np.isfinite(field).all()
        assert field.min() > 0.2 - 1e-6
        assert field.max() < 5 + 1e-5
