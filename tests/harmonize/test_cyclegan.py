"""CycleGAN behind the protocol of all methods: who is served, native grids, the lock, files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import save_statistics
from mrharmony.lock.bounds import LockSettings
from mrharmony.methods.cyclegan import CYCLEGAN, load_cyclegan, train_cyclegan
from mrharmony.methods.registry import load_method
from mrharmony.networks.card import STATISTICS
from mrharmony.networks.cyclegan.networks import CycleGanSettings
from mrharmony.networks.cyclegan.pair import load_pairs, save_pairs
from mrharmony.preparation.prepared import PreparedScan

CPU, C = torch.device("cpu"), Domain("C", "c")


def settings(**changes) -> CycleGanSettings:
    given = {"channels": 4, "blocks": 0, "discriminator_channels": 4, "steps": 3, "learning_rate": 0.01}
    return CycleGanSettings(**(given | changes))


@pytest.fixture(scope="module")
def domains():
    powers = {"A": 1.0, "B": 1.5, "C": 0.7}
    return {name: [phantom(seed, power) for seed in (0, 1)] for name, power in powers.items()}


@pytest.fixture(scope="module")
def method(domains, tmp_path_factory):
    return train_cyclegan(domains, [("A", "B")], settings(), tmp_path_factory.mktemp("work"), CPU)


@pytest.fixture(scope="module")
def still(domains, tmp_path_factory):
    """Generators that have hardly begun to change anything."""
    rate = settings(steps=1, learning_rate=1e-12)
    return train_cyclegan(domains, [("A", "B")], rate, tmp_path_factory.mktemp("still"), CPU)


@pytest.fixture(scope="module")
def scan() -> PreparedScan:
    return prepared(phantom(5))


@pytest.fixture(scope="module")
def native() -> PreparedScan:
    """A smooth ball on voxels of its own, half a voxel off the grid, with a gain of 70."""
    brain = changed(phantom(5), lambda voxels: 0 * voxels + 0.8)
    affine = brain.volume.affine + np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    volume = Volume(brain.volume.voxels * np.float32(70), affine)
    return PreparedScan(volume, brain.mask, np.ones(volume.shape, np.float32), np.eye(4), 70.0, True, ())


def test_both_directions_of_a_pair_are_served_and_differ(method, scan):
    there, back = method.intensities(scan, A, B), method.intensities(scan, B, A)
    for made in (there, back):
        assert np.isfinite(made).all()
        assert not made[~scan.brain_mask].any()
        assert np.abs(made - scan.intensities())[scan.brain_mask].mean() > 1e-4
    assert not np.array_equal(there, back)


def test_a_scan_of_the_target_is_left_as_it_is(method, native):
    assert np.allclose(method.harmonize(native, B, B).volume.voxels, native.native.voxels, rtol=1e-6)


def test_an_unknown_source_and_a_pair_that_is_not_there_are_refused(method, scan):
    with pytest.raises(MrharmonyError, match=r"source=.*A and B"):
        method.harmonize(scan, None, B)
    for source, target in ((NEW, B), (A, NEW), (NEW, NEW), (C, A)):
        with pytest.raises(MrharmonyError, match=rf"pair {source.name} and {target.name}.*A and B"):
            method.harmonize(scan, source, target)


def test_the_output_has_the_native_grid_and_the_targets_units(method, native):
    done = method.harmonize(native, A, B)
    assert done.volume.shape == native.native.shape
    assert np.array_equal(done.volume.affine, native.native.affine)
    assert done.scale == method.statistics["B"].scale
    assert done.provenance == {"method": CYCLEGAN, "extent": "brain", "lock": False}
    made = method.intensities(native, A, B)
    assert np.allclose(done.intensities(), made, atol=1e-5)


def test_the_border_of_the_brain_does_not_fade_on_the_native_grid(still, native):
    made = still.intensities(native, A, B)[native.brain_mask]
    assert np.abs(made - native.intensities()[native.brain_mask]).max() < 0.02


def test_with_the_lock_detail_is_the_scans_own(method, native):
    locked = replace(method, lock=LockSettings())
    rng = np.random.default_rng(0)
    noisy = native.native.voxels * (1 + 0.05 * rng.standard_normal(native.native.shape)).astype(np.float32)
    sharp = replace(native, native=native.native.with_voxels(noisy))
    inside = native.brain_mask
    noise = sharp.intensities()[inside]
    image, through = (one.intensities(sharp, A, B)[inside] for one in (method, locked))
    assert np.corrcoef(noise, through)[0, 1] > 0.95
    assert np.corrcoef(noise, image)[0, 1] < 0.9
    done = locked.harmonize(sharp, A, B)
    assert done.provenance["lock"] is True
    assert np.allclose(done.intensities()[inside], through, atol=1e-4)
    same = locked.harmonize(sharp, A, A).volume.voxels
    assert np.allclose(same[inside], noisy[inside], rtol=1e-6)


def test_pairs_of_another_model_are_refused(method, tmp_path):
    method.save(tmp_path)
    other = {name: replace(one, scale=2 * one.scale) for name, one in method.statistics.items()}
    save_statistics(tmp_path / STATISTICS, other)
    with pytest.raises(MrharmonyError, match=r"cyclegan\.safetensors: .*belongs to another model"):
        load_method(CYCLEGAN, tmp_path)
    save_pairs(tmp_path, method.pairs)
    with pytest.raises(MrharmonyError, match=r"cyclegan\.safetensors: .*record owner is missing"):
        load_method(CYCLEGAN, tmp_path)


def test_saved_and_loaded_gives_the_same_bits_and_new_pairs_join(method, domains, scan, tmp_path):
    folder = tmp_path / "model"
    method.save(folder)
    again = load_method(CYCLEGAN, folder)
    assert np.array_equal(again.intensities(scan, A, B), method.intensities(scan, A, B))
    train_cyclegan(domains, [("C", "A")], settings(), tmp_path / "work", CPU).save(folder)
    joined = load_cyclegan(folder)
    assert [pair.record.domains for pair in load_pairs(folder)] == [("A", "B"), ("C", "A")]
    assert np.array_equal(joined.intensities(scan, A, B), method.intensities(scan, A, B))
    assert np.isfinite(joined.intensities(scan, A, C)).all()
    with pytest.raises(MrharmonyError, match="pair C and B"):
        joined.intensities(scan, C, B)


def test_nothing_to_train_is_refused(domains, tmp_path):
    with pytest.raises(MrharmonyError, match=r"pairs=\[\('A', 'B'\)\]"):
        train_cyclegan(domains, [], settings(), tmp_path, CPU)
    with pytest.raises(MrharmonyError, match="two different domains"):
        train_cyclegan(domains, [("A", "A")], settings(), tmp_path, CPU)
    with pytest.raises(MrharmonyError, match="NEW"):
        train_cyclegan(domains, [("A", "NEW")], settings(), tmp_path, CPU)
