"""The diffusion network: batches of random physics, training that resumes, expected and sampled contrasts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.diffusion.contrasts import reference_contrasts, sampled_contrasts
from mrharmony.networks.diffusion.network import DiffusionNetwork, load_network, save_network
from mrharmony.networks.diffusion.training import (
    DiffusionSettings,
    VirtualSlices,
    diffusion_loss,
    draw_noise,
    train_diffusion_network,
)
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import load_scanners
from mrharmony.space.grid import Grid

REFERENCES = ("mprage-3t", "spgr-1.5t")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return virtual_head(np.random.default_rng(3), Grid.working(4.0))


@pytest.fixture(scope="module")
def data(head: Anatomy) -> VirtualSlices:
    known = load_scanners()
    return VirtualSlices([head], [known[name] for name in REFERENCES])


def settings(**changes: int) -> DiffusionSettings:
    given = {"steps": 6, "batch": 4, "checkpoint_every": 2} | changes
    return DiffusionSettings(references=REFERENCES, channels=(8, 16, 16), **given)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_the_same_generator_draws_the_same_batch(data: VirtualSlices):
    one, other = data.batch(3, generator()), data.batch(3, generator())
    assert torch.equal(one.slices, other.slices)
    assert torch.equal(one.truths, other.truths)


def test_truths_are_canonical_and_only_in_the_brain(data: VirtualSlices):
    batch = data.batch(6, generator())
    middle = batch.slices[:, 1:2]
    assert batch.truths.shape == (6, 2, 40, 40)
    assert (batch.truths[(middle == 0).expand_as(batch.truths)] > 0).float().mean() < 0.02
    bright = batch.truths[batch.truths > 0].quantile(0.9)
    assert 0.8 < float(bright) < 1.2


def small_network(data: VirtualSlices) -> DiffusionNetwork:
    torch.manual_seed(0)
    return DiffusionNetwork.empty(data.latent_space(), (8, 16, 16)).eval()


def test_latents_are_decoded_to_the_contrasts_that_they_encode(data: VirtualSlices):
    space, truths = data.latent_space(), data.batch(4, generator()).truths
    inside = (truths > 0).all(dim=1, keepdim=True)
    back = space.decode(space.encode(truths))
    assert float(((back - truths) * inside).abs().max()) < 1e-3
    latents = torch.randn(1, 2, 4, 4)
    again = space.encode(space.decode(latents))
    assert torch.allclose(space.decode(again), space.decode(latents), atol=1e-5)


def test_at_pure_noise_the_noise_does_not_enter(data: VirtualSlices):
    network, batch = small_network(data), data.batch(3, generator())
    for part in network.modules():  # as after training
        for weight in part.parameters(recurse=False):
            torch.nn.init.normal_(weight, std=0.1)
    noise = torch.randn(3, 2, *batch.slices.shape[2:])
    with torch.no_grad():
        expected = network(batch.slices, batch.coordinates)
        assert torch.equal(expected, network(batch.slices, batch.coordinates, noise, torch.zeros(3)))
        later = network(batch.slices, batch.coordinates, noise, torch.full((3,), 0.5))
        assert not torch.allclose(expected, later, atol=1e-3)


def test_half_of_the_slices_are_at_pure_noise():
    signal, noise = draw_noise(2000, 1, torch.Size((2, 2)), generator())
    assert abs(float((signal == 0).float().mean()) - 0.5) < 0.05
    assert float(signal.min()) >= 0
    assert float(signal.max()) <= 1
    assert abs(float(noise.std()) - 1) < 0.05


def test_training_lowers_the_error(data: VirtualSlices, tmp_path: Path):
    before = small_network(data)
    after = train_diffusion_network(data, settings(steps=120), tmp_path, CPU)
    batch = data.batch(8, generator())
    with torch.no_grad():
        losses = [diffusion_loss(network, batch, generator(), CPU) for network in (after, before)]
    assert losses[0] < 0.6 * losses[1]


def test_a_killed_run_gives_the_weights_of_one_that_was_not(data: VirtualSlices, tmp_path: Path):
    class Killed(Exception):
        pass

    class Mortal:
        def __init__(self) -> None:
            self.left = 4
            self.latent_space = data.latent_space

        def batch(self, size: int, generator: torch.Generator):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return data.batch(size, generator)

    whole = train_diffusion_network(data, settings(), tmp_path / "whole", CPU)
    with pytest.raises(Killed):
        train_diffusion_network(Mortal(), settings(), tmp_path / "killed", CPU)
    resumed = train_diffusion_network(data, settings(), tmp_path / "killed", CPU)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_workers_change_no_weight(data: VirtualSlices, tmp_path: Path):
    alone = train_diffusion_network(data, settings(steps=3), tmp_path / "alone", CPU)
    helped = train_diffusion_network(data, settings(steps=3), tmp_path / "helped", CPU, workers=2)
    for one, other in zip(alone.parameters(), helped.parameters(), strict=True):
        assert torch.equal(one, other)


def test_contrasts_cover_the_mask_and_do_not_depend_on_what_is_outside(head: Anatomy, data: VirtualSlices):
    network, mask = small_network(data), head.brain_mask
    brain = np.random.default_rng(0).random(mask.shape, dtype=np.float32)
    outside = np.where(mask, brain, 7).astype(np.float32)
    contrasts = reference_contrasts(network, brain, mask)
    assert contrasts.shape == (2, mask.sum())
    assert np.array_equal(contrasts, reference_contrasts(network, outside, mask))


def test_samples_follow_their_seeds_and_one_step_is_the_expected_contrast(head: Anatomy, data: VirtualSlices):
    network, mask = small_network(data), head.brain_mask
    torch.nn.init.normal_(network.noisy.weight, std=0.1)
    brain = np.random.default_rng(0).random(mask.shape, dtype=np.float32)
    one, other = sampled_contrasts(network, brain, mask, (1, 2))
    assert np.array_equal(one, sampled_contrasts(network, brain, mask, (1,))[0])
    assert np.abs(one - other).max() > 1e-3
    (single,) = sampled_contrasts(network, brain, mask, (1,), steps=1)
    assert np.allclose(single, reference_contrasts(network, brain, mask), atol=1e-5)


def test_a_network_is_read_as_it_was_written_and_a_damaged_one_refused(data: VirtualSlices, tmp_path: Path):
    network = small_network(data)
    save_network(network, tmp_path, REFERENCES)
    again = load_network(tmp_path)
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    (tmp_path / "network.safetensors").write_bytes(b"damaged")
    with pytest.raises(MrharmonyError, match="install the package again"):
        load_network(tmp_path)
