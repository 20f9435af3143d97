import numpy as np
import pytest
import torch

from mrharmony.latent import LatentModel, SamplingSettings, sample_looks
from mrharmony.latent.sampling import shared_noise
from mrharmony.volume import MrharmonyError, Volume


@pytest.fixture(scope="module")
def brain(model: LatentModel, brains: np.ndarray) -> Volume:
    return Volume(brains[0].astype(np.float32), model.grid.affine)


def test_the_same_seed_gives_the_same_looks_to_the_bit(model: LatentModel, brain: Volume):
    domain = model.card.domain("bright")
    first, second = (sample_looks(model, brain, [domain], SamplingSettings(seed=3))[0] for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)


def test_a_look_does_not_depend_on_which_looks_are_sampled_beside_it(model: LatentModel, brain: Volume):
    bright, dark = model.card.domain("bright"), model.card.domain("dark")
    alone = sample_looks(model, brain, [dark], SamplingSettings())[0]
    beside = sample_looks(model, brain, [bright, dark], SamplingSettings())[1]
    assert np.array_equal(alone.voxels, beside.voxels)


def test_different_prompts_give_different_looks(model: LatentModel, brain: Volume):
    domains = [model.card.domain(name) for name in ("bright", "dark")]
    bright, dark = sample_looks(model, brain, domains, SamplingSettings(steps=1))
    assert np.abs(bright.voxels - dark.voxels).max() > 0


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_any_number_of_steps_stays_finite(model: LatentModel, brain: Volume, steps: int):
    thin = Volume(np.where(np.arange(brain.shape[1])[None, :, None] == 28, brain.voxels, 0), brain.affine)
    look = sample_looks(model, thin, [model.card.domain("dark")], SamplingSettings(steps=steps))[0]
    assert np.isfinite(look.voxels).all()


@pytest.mark.parametrize("weights", [{"prompt_weight": 2.0}, {"input_weight": 1.5}])
def test_guidance_weights_change_the_look(model: LatentModel, brain: Volume, weights: dict[str, float]):
    domain = model.card.domain("bright")
    plain = sample_looks(model, brain, [domain], SamplingSettings(steps=1))[0]
    guided = sample_looks(model, brain, [domain], SamplingSettings.model_validate({"steps": 1} | weights))[0]
    assert np.abs(plain.voxels - guided.voxels).max() > 1e-4


def test_empty_slices_stay_empty(model: LatentModel, brain: Volume):
    look = sample_looks(model, brain, [model.card.domain("dark")], SamplingSettings())[0]
    empty = ~(brain.voxels > 0).any(axis=(0, 2))
    assert empty.any()
    assert (look.voxels[:, empty] == 0).all()


def test_every_slice_starts_from_the_same_noise():
    assert torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 7))
    assert not torch.equal(shared_noise(4, 20, 7), shared_noise(4, 20, 8))


def test_an_unknown_domain_is_told_with_the_known_ones(model: LatentModel):
    with pytest.raises(MrharmonyError, match=r"mars: .*bright, dark"):
        model.card.domain("mars")
