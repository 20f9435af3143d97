import json
import math
import re
import shutil
import socket
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.stable.model import load_stable_diffusion, save_stable_diffusion
from mrharmony.networks.stable.source import WEIGHTS, resolve_source


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


def without(file: Path, name: str | None = None) -> str:
    """Take a weight out of a file, by its name or the middle one; returns its name."""
    tensors = load_file(file)
    lost = name or sorted(tensors)[len(tensors) // 2]
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    return lost


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_missing_weight_of_any_part_is_named(copy: Path, part: str):
    lost = without(copy / part / f"{WEIGHTS[part]}.safetensors")
    with pytest.raises(MrharmonyError, match=rf"{part}: .* incomplete, .*{re.escape(lost)} missing"):
        load_stable_diffusion(copy)


def test_of_many_missing_weights_the_first_are_named_and_the_others_are_counted(copy: Path):
    file = copy / "text_encoder" / "model.safetensors"
    lost = sorted(without(file) for _ in range(7))
    with pytest.raises(MrharmonyError, match=rf"{re.escape(', '.join(lost[:5]))} and 2 more missing"):
        load_stable_diffusion(copy)


def test_weights_under_the_names_of_older_releases_are_complete(copy: Path, base: Path):
    """Stable Diffusion v1.5 was published with other names for the attention of its autoencoder."""
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    for new, old in older.items():
        tensors = {name.replace(f".{new}.", f".{old}."): value for name, value in tensors.items()}
    assert tensors.keys() != load_file(file).keys()
    save_file(tensors, file, metadata={"format": "pt"})
    text = copy / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{k}": v for k, v in load_file(text).items()}, text, metadata={"format": "pt"})
    ours, theirs = load_stable_diffusion(base), load_stable_diffusion(copy)
    for part in ("vae", "text_encoder"):
        states = [getattr(model, part).state_dict() for model in (ours, theirs)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("file", ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("part", ["", "unet/config.json", "vae/config.json", "text_encoder/config.json"])
def test_a_missing_file_is_named(copy: Path, file: str, part: str):
    name = part or file
    (copy / name).unlink()
    with pytest.raises(MrharmonyError, match=rf"{Path(name).parent}/.* is missing"):
        load_stable_diffusion(copy)


def test_an_older_tokenizer_opens_and_lacks_no_file(copy: Path, base: Path):
    shutil.rmtree(copy / "tokenizer")
    shutil.copytree(base.with_name("vocabulary"), copy / "tokenizer")
    assert len(load_stable_diffusion(copy).tokenizer) == len(load_stable_diffusion(base).tokenizer)
    (copy / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(MrharmonyError, match=r"merges\.txt: is missing"):
        load_stable_diffusion(copy)


def test_a_vocabulary_that_is_cut_short_is_refused(copy: Path, base: Path):
    shutil.rmtree(copy / "tokenizer")
    shutil.copytree(base.with_name("vocabulary"), copy / "tokenizer")
    file = copy / "tokenizer" / "vocab.json"
    words = json.loads(file.read_text())
    file.write_text(json.dumps({word: n for word, n in words.items() if n != 5}))
    with pytest.raises(MrharmonyError, match=r"tokenizer: (knows \d+ words|.*damaged)|damaged"):
        load_stable_diffusion(copy)


@pytest.mark.parametrize("lost", ["beta_start", "beta_end", "beta_schedule", "num_train_timesteps"])
def test_a_missing_number_of_the_noise_schedule_is_named(copy: Path, lost: str):
    file = copy / "scheduler" / "scheduler_config.json"
    numbers = json.loads(file.read_text())
    del numbers[lost]
    file.write_text(json.dumps(numbers))
    with pytest.raises(MrharmonyError, match=rf"scheduler_config\.json: .*{lost}: missing"):
        load_stable_diffusion(copy)


def write(file: Path, **numbers: object) -> None:
    """Put other numbers into a config."""
    file.write_text(json.dumps(json.loads(file.read_text()) | numbers))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("beta_end", value) for value in (5.0, -1, 0, math.nan, "0.012", None)),
        ("beta_schedule", "straight"),
        *(("num_train_timesteps", value) for value in (0, 10, 10**9, "1000")),
        *(("prediction_type", value) for value in ("sample", "x", None)),
        ("trained_betas", [2.0] * 1000),
    ],
)
def test_an_impossible_number_of_the_noise_schedule_is_named(copy: Path, name: str, number: object):
    write(copy / "scheduler" / "scheduler_config.json", **{name: number})
    with pytest.raises(MrharmonyError, match=rf"scheduler_config\.json: not .*\({name}.*Fetch the file"):
        resolve_source(copy)


@pytest.mark.parametrize(
    "numbers",
    [
        {"beta_end": 0.9},
        {"beta_start": 1e-30, "beta_end": 1e-30},
        {"rescale_betas_zero_snr": True},
        {"trained_betas": [0.5] * 1000},
    ],
)
def test_numbers_that_are_possible_each_but_no_noise_schedule_together_are_refused(copy: Path, numbers: dict):
    write(copy / "scheduler" / "scheduler_config.json", **numbers)
    with pytest.raises(MrharmonyError, match=r"scheduler_config\.json: .* lead from a picture to noise"):
        load_stable_diffusion(copy)


@pytest.mark.parametrize(
    "numbers",
    [
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "linear"},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"lambda_min_clipped": -math.inf},  # as DPMSolverMultistepScheduler has it
    ],
)
def test_usual_noise_schedules_are_taken(copy: Path, numbers: dict):
    write(copy / "scheduler" / "scheduler_config.json", **numbers)
    assert load_stable_diffusion(copy).schedule.is_sound


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf, 1e300, "0.18215", None, [1]])
def test_an_impossible_scaling_of_latents_is_named(copy: Path, factor: object):
    write(copy / "vae" / "config.json", scaling_factor=factor)
    with pytest.raises(MrharmonyError, match=r"vae/config\.json: not an autoencoder .*\(scaling_factor"):
        resolve_source(copy)


def test_the_usual_scaling_of_latents_need_not_be_told(copy: Path, model):
    """Stable Diffusion v1.5 was published without it."""
    file = copy / "vae" / "config.json"
    numbers = json.loads(file.read_text())
    del numbers["scaling_factor"]
    file.write_text(json.dumps(numbers))
    assert load_stable_diffusion(copy).vae.config.scaling_factor == model.vae.config.scaling_factor


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ("unet", {"norm_eps": math.nan}),
        ("unet", {"norm_eps": -1e9}),
        ("unet", {"mid_block_scale_factor": 0}),
        ("text_encoder", {"layer_norm_eps": math.nan}),
    ],
)
def test_a_network_whose_config_spoils_what_it_makes_is_refused(copy: Path, part: str, numbers: dict):
    write(copy / part / "config.json", **numbers)
    with pytest.raises(MrharmonyError, match=rf"{part}: makes numbers .* not finite .*Fetch the folder"):
        load_stable_diffusion(copy)


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ("unet", {"block_out_channels": [32, 64]}),
        ("vae", {"latent_channels": 8}),
        ("text_encoder", {"hidden_size": 64}),
    ],
)
def test_weights_of_another_width_than_the_config_says_are_told_without_the_libraries_advice(
    copy: Path, part: str, numbers: dict
):
    write(copy / part / "config.json", **numbers)
    with pytest.raises(MrharmonyError, match=rf"{part}: its weights do not fit its config\.json") as told:
        load_stable_diffusion(copy)
    assert "mismatched" not in str(told.value)


@pytest.mark.parametrize(
    ("part", "layers", "key", "more"),
    [
        ("unet", {"layers_per_block": 1}, "down_blocks.0.resnets.1.conv1.bias", 91),
        ("vae", {"layers_per_block": 0}, "decoder.up_blocks.0.resnets.1.conv1.bias", 59),
        ("text_encoder", {"num_hidden_layers": 1}, "encoder.layers.1.layer_norm1.bias", 11),
    ],
)
def test_weights_of_more_layers_than_the_config_says_are_told(
    copy: Path, model, part: str, layers: dict, key: str, more: int
):
    deeper = {"layers_per_block": 2, "block_out_channels": (32, 32)}
    UNet2DConditionModel.from_config({**model.unet.config, **deeper}).save_pretrained(copy / "unet")
    load_stable_diffusion(copy)
    write(copy / part / "config.json", **layers)
    fault = rf"{part}: its weights do not fit its config\.json, .* for {key}, .* and {more} more\. Take both"
    with pytest.raises(MrharmonyError, match=fault):
        load_stable_diffusion(copy)


@pytest.mark.parametrize(
    ("prefix", "key", "value"),
    [
        ("", "text_projection.weight", torch.eye(32)),
        ("text_model.", "text_projection.weight", torch.eye(32)),
        ("text_model.", "text_model.embeddings.position_ids", torch.arange(16)[None]),
    ],
)
def test_what_older_or_larger_text_encoders_hold_beside_is_left(
    copy: Path, prefix: str, key: str, value: torch.Tensor
):
    file = copy / "text_encoder" / "model.safetensors"
    tensors = {prefix + name: weight for name, weight in load_file(file).items()}
    save_file(tensors | {key: value}, file, metadata={"format": "pt"})
    load_stable_diffusion(copy)


@pytest.mark.parametrize("text", ['{"_class', "[]", "{}", '{"_class_name": 3}'])
def test_a_damaged_index_is_called_damaged(copy: Path, text: str):
    (copy / "model_index.json").write_text(text)
    with pytest.raises(MrharmonyError, match=r"model_index\.json: is damaged, .*Fetch the file again"):
        resolve_source(copy)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("text", ['{"_class', "[]"])
def test_a_damaged_config_is_called_damaged(copy: Path, part: str, text: str):
    (copy / part / "config.json").write_text(text)
    with pytest.raises(MrharmonyError, match=rf"{part}/config\.json: is damaged"):
        resolve_source(copy)


def test_the_schedule_is_that_of_the_scheduler_that_comes_with_the_model(base: Path, model):
    theirs = PNDMScheduler.from_pretrained(base / "scheduler")
    assert torch.equal(model.schedule.alphas, theirs.alphas_cumprod.double())
    assert model.schedule.last_alpha == float(theirs.final_alpha_cumprod)


def test_pickled_weights_are_refused(copy: Path):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(MrharmonyError, match="pickled weights"):
        load_stable_diffusion(copy)


def test_half_precision_alone_is_refused_and_the_full_file_named(copy: Path):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(MrharmonyError, match=r"fp16.*half precision.*Fetch diffusion_pytorch_model\.safet"):
        resolve_source(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str):
    shutil.rmtree(copy / part)
    with pytest.raises(MrharmonyError, match=part):
        load_stable_diffusion(copy)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("StableDiffusionXLPipeline", "SDXL"),
        ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
        ("FluxPipeline", "FLUX"),
        ("StableDiffusionInpaintPipeline", "StableDiffusionInpaintPipeline"),
    ],
)
def test_other_families_are_called_by_their_names(tmp_path: Path, kind: str, family: str):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(MrharmonyError, match=rf"is {family} .*Name a text-to-image model of v1"):
        resolve_source(tmp_path)


def test_damaged_weights_are_told_in_one_sentence(copy: Path):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(MrharmonyError, match="incomplete or damaged"):
        load_stable_diffusion(copy)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("v1-5.safetensors", "Convert it once with diffusers"),
        ("v1-5.ckpt", "pickled checkpoint, which can run code"),
        ("unet.bin", "pickled checkpoint, which can run code"),
        ("notes.txt", "Name a model directory"),
    ],
)
def test_a_single_file_comes_with_the_advice_for_its_kind(tmp_path: Path, name: str, advice: str):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(MrharmonyError, match=rf"{re.escape(name)}: is .*{advice}"):
        resolve_source(tmp_path / name)
    folder = name if name != "notes.txt" else "model_index"
    with pytest.raises(MrharmonyError, match=re.escape(folder)):
        resolve_source(tmp_path)


@pytest.mark.parametrize("name", ["someone/some-model", "no/such/directory"])
def test_a_name_that_is_not_here_is_not_looked_for_in_the_network(name: str):
    with pytest.raises(MrharmonyError, match=name):
        resolve_source(name)


def test_a_download_that_fails_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object):
        raise OSError("no route")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(
        MrharmonyError, match=r"some-model: .*no network here.*hf download someone/some-model"
    ):
        resolve_source("someone/some-model", network=True)


def test_an_inpainting_model_is_refused(copy: Path, model):
    model.unet.conv_in = torch.nn.Conv2d(9, 16, 3, padding=1)
    model.unet.register_to_config(in_channels=9)
    model.unet.save_pretrained(copy / "unet")
    with pytest.raises(MrharmonyError, match="9 channels"):
        load_stable_diffusion(copy)


def test_of_another_family_nothing_but_the_index_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    asked = []

    def download(_: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((allow_patterns, local_files_only))
        return str(tmp_path)

    monkeypatch.setattr("mrharmony.networks.stable.source.snapshot_download", download)
    with pytest.raises(MrharmonyError, match="is FLUX"):
        resolve_source("someone/some-model", network=True)
    assert asked == [(["model_index.json"], False)]
