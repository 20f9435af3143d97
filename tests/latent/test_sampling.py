import copy

import numpy as np
import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.sampling import (
    EncodedBrain,
    SamplingSettings,
    encode_brain,
    prediction,
    round_trip,
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
    first, second = (sample_contrast(model, encoded, domain, SamplingSettings(seed=3)) for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)


def test_different_prompts_give_different_looks(model: LatentModel, encoded: EncodedBrain):
    bright, dark = (
        sample_contrast(model, encoded, model.card.domain(name), SamplingSettings())
        for name in ("bright", "dark")
    )
    assert np.abs(bright.voxels - dark.voxels).max() > 0


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_any_number_of_steps_stays_finite(model: LatentModel, brain: Volume, steps: int):
    thin = Volume(np.where(np.arange(brain.shape[1])[None, :, None] == 28, brain.voxels, 0), brain.affine)
    settings = SamplingSettings(steps=steps)
    contrast = sample_contrast(model, encode_brain(model, thin), model.card.domain("dark"), settings)
    assert np.isfinite(contrast.voxels).all()


@pytest.mark.parametrize("weights", [{"prompt_weight": 2.0}, {"input_weight": 1.5}])
def test_guidance_weights_change_the_look(
    model: LatentModel, encoded: EncodedBrain, weights: dict[str, float]
):
    domain = model.card.domain("bright")
    plain = sample_contrast(model, encoded, domain, SamplingSettings(steps=1))
    guided = sample_contrast(model, encoded, domain, SamplingSettings.model_validate({"steps": 1} | weights))
    assert np.abs(plain.voxels - guided.voxels).max() > 1e-4


@pytest.mark.parametrize("weight", [-0.1, 100.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["prompt_weight", "input_weight"])
def test_a_weight_out_of_its_range_is_told(name: str, weight: float):
    with pytest.raises(MrharmonyError, match=name.replace("_", " ")):
        SamplingSettings.chosen(ddib=False, **{name: weight})


@pytest.mark.parametrize("steps", [1, 4])
def test_the_sampler_is_diffusers_ddim(model: LatentModel, encoded: EncodedBrain, steps: int):
    structure, positions = encoded.structure[:2], encoded.positions[:2]
    domain, settings = model.card.domain("bright"), SamplingSettings(steps=steps)
    noise = shared_noise(structure.shape[1], structure.shape[2], 0)
    scheduler = copy.deepcopy(model.scheduler)
    scheduler.set_timesteps(steps)
    expected = noise.expand_as(structure)
    with torch.inference_mode():
        for time in scheduler.timesteps:
            velocity = prediction(model, structure, positions, domain, settings)(expected, int(time))
            expected = scheduler.step(velocity, time, expected, eta=0.0).prev_sample
        made = sample_latents(model, structure, positions, domain, noise, settings)
    assert torch.allclose(made, expected, atol=1e-4)


def test_empty_slices_stay_empty(model: LatentModel, encoded: EncodedBrain):
    empty = ~(encoded.brain.voxels > 0).any(axis=(0, 2))
    assert empty.any()
    for contrast in (
        sample_contrast(model, encoded, model.card.domain("dark"), SamplingSettings()),
        round_trip(model, encoded),
    ):
        assert (contrast.voxels[:, empty] == 0).all()


def test_every_slice_starts_from_the_same_noise():
    assert torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 7))
    assert not torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 8))


def test_an_unknown_domain_is_told_with_the_known_ones(model: LatentModel):
    with pytest.raises(MrharmonyError, match=r"mars: .*bright, dark"):
        model.card.domain("mars")
