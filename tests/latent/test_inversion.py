"""DDIB: a scan's own noise leads back to the scan under its own prompt, and elsewhere under another."""

import numpy as np
import pytest
import torch

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.methods.diffusion import SampledContrasts
from mrharmony.networks.compact.model import LatentModel, load_model
from mrharmony.networks.compact.sampling import (
    EncodedBrain,
    SamplingSettings,
    encode_brain,
    invert_brain,
    invert_latents,
    round_trip,
    sample_contrast,
)
from mrharmony.networks.compact.schedule import NoiseSchedule
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.weights import shipped_model

PLACES = (20, 28)  # coronal slices that hold brain


@pytest.fixture(scope="module")
def brain(model: LatentModel, brains: np.ndarray) -> Volume:
    few = np.zeros(brains[0].shape, np.float32)
    few[:, PLACES] = brains[0][:, PLACES]
    return Volume(few, model.grid.affine)


@pytest.fixture(scope="module")
def encoded(model: LatentModel, brain: Volume) -> EncodedBrain:
    return encode_brain(model, brain)


def bridged(steps: int, refinements: int) -> SamplingSettings:
    return SamplingSettings(steps=steps, ddib=True, refinements=refinements)


def way_back(model: LatentModel, encoded: EncodedBrain, domain: Domain, settings: SamplingSettings) -> float:
    """Return the root mean square between a scan's round trip and its look in its own domain."""
    start = invert_brain(model, encoded, domain, settings)
    contrast = sample_contrast(model, encoded, domain, settings, start)
    return float(np.sqrt(np.mean((contrast.voxels - round_trip(model, encoded).voxels) ** 2)))


def test_with_refinement_the_own_prompt_gives_the_scan_back_far_better():
    """On the shipped model, 8 steps; two slices of a phantom."""
    shipped = load_model(shipped_model())
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shipped.grid.shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    voxels = np.select([radius < 0.4, radius < 0.7, radius < 1], [0.2, 0.95, 0.6]).astype(np.float32)
    kept = np.isin(np.arange(voxels.shape[1]), (48, 56))
    encoded = encode_brain(shipped, Volume(voxels * kept[None, :, None], shipped.grid.affine))
    domain = shipped.card.domain("mprage-3t")
    plain, refined = (way_back(shipped, encoded, domain, bridged(8, count)) for count in (0, 4))
    assert refined < 0.3 * plain


def test_more_refinements_come_nearer(model: LatentModel, encoded: EncodedBrain):
    domain = model.card.domain("bright")
    distances = [way_back(model, encoded, domain, bridged(4, count)) for count in (0, 1, 3)]
    assert distances == sorted(distances, reverse=True)


def test_another_prompt_leads_elsewhere(model: LatentModel, encoded: EncodedBrain):
    bright, dark = (model.card.domain(name) for name in ("bright", "dark"))
    settings = bridged(4, 2)
    start = invert_brain(model, encoded, bright, settings)
    contrasts = [sample_contrast(model, encoded, domain, settings, start).voxels for domain in (bright, dark)]
    assert np.abs(contrasts[0] - contrasts[1]).max() > 1e-3


def test_every_slice_is_inverted_on_its_own(model: LatentModel, encoded: EncodedBrain):
    domain, settings = model.card.domain("bright"), bridged(2, 1)
    together = invert_brain(model, encoded, domain, settings)
    with torch.inference_mode():
        alone = invert_latents(model, encoded.structure[1:], encoded.positions[1:], domain, settings)
    assert torch.allclose(together[1:], alone, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("time", "following"), [(999, 499), (499, 20), (20, None)])
def test_a_step_back_undoes_the_step(model: LatentModel, prediction: str, time: int, following: int | None):
    known = NoiseSchedule.of(model.scheduler)
    alphas = known.alphas if prediction == "v_prediction" else known.alphas.clamp_min(0.01)
    schedule = NoiseSchedule(alphas, known.last_alpha, prediction)
    generator = torch.Generator().manual_seed(0)
    latents, predicted = torch.randn(2, 1, 4, 5, 5, generator=generator)
    reached = schedule.step(predicted, latents, time, following)
    assert torch.allclose(schedule.step_back(predicted, reached, time, following), latents, atol=1e-4)


def test_ddib_in_a_single_step_is_refused():
    with pytest.raises(MrharmonyError, match="2 steps or more"):
        SamplingSettings.chosen(ddib=True, steps=1)


def test_ddib_of_an_unknown_source_is_refused(model: LatentModel, brain: Volume):
    mask = brain.voxels > 0
    scan = PreparedScan(brain, mask, np.ones(mask.shape, np.float32), np.eye(4), 1.0, True, ())
    contrasts = SampledContrasts(model, scan, bridged(2, 0))
    with pytest.raises(MrharmonyError, match="source="):
        contrasts.of(model.card.domain("dark"))
    assert contrasts.of(model.card.domain("dark"), model.card.domain("bright")).voxels.any()
