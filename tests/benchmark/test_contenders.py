"""Every method of a benchmark works behind the same call, ours too."""

from pathlib import Path

import numpy as np
import pytest

from helpers.template_heads import template_anatomy
from mrharmony.benchmark.contenders import OURS, as_prepared, fit_contender, networks_needed, training_minutes
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.cyclegan import CYCLEGAN
from mrharmony.methods.protocol import Harmonizer
from mrharmony.methods.registry import load_method
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale

SESSIONS = {"mprage3t": "mprage-3t", "spgr15t": "spgr-1.5t", "elsewhere": "tfe-1.5t"}
KNOWN = ("mprage3t", "spgr15t")


@pytest.fixture(scope="module")
def brains() -> dict[str, CanonicalBrain]:
    """One head on three scanners, of which ours is fitted on two; a few slices, for quick looks."""
    head = template_anatomy(Grid.working(2.0))
    made = {}
    for session, scanner in SESSIONS.items():
        scan = scan_head(head, load_scanners()[scanner], np.random.default_rng(0))
        scale = intensity_scale(scan.voxels[head.brain_mask])
        voxels = scan.voxels / np.float32(scale)
        voxels[:, :50], voxels[:, 58:] = 0, 0
        made[session] = CanonicalBrain(scan.with_voxels(voxels), voxels > 0, scale)
    return made


@pytest.fixture(scope="module")
def ours(brains: dict[str, CanonicalBrain], tmp_path_factory: pytest.TempPathFactory) -> Harmonizer:
    folder = tmp_path_factory.mktemp("ours")
    fit_contender(OURS, {name: [brains[name]] for name in KNOWN}, folder, "mprage3t")
    return load_method(OURS, folder)


def domain(name: str) -> Domain:
    return Domain(name, name)


def test_ours_leaves_a_scan_of_the_target_as_it_is(ours: Harmonizer, brains: dict[str, CanonicalBrain]):
    scan = as_prepared(brains["mprage3t"])
    same = ours.intensities(scan, domain("mprage3t"), domain("mprage3t"))
    assert np.array_equal(same[scan.brain_mask], scan.intensities()[scan.brain_mask])


def test_ours_comes_closer_to_the_truth(ours: Harmonizer, brains: dict[str, CanonicalBrain]):
    scan, truth = as_prepared(brains["spgr15t"]), brains["mprage3t"].volume.voxels
    inside = scan.brain_mask & brains["mprage3t"].mask
    for source in (domain("spgr15t"), domain("elsewhere"), None):
        made = ours.intensities(scan, source, domain("mprage3t"))
        before, after = (np.mean((image - truth)[inside] ** 2) for image in (scan.intensities(), made))
        assert after < before / 2
        assert (made[~scan.brain_mask] == 0).all()


def test_ours_refuses_a_target_that_the_model_does_not_know(
    ours: Harmonizer, brains: dict[str, CanonicalBrain]
):
    with pytest.raises(MrharmonyError, match="Unknown target domain elsewhere"):
        ours.intensities(as_prepared(brains["spgr15t"]), None, domain("elsewhere"))


def test_a_canonical_brain_is_prepared_already(brains: dict[str, CanonicalBrain]):
    brain = brains["spgr15t"]
    scan = as_prepared(brain)
    assert np.allclose(scan.intensities(), brain.volume.voxels, atol=1e-6)
    again, mask = scan.canonical(Grid.working(2.0))
    assert np.array_equal(mask, brain.mask)
    assert np.allclose(again.voxels, brain.volume.voxels, atol=1e-6)


def test_a_simple_method_is_reused_as_it_was_fitted(brains: dict[str, CanonicalBrain], tmp_path: Path):
    training = {name: [brains[name]] for name in KNOWN}
    fit_contender("histogram", training, tmp_path, "mprage3t")
    reopened = load_method("histogram", tmp_path)
    scan = as_prepared(brains["elsewhere"])
    made = reopened.intensities(scan, None, domain("mprage3t"))[scan.brain_mask]
    wanted = brains["mprage3t"].volume.voxels[brains["mprage3t"].mask]
    assert np.quantile(made, [0.2, 0.5, 0.8]) == pytest.approx(np.quantile(wanted, [0.2, 0.5, 0.8]), abs=0.02)


def test_a_model_for_each_pair_serves_the_target_only(brains: dict[str, CanonicalBrain], tmp_path: Path):
    training = {name: [brain] for name, brain in brains.items()}
    tiny = CycleGanSettings(channels=4, blocks=0, discriminator_channels=4, steps=2)
    fit_contender(CYCLEGAN, training, tmp_path, "mprage3t", tiny)
    opened = load_method(CYCLEGAN, tmp_path)
    scan = as_prepared(brains["spgr15t"])
    for source, target in (("spgr15t", "mprage3t"), ("mprage3t", "elsewhere"), ("elsewhere", "elsewhere")):
        assert np.isfinite(opened.intensities(scan, domain(source), domain(target))).all()
    with pytest.raises(MrharmonyError, match="pair spgr15t and elsewhere"):
        opened.intensities(scan, domain("spgr15t"), domain("elsewhere"))
    assert training_minutes(tmp_path) > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "cyclegan.json",
        "cyclegan.safetensors",
        "statistics.safetensors",
    }


def test_models_are_counted_for_one_target_and_for_all_directions():
    assert networks_needed(CYCLEGAN, 6) == (5, 15)
    assert networks_needed(OURS, 6) == (1, 1)
    assert networks_needed("nyul", 6) is None
