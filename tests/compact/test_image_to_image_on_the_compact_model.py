"""The paper's way on the compact model: the same loop, other networks."""

import numpy as np
import pytest

from mrharmony.core.volume import Volume
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.translation import TranslationSettings, translate_brain


@pytest.fixture(scope="module")
def brain(model: LatentModel, brains: np.ndarray) -> Volume:
    few = np.zeros(brains[0].shape, np.float32)
    few[:, 25:29] = brains[0][:, 25:29]
    return Volume(few, model.grid.affine)


@pytest.mark.parametrize("input_weight", [None, 1.5])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_loop_runs_with_and_without_structure(model, brain: Volume, input_weight, strength: float):
    settings = TranslationSettings(num_inference_steps=4, strength=strength, input_weight=input_weight)
    (contrast,) = translate_brain(model, brain, "dark", settings)
    assert np.isfinite(contrast.voxels).all()
    assert contrast.voxels[:, 25:29].std() > 0
    assert not contrast.voxels[:, :25].any()


def test_prompts_structure_and_strength_all_tell(model, brain: Volume):
    start = TranslationSettings(num_inference_steps=2)
    contrasts = [
        translate_brain(model, brain, prompt, start.model_copy(update=changes))[0].voxels
        for prompt, changes in (
            ("dark", {}),
            ("bright", {}),
            ("dark", {"input_weight": 1.0}),
            ("dark", {"strength": 0.5}),
        )
    ]
    assert all(np.abs(contrasts[0] - contrast).max() > 1e-4 for contrast in contrasts[1:])
