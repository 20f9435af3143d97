import copy

import numpy as np
import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.sampling import (
    EncodedBrain,
    encode_brain,
    sample_contrast,
    sample_latents,
    shared_noise,
)


@pytest.fixture(scope="module")
def brain(model: LatentModel, brains: np.ndarray) -> Volume:
    return Volume(brains[0].astype(np.float32), model.grid.affine)


@pytest.fixture(scope="module")
def encoded(model: LatentModel, brain: Volume) -> EncodedBrain:
    return encode_brain(model, brain)


def test_the_same_seed_gives_the_same_looks_to_the_bit(model: LatentModel, encoded: EncodedBrain):
    domain = model.card.domain("bright")
    first, second = (sample_contrast(model, encoded, domain, seed=3) for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)


def test_different_prompts_give_different_looks(model: LatentModel, encoded: EncodedBrain):
    inside = encoded.brain.voxels > 0
    bright, dark = (
        sample_contrast(model, encoded, model.card.domain(name)).voxels[inside] for name in ("bright", "dark")
    )
    assert np.abs(bright - dark).mean() > 0.03 * bright.std()  # after six steps of training


def test_the_sampler_is_diffusers_ddim(model: LatentModel, encoded: EncodedBrain):
    structure, positions = encoded.structure[:2], encoded.positions[:2]
    domain, noise = model.card.domain("bright"), shared_noise(structure.shape[1], structure.shape[2], 0)
    scheduler = copy.deepcopy(model.scheduler)
    scheduler.set_timesteps(1)
    (time,) = scheduler.timesteps
    start = noise.expand_as(structure)
    with torch.inference_mode():
        velocity = model.predict(start, structure, int(time), model.embed(domain.prompt, positions))
        expected = scheduler.step(velocity, time, start, eta=0.0).prev_sample
        made = sample_latents(model, structure, positions, domain, noise)
    assert torch.allclose(made, expected, atol=1e-4)


def test_empty_slices_stay_empty(model: LatentModel, encoded: EncodedBrain):
    empty = ~(encoded.brain.voxels > 0).any(axis=(0, 2))
    assert empty.any()
    contrast = sample_contrast(model, encoded, model.card.domain("dark"))
    assert (contrast.voxels[:, empty] == 0).all()


def test_every_slice_starts_from_the_same_noise():
    assert torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 7))
    assert not torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 8))


def test_an_unknown_domain_is_told_how_to_fit_it_and_then_the_known_ones(model: LatentModel):
    with pytest.raises(MrharmonyError, match=r"^mars: .*`mrharmony train`.*adapt.*bright, dark\.$"):
        model.card.domain("mars")
