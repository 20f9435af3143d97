import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.networks import (
    build_autoencoder,
    build_denoiser,
    decode,
    encode,
    predict_velocity,
)
from mrharmony.networks.compact.training import train_networks
from mrharmony.networks.settings import AutoencoderSettings, DenoiserSettings, StageSettings, TrainingSettings

RUN = """
import sys
from pathlib import Path
import numpy as np, torch
from mrharmony.networks.compact.data import RealSlices
from mrharmony.networks.compact.training import train_networks
from mrharmony.networks.settings import TrainingSettings
torch.set_num_threads(1)
folder = Path(sys.argv[1])
data = RealSlices(np.load(folder / "brains.npy"), ["bright", "bright", "dark", "dark"])
settings = TrainingSettings.model_validate_json((folder / "settings.json").read_text())
train_networks(data, settings, folder / "run")
"""


def _weights(networks) -> list[np.ndarray]:
    modules = (networks.autoencoder, networks.denoiser, networks.prompts)
    return [value.numpy() for module in modules for value in module.state_dict().values()]


@torch.no_grad()
def round_trip_error(autoencoder, batch) -> float:
    """The root mean square error of encode and decode inside the brain, in canonical units."""
    restored = decode(autoencoder, encode(autoencoder, batch.images))
    return float((restored - batch.images)[batch.images > 0].square().mean().sqrt())


def test_a_batch_is_decided_by_its_generator(data: RealSlices):
    first, second = (data.batch(5, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.structures, second.structures)
    assert first.prompts == second.prompts
    assert first.images.shape == first.structures.shape == (5, 1, 40, 40)


def test_both_domains_are_drawn_equally_often(data: RealSlices):
    prompts = data.batch(400, torch.Generator().manual_seed(0)).prompts
    assert 150 < prompts.count("bright") < 250


def test_training_lowers_the_error(data: RealSlices, settings: TrainingSettings, tmp_path: Path):
    longer = settings.model_copy(
        update={"autoencoder_stage": settings.autoencoder_stage.model_copy(update={"steps": 60})}
    )
    batch = data.batch(8, torch.Generator().manual_seed(1))
    short, long = (
        round_trip_error(train_networks(data, s, tmp_path / str(n)).autoencoder, batch)
        for n, s in enumerate((settings, longer))
    )
    assert long < 0.7 * short


def test_killed_and_resumed_training_is_the_training_that_was_not_killed(
    data: RealSlices, brains: np.ndarray, settings: TrainingSettings, tmp_path: Path
):
    torch.set_num_threads(1)
    np.save(tmp_path / "brains.npy", brains)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run" / "denoiser.safetensors"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()

    resumed = train_networks(data, settings, tmp_path / "run")
    straight = train_networks(data, settings, tmp_path / "straight")
    for one, other in zip(_weights(resumed), _weights(straight), strict=True):
        assert np.array_equal(one, other)


def test_a_checkpoint_of_another_run_is_refused(data: RealSlices, settings: TrainingSettings, tmp_path: Path):
    train_networks(data, settings, tmp_path)
    wider = settings.model_copy(
        update={"autoencoder": settings.autoencoder.model_copy(update={"channels": (16, 16)})}
    )
    with pytest.raises(MrharmonyError, match=r"autoencoder\.safetensors"):
        train_networks(data, wider, tmp_path)


def test_presets_load_and_unknown_ones_are_told():
    assert TrainingSettings.preset("quick").working_zoom == 2.0
    with pytest.raises(MrharmonyError, match="quick"):
        TrainingSettings.preset("no-such-preset")


def test_a_preset_file_with_a_typo_is_refused(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("denoiser_stage: {steps: 5}\nautoencoder_stage: {steps: 5, bach: 3}\n")
    with pytest.raises(MrharmonyError, match=r"mine\.yaml"):
        TrainingSettings.preset(str(file))


STAGES = "denoiser_stage: {steps: 5}\nautoencoder_stage: {steps: 5}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("denoiser: {channels: [8, 8]}", "denoiser.channels.0.*16"),
        ("denoiser: {channels: [24]}", "denoiser.channels.0.*multiple of 16"),
        ("autoencoder: {channels: [12]}", "autoencoder.channels.0.*multiple of 8"),
        ("autoencoder: {channels: [8, 8, 8, 8, 8, 8]}", "slices of 80 pixels cannot be halved 5 times"),
        ("denoiser: {channels: [16, 16, 16, 16, 16]}", "latents of 20 pixels have no room for 5 levels"),
        ("working_zoom: 3.0", r"working_zoom.*do not fill the field of view"),
    ],
)
def test_settings_that_no_network_can_have_are_refused_as_they_are_read(tmp_path: Path, text: str, said: str):
    file = tmp_path / "mine.yaml"
    file.write_text(f"{text}\n{STAGES}")
    with pytest.raises(MrharmonyError, match=rf"mine\.yaml: (?s:.*){said}") as refusal:
        TrainingSettings.preset(str(file))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("autoencoder", "denoiser"), [((8,), (16,) * 6), ((8,) * 5, (16, 16)), ((8,), (16,))]
)
def test_settings_that_are_accepted_make_networks_that_take_a_slice(
    autoencoder: tuple[int, ...], denoiser: tuple[int, ...]
):
    settings = TrainingSettings(
        autoencoder=AutoencoderSettings(channels=autoencoder),
        denoiser=DenoiserSettings(channels=denoiser),
        autoencoder_stage=StageSettings(steps=1),
        denoiser_stage=StageSettings(steps=1),
    )
    networks = build_autoencoder(settings.autoencoder), build_denoiser(settings.denoiser, 8, 80)
    slices = torch.zeros(2, 1, 80, 80)
    latents = encode(networks[0], slices)
    assert decode(networks[0], latents).shape == slices.shape
    tokens = torch.zeros(2, 4, settings.denoiser.token_size)
    assert predict_velocity(networks[1], latents, latents, torch.zeros(2), tokens).shape == latents.shape
