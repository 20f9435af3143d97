"""New domains join a trained model; what it knew before stays."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.card import DomainCard
from mrharmony.networks.compact.adaptation import (
    AdaptedNetworks,
    adapt_networks,
    class_images,
    contrast_drift,
)
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import LatentModel, as_saved, load_model, save_model
from mrharmony.networks.compact.networks import build_denoiser, shrink_factor
from mrharmony.networks.compact.prompts import PromptEncoder
from mrharmony.networks.compact.sampling import encode_brain, sample_contrast
from mrharmony.networks.compact.training import denoiser_loss, train_stage
from mrharmony.networks.settings import AdaptationSettings, StageSettings
from mrharmony.weights import shipped_model

QUICK = AdaptationSettings(steps=6, batch=4, class_images=2, checkpoint_every=2)
LONGER = AdaptationSettings(steps=50, batch=4, learning_rate=8e-3, class_images=10)
KNOWN = [Domain("bright", "bright"), Domain("dark", "dark")]

RUN = """
import sys
from pathlib import Path
import numpy as np, torch
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.model import load_model
from mrharmony.networks.settings import AdaptationSettings
from mrharmony.networks.compact.adaptation import adapt_networks
torch.set_num_threads(1)
folder = Path(sys.argv[1])
data = RealSlices(np.load(folder / "brains.npy"), ["dim", "vivid"])
settings = AdaptationSettings.model_validate_json((folder / "settings.json").read_text())
adapt_networks(load_model(folder / "model"), data, settings, folder / "run", only_cpu=True)
"""


@pytest.fixture(scope="module")
def new_brains(brains: np.ndarray) -> np.ndarray:
    """A brain a bit brighter than the dark domain's, and one a bit brighter than the bright domain's."""
    return (brains[[2, 0]] * np.float16(1.1)).astype(np.float16)


@pytest.fixture(scope="module")
def newcomers(new_brains: np.ndarray) -> RealSlices:
    return RealSlices(new_brains, ["dim", "vivid"])


@pytest.fixture(scope="module")
def trained(data: RealSlices, model: LatentModel, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    """A tiny denoiser behind the shipped autoencoder, trained until its two domains can be told apart."""
    assert model.card.training
    rate = StageSettings(steps=150, batch=4, learning_rate=8e-3, ema_decay=0.5)
    settings = model.card.training.model_copy(update={"checkpoint_every": rate.steps})
    autoencoder = load_model(shipped_model()).autoencoder
    torch.manual_seed(0)
    size = data.batch(1, torch.Generator()).images.shape[-1] // shrink_factor(autoencoder)
    denoiser = build_denoiser(settings.denoiser, autoencoder.config.latent_channels, size)
    prompts = PromptEncoder(["", *data.prompts], 4, settings.denoiser.token_size)
    both = torch.nn.ModuleDict({"denoiser": denoiser, "prompts": prompts})
    folder = tmp_path_factory.mktemp("trained")
    loss = denoiser_loss(autoencoder, denoiser, prompts, settings)
    train_stage("denoiser", both, loss, data, rate, settings, folder)
    both.requires_grad_(False).eval()
    return replace(model, autoencoder=autoencoder, denoiser=denoiser, prompts=prompts)


@pytest.fixture(scope="module")
def adapted(model: LatentModel, newcomers: RealSlices, tmp_path_factory: pytest.TempPathFactory):
    return adapt_networks(model, newcomers, QUICK, tmp_path_factory.mktemp("adapted"), only_cpu=True)


def _joined(base: LatentModel, adapted: AdaptedNetworks, *names: str) -> LatentModel:
    domains = (*base.card.domains, *(DomainCard(name=name, prompt=name, scans=1) for name in names))
    card = base.card.model_copy(update={"domains": domains})
    return replace(base, denoiser=adapted.networks.denoiser, prompts=adapted.networks.prompts, card=card)


def _known_rows(adapted: AdaptedNetworks, base: LatentModel) -> tuple[torch.Tensor, torch.Tensor]:
    known = base.prompts.embedding.weight
    return adapted.networks.prompts.embedding.weight[: len(known)], known


def _changed(adapted: AdaptedNetworks, base: LatentModel) -> set[str]:
    after = adapted.networks.denoiser.state_dict()
    return {name for name, value in base.denoiser.state_dict().items() if not torch.equal(value, after[name])}


def _error(model: LatentModel, domain: str, brain: Volume) -> float:
    return float(np.abs(_look(model, domain, brain) - brain.voxels[brain.voxels > 0]).mean())


def test_a_new_domain_is_learned_and_known_ones_stay(
    trained: LatentModel, brains: np.ndarray, tmp_path: Path
):
    between = (brains[[2]] * np.float16(1.4)).astype(np.float16)
    volume = Volume(between[0].astype(np.float32), trained.grid.affine)
    slices = RealSlices(between, ["between"])
    adapted = adapt_networks(trained, slices, LONGER, tmp_path / "held", only_cpu=True)
    model = _joined(trained, adapted, "between")
    assert adapted.nearest == {"between": "dark"}
    assert _error(model, "between", volume) < 0.8 * _error(trained, "dark", volume)

    freely = LONGER.model_copy(update={"prior_weight": 0.0})
    free = _joined(trained, adapt_networks(trained, slices, freely, tmp_path / "free", only_cpu=True))
    drift, free_drift = (contrast_drift(trained, m, [volume], KNOWN) for m in (model, free))
    apart = np.abs(_look(trained, "bright", volume) - _look(trained, "dark", volume)).mean()
    assert max(drift.values()) < 0.25 * apart
    assert all(drift[name] < 0.85 * free_drift[name] for name in drift)


def _look(model: LatentModel, domain: str, brain: Volume) -> np.ndarray:
    contrast = sample_contrast(model, encode_brain(model, brain), Domain(domain, domain))
    return contrast.voxels[brain.voxels > 0]


def test_a_model_does_not_drift_from_itself(model: LatentModel, new_brains: np.ndarray):
    volume = Volume(new_brains[0].astype(np.float32), model.grid.affine)
    assert contrast_drift(model, model, [volume], KNOWN) == {"bright": 0.0, "dark": 0.0}


def test_only_attention_and_new_tokens_learn(model: LatentModel, adapted: AdaptedNetworks):
    assert all(".to_" in name and "attn" in name for name in _changed(adapted, model))
    assert _changed(adapted, model)
    assert torch.equal(*_known_rows(adapted, model))
    state, before = adapted.networks.prompts.state_dict(), model.prompts.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in before if name != "embedding.weight")


def test_all_weights_may_learn_and_known_tokens_stay_even_then(
    model: LatentModel, newcomers: RealSlices, tmp_path: Path
):
    settings = QUICK.model_copy(update={"all_weights": True})
    adapted = adapt_networks(model, newcomers, settings, tmp_path, only_cpu=True)
    assert "conv_in.weight" in _changed(adapted, model)
    assert torch.equal(*_known_rows(adapted, model))


def test_the_base_is_left_as_it_was(model: LatentModel, newcomers: RealSlices, tmp_path: Path):
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    adapt_networks(model, newcomers, QUICK, tmp_path, only_cpu=True)
    after = model.denoiser.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert list(model.prompts.known) == ["", "bright", "dark"]


def test_an_adapted_model_is_saved_and_loaded_like_any_other(
    model: LatentModel, adapted: AdaptedNetworks, new_brains: np.ndarray, tmp_path: Path
):
    joined = as_saved(_joined(model, adapted, "dim", "vivid"))
    save_model(joined, tmp_path / "model", lambda _: None)
    loaded = load_model(tmp_path / "model")
    volume = Volume(new_brains[0].astype(np.float32), model.grid.affine)
    assert list(loaded.denoiser.state_dict()) == list(model.denoiser.state_dict())
    assert list(loaded.prompts.known) == ["", "bright", "dark", "dim", "vivid"]
    assert np.array_equal(_look(loaded, "dim", volume), _look(joined, "dim", volume))


def test_killed_and_resumed_adaptation_is_the_one_that_was_not_killed(
    model: LatentModel, newcomers: RealSlices, new_brains: np.ndarray, tmp_path: Path
):
    save_model(model, tmp_path / "model", lambda _: None)
    np.save(tmp_path / "brains.npy", new_brains)
    settings = QUICK.model_copy(update={"steps": 8})
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run" / "denoiser.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()

    base = load_model(tmp_path / "model")
    resumed, straight = (
        adapt_networks(base, newcomers, settings, tmp_path / name, only_cpu=True)
        for name in ("run", "straight")
    )
    for network in ("denoiser", "prompts"):
        left, right = (getattr(a.networks, network).state_dict() for a in (resumed, straight))
        assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_class_images_are_generated_once_and_damage_is_told(
    model: LatentModel, newcomers: RealSlices, tmp_path: Path
):
    cache, counts = tmp_path / "class.safetensors", {"": 2, "dark": 3}
    made = class_images(model, newcomers, counts, 0, cache)
    assert made.rows.tolist() == [0, 0, 2, 2, 2]
    time_of = cache.stat().st_mtime_ns
    read = class_images(model, newcomers, counts, 0, cache)
    assert cache.stat().st_mtime_ns == time_of
    assert torch.equal(made.clean, read.clean)
    cache.write_bytes(cache.read_bytes()[:100])
    with pytest.raises(MrharmonyError, match="move it away"):
        class_images(model, newcomers, counts, 0, cache)
