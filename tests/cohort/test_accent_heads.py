"""The people that the shipped contrast models are fitted on."""

import numpy as np
import pytest
from benchmarks.training import _network
from benchmarks.training._network import contrast_heads

from mrharmony.core.volume import Volume
from mrharmony.networks.slices import VirtualHead
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import load_scanners
from mrharmony.space.grid import Grid


@pytest.fixture(scope="module")
def brain() -> CanonicalBrain:
    head = VirtualHead.of(virtual_head(np.random.default_rng(5), Grid.working(2.0)))
    voxels, scale = head.scan_whole(load_scanners()["mprage-3t"], np.random.default_rng(6))
    return CanonicalBrain(Volume(voxels, head.anatomy.affine), voxels > 0, scale)


def overlap(one: Anatomy, other: CanonicalBrain) -> float:
    both = (one.brain_mask & other.mask).sum()
    return float(2 * both / (one.brain_mask.sum() + other.mask.sum()))


def test_they_are_warps_of_real_anatomies_and_of_the_average(
    brain: CanonicalBrain, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_network, "CONTRAST_PEOPLE", 1)
    monkeypatch.setattr(_network, "CONTRAST_AVERAGES", 1)
    real, average = contrast_heads([brain] * 3, seed=1)
    assert overlap(real, brain) > 0.9
    assert overlap(average, brain) > 0.85
    assert not np.array_equal(real.tissues, average.tissues)
