"""The reference network: batches of random physics, training that resumes, looks of whole scans."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.diffusion.contrasts import reference_contrasts
from mrharmony.networks.diffusion.network import ReferenceNetwork, load_network, save_network
from mrharmony.networks.diffusion.training import (
    ReferenceSlices,
    SynthesisSettings,
    reference_loss,
    train_reference_network,
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
def data(head: Anatomy) -> ReferenceSlices:
    known = load_scanners()
    return ReferenceSlices([head], [known[name] for name in REFERENCES])


def settings(**changes: int) -> SynthesisSettings:
    given = {"steps": 6, "batch": 4, "checkpoint_every": 2} | changes
    return SynthesisSettings(references=REFERENCES, channels=(8, 16, 16), **given)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_the_same_generator_draws_the_same_batch(data: ReferenceSlices):
    one, other = data.batch(3, generator()), data.batch(3, generator())
    assert torch.equal(one.slices, other.slices)
    assert torch.equal(one.truths, other.truths)


def test_truths_are_canonical_and_only_in_the_brain(data: ReferenceSlices):
    batch = data.batch(6, generator())
    middle = batch.slices[:, 1:2]
    assert batch.truths.shape == (6, 2, 40, 40)
    assert (batch.truths[(middle == 0).expand_as(batch.truths)] > 0).float().mean() < 0.02
    bright = batch.truths[batch.truths > 0].quantile(0.9)
    assert 0.8 < float(bright) < 1.2


def test_training_lowers_the_error(data: ReferenceSlices, tmp_path: Path):
    torch.manual_seed(0)
    before = ReferenceNetwork(2, (8, 16, 16))
    after = train_reference_network(data, settings(steps=120), tmp_path, CPU)
    batch = data.batch(8, generator())
    with torch.no_grad():
        assert reference_loss(after, batch) < 0.6 * reference_loss(before, batch)


def test_a_killed_run_gives_the_weights_of_one_that_was_not(data: ReferenceSlices, tmp_path: Path):
    class Killed(Exception):
        pass

    class Mortal:
        def __init__(self) -> None:
            self.left = 4

        def batch(self, size: int, generator: torch.Generator):
            self.left -= 1
            if self.left < 0:
                raise Killed
            return data.batch(size, generator)

    whole = train_reference_network(data, settings(), tmp_path / "whole", CPU)
    with pytest.raises(Killed):
        train_reference_network(Mortal(), settings(), tmp_path / "killed", CPU)
    resumed = train_reference_network(data, settings(), tmp_path / "killed", CPU)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_workers_change_no_weight(data: ReferenceSlices, tmp_path: Path):
    alone = train_reference_network(data, settings(steps=3), tmp_path / "alone", CPU)
    helped = train_reference_network(data, settings(steps=3), tmp_path / "helped", CPU, workers=2)
    for one, other in zip(alone.parameters(), helped.parameters(), strict=True):
        assert torch.equal(one, other)


def test_looks_cover_the_mask_and_do_not_depend_on_what_is_outside(head: Anatomy):
    torch.manual_seed(0)
    network = ReferenceNetwork(2, (8, 16, 16)).eval()
    mask = head.brain_mask
    rng = np.random.default_rng(0)
    brain = rng.random(mask.shape, dtype=np.float32)
    contrasts = reference_contrasts(network, brain, mask)
    assert contrasts.shape == (2, mask.sum())
    assert np.array_equal(
        contrasts, reference_contrasts(network, np.where(mask, brain, 7).astype(np.float32), mask)
    )


def test_a_network_is_read_as_it_was_written_and_a_damaged_one_refused(tmp_path: Path):
    torch.manual_seed(0)
    network = ReferenceNetwork(2, (8, 16, 16))
    save_network(network, tmp_path, REFERENCES)
    again = load_network(tmp_path)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    (tmp_path / "network.safetensors").write_bytes(b"damaged")
    with pytest.raises(MrharmonyError, match="install the package again"):
        load_network(tmp_path)
