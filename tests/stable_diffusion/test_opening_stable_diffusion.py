import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.stable.model import load_stable_diffusion, resolve_source, save_stable_diffusion


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


def test_a_directory_opens_without_the_network_and_ready_to_use(base: Path):
    model = load_stable_diffusion(base)
    assert not any(
        p.requires_grad for n in (model.unet, model.vae, model.text_encoder) for p in n.parameters()
    )
    assert not model.takes_structure
    assert model.tokenizer.tokenize("ADNI2 a brain")[0] == "adni</w>"


def test_a_saved_model_is_the_same_model_to_us_and_opens_in_plain_diffusers(model, tmp_path: Path):
    save_stable_diffusion(model, tmp_path / "saved")
    again = load_stable_diffusion(tmp_path / "saved")
    for one, other in zip(model.unet.state_dict().values(), again.unet.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved", local_files_only=True)
    picture = torch.zeros(1, 3, 40, 40)
    made = pipeline("ADNI2", picture, num_inference_steps=2, output_type="pt").images
    assert made.shape == (1, 3, 40, 40)


def test_pickled_weights_are_refused(copy: Path):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(MrharmonyError, match="pickled weights"):
        load_stable_diffusion(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str):
    shutil.rmtree(copy / part)
    with pytest.raises(MrharmonyError, match=part):
        load_stable_diffusion(copy)


def test_damaged_weights_are_told_in_one_sentence(copy: Path):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(MrharmonyError, match="incomplete or damaged"):
        load_stable_diffusion(copy)


def test_a_single_checkpoint_file_is_told_to_be_converted(tmp_path: Path):
    (tmp_path / "v1-5.ckpt").write_bytes(b"")
    with pytest.raises(MrharmonyError, match="Convert it"):
        resolve_source(tmp_path / "v1-5.ckpt")


@pytest.mark.parametrize("name", ["someone/some-model", "no/such/directory"])
def test_a_name_that_is_not_here_is_not_looked_for_in_the_network(name: str):
    with pytest.raises(MrharmonyError, match=name):
        resolve_source(name)


def test_a_download_that_fails_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object):
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(MrharmonyError, match="someone/some-model"):
        resolve_source("someone/some-model", network=True)


def test_an_inpainting_model_is_refused(copy: Path, model):
    model.unet.conv_in = torch.nn.Conv2d(9, 16, 3, padding=1)
    model.unet.register_to_config(in_channels=9)
    model.unet.save_pretrained(copy / "unet")
    with pytest.raises(MrharmonyError, match="9 channels"):
        load_stable_diffusion(copy)


def test_a_model_that_predicts_the_picture_itself_is_refused(copy: Path):
    file = copy / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(MrharmonyError, match="predicts sample"):
        load_stable_diffusion(copy)
