import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionInstructPix2PixPipeline
from safetensors import safe_open

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.schedule import NoiseSchedule
from mrharmony.networks.settings import DreamBoothSettings
from mrharmony.networks.stable.adapting import add_tokens, instance_prompts, require_told_apart, widen
from mrharmony.networks.stable.data import SliceSet, choose_slices, class_picture_files, load_picture
from mrharmony.networks.stable.model import StableDiffusion, load_stable_diffusion, save_stable_diffusion
from mrharmony.networks.stable.training import (
    dreambooth_loss,
    precision_on,
    train_dreambooth,
    training_name,
)
from mrharmony.networks.translation import TranslationSettings, translate_slices


def train(
    base: Path, data: SliceSet, settings: DreamBoothSettings, folder: Path, name: str = "tiny"
) -> StableDiffusion:
    prompts = instance_prompts(list(data.slices), settings.prompt)
    return train_dreambooth(
        load_stable_diffusion(base), data, prompts, settings, folder, base=name, only_cpu=True
    )


def changed(settings: DreamBoothSettings, **changes: object) -> DreamBoothSettings:
    return DreamBoothSettings.model_validate(settings.model_dump() | changes)


def weights(model: StableDiffusion) -> list[torch.Tensor]:
    return [*model.unet.state_dict().values(), *model.text_encoder.state_dict().values()]


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.float() - b.float()).abs().max()) for a, b in pairs)


def test_killed_and_resumed_training_is_the_one_that_was_not_killed(base, data, settings, tmp_path: Path):
    changes = {"prompt": "token", "method": "lora", "text_encoder": True, "accumulation": 2, "steps": 6}
    settings = changed(settings, **changes)
    process = multiprocessing.get_context("fork").Process(
        target=train, args=(base, data, settings, tmp_path / "run")
    )
    process.start()
    prompts = instance_prompts(list(data.slices), settings.prompt)
    name = training_name("tiny", data, prompts, settings)
    checkpoint = tmp_path / "run" / f"{name}.safetensors"
    while not checkpoint.exists() and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert checkpoint.exists()
    with safe_open(checkpoint, framework="pt") as archive:
        assert int(archive.metadata()["step"]) < settings.steps

    resumed = train(base, data, settings, tmp_path / "run")
    straight = train(base, data, settings, tmp_path / "straight")
    for one, other in zip(weights(resumed), weights(straight), strict=True):
        assert torch.equal(one, other)


def test_full_training_moves_the_unet_alone_and_plain_diffusers_loads_the_result(
    base, model, data, settings, tmp_path: Path
):
    trained = train(base, data, changed(settings, gradient_checkpointing=True), tmp_path)
    assert distance(model.unet, trained.unet) > 1e-4
    assert distance(model.text_encoder, trained.text_encoder) == 0
    assert distance(model.vae, trained.vae) == 0
    save_stable_diffusion(trained, tmp_path / "model")
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "model", local_files_only=True)
    assert distance(pipeline.unet, trained.unet) == 0
    made = pipeline("ADNI3", torch.zeros(1, 3, 40, 40), num_inference_steps=2, output_type="pt").images
    assert torch.isfinite(made).all()


def test_without_an_average_the_last_weights_are_kept_and_no_copy_of_them(
    base, data, settings, tmp_path: Path
):
    plain = changed(settings, ema_decay=0.0, prior_weight=0.0, validate_every=None)
    last, averaged = (
        train(base, data, changed(plain, ema_decay=decay), tmp_path / str(decay)) for decay in (0.0, 1e-9)
    )
    assert distance(last.unet, averaged.unet) < 1e-6
    (checkpoint,) = (tmp_path / "0.0").rglob("dreambooth*.safetensors")
    with safe_open(checkpoint, framework="pt") as archive:
        assert not any(name.startswith("ema/") for name in archive.keys())  # noqa: SIM118


def test_adapters_are_merged_into_weights_and_tokens_into_the_vocabulary(
    base, model, data, settings, tmp_path: Path
):
    low_rank = changed(settings, method="lora", prompt="token", prior_weight=0.0)
    trained = train(base, data, low_rank, tmp_path)
    save_stable_diffusion(trained, tmp_path / "model")
    plain = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "model", local_files_only=True)
    assert plain.tokenizer.tokenize("<adni2> <adni3>") == ["<adni2>", "<adni3>"]
    assert plain.unet.state_dict().keys() == model.unet.state_dict().keys()
    assert distance(plain.unet, model.unet) > 1e-4
    table, old = (m.text_encoder.get_input_embeddings().weight.clone() for m in (plain, model))
    assert torch.equal(table[: len(old)], old)
    add_tokens(model, instance_prompts(["ADNI2", "ADNI3"], "token"))
    untrained = model.text_encoder.get_input_embeddings().weight
    assert (table[len(old) :] - untrained[len(old) :]).abs().min(dim=1).values.max() > 0


def test_training_lowers_the_error(base, data, settings, tmp_path: Path):
    longer = changed(settings, steps=25, prior_weight=0.0, learning_rate=1e-2, ema_decay=0.5)
    trained = train(base, data, longer, tmp_path)
    errors = []
    for model in (load_stable_diffusion(base), trained):
        generator = torch.Generator().manual_seed(1)
        batch = data.batch(16, generator)
        with torch.inference_mode():
            clean = model.encode(batch.slices)
            noise = torch.randn(clean.shape, generator=generator)
            noisy = model.schedule.noisy(clean, noise, torch.full((16,), 700))
            predicted = model.predict(noisy, None, 700, model.embed("ADNI2", torch.zeros(16)))
        errors.append(float((predicted - noise).square().mean()))
    assert errors[1] < 0.8 * errors[0]


def test_structure_widens_the_first_convolution_and_is_used(base, model, data, settings, tmp_path: Path):
    trained = train(base, data, changed(settings, structure=True, prior_weight=0.5), tmp_path)
    assert trained.takes_structure
    assert trained.unet.conv_in.weight[:, 4:].abs().max() > 0
    save_stable_diffusion(trained, tmp_path / "model")
    again = load_stable_diffusion(tmp_path / "model")
    slices = data.batch(2, torch.Generator().manual_seed(0)).slices
    contrasts = [
        translate_slices(
            again,
            slices,
            torch.zeros(2),
            "ADNI2",
            TranslationSettings(num_inference_steps=2, strength=1.0, input_weight=weight),
        )
        for weight in (None, 1.0, 2.0)
    ]
    assert (contrasts[0] - contrasts[1]).abs().max() > 1e-6
    assert (contrasts[1] - contrasts[2]).abs().max() > 1e-6
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        tmp_path / "model", local_files_only=True
    )
    assert pipeline.unet.config.in_channels == 8


def test_a_widened_unet_that_has_not_learned_yet_is_the_old_one(model, slices):
    latents = model.encode(torch.from_numpy(slices[:2])[:, None])
    tokens = model.embed("ADNI2", torch.zeros(2))
    before = model.predict(latents, None, 500, tokens)
    widen(model)
    assert model.unet.config.in_channels == 8
    assert torch.allclose(model.predict(latents, torch.randn_like(latents), 500, tokens), before, atol=1e-6)


def test_class_pictures_are_made_once_and_kept_as_floats(model, settings, tmp_path: Path):
    files = class_picture_files(model, (38, 34), settings, tmp_path, "tiny")
    picture = load_picture(files[0])
    assert picture.shape == (3, 40, 40)
    assert picture.dtype == torch.float32
    assert len(picture.unique()) > 256
    assert not torch.equal(picture, load_picture(files[1]))
    files[1].unlink()
    times = [file.stat().st_mtime_ns for file in (files[0], files[2])]
    assert class_picture_files(model, (38, 34), settings, tmp_path, "tiny") == files
    assert [file.stat().st_mtime_ns for file in (files[0], files[2])] == times
    assert files[1].exists()
    class_picture_files(model, (38, 34), settings, tmp_path, "another model")
    assert files[0].stat().st_mtime_ns != times[0]


def test_a_class_picture_that_is_not_finite_is_not_kept_but_told_of_the_base(model, settings, tmp_path: Path):
    impossible = replace(model, scheduler=DDIMScheduler(rescale_betas_zero_snr=True))
    for odd, own in ((impossible, settings), (model, changed(settings, class_guidance=1e38))):
        with pytest.raises(MrharmonyError, match=r"base model makes .* not finite.* Fetch the base again"):
            class_picture_files(odd, (38, 34), own, tmp_path, "tiny")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [5.0, None])
def test_prior_preservation_leaves_the_weights_of_the_instances_alone(prediction: str, gamma: float | None):
    schedule = NoiseSchedule.of(DDIMScheduler(prediction_type=prediction))
    errors, times = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10, 900, 300, 700])
    both = dreambooth_loss(errors, times, schedule, 2, gamma, 0.5)
    instances = dreambooth_loss(errors[:2], times[:2], schedule, 2, gamma, 0.5)
    classes = dreambooth_loss(errors[2:], times[2:], schedule, 2, gamma, 0.5)
    assert both == pytest.approx(float(instances + 0.5 * classes))


def test_the_weights_are_those_of_min_snr():
    noise, velocity = (
        NoiseSchedule.of(DDIMScheduler(prediction_type=kind)) for kind in ("epsilon", "v_prediction")
    )
    times = torch.tensor([0, 300, 999])
    snr = noise.alphas[times] / (1 - noise.alphas[times])
    capped = torch.minimum(snr, torch.tensor(5.0))
    assert torch.allclose(noise.snr_weights(times, 5.0).double(), capped / snr)
    assert torch.allclose(velocity.snr_weights(times, 5.0).double(), capped / (snr + 1))
    # Weighing v by min(SNR, γ) / (SNR + 1) weighs the picture itself by min(SNR, γ).
    assert noise.snr_weights(times, 5.0)[2] == 1.0


def test_pure_noise_at_the_end_of_the_schedule_gives_finite_weights():
    schedule = NoiseSchedule.of(DDIMScheduler(rescale_betas_zero_snr=True))
    assert torch.isfinite(schedule.snr_weights(torch.tensor([999]), 5.0)).all()


def test_added_tokens_start_as_the_mean_of_the_names_pieces(model):
    rows = add_tokens(model, {"ADNI3": "<adni3>"})
    table = model.text_encoder.get_input_embeddings().weight
    pieces = model.tokenizer("ADNI3", add_special_tokens=False).input_ids
    assert torch.allclose(table[rows[0]], table[pieces].mean(dim=0))
    assert model.token_ids(["<adni3>"])[0, 1] == rows[0]
    with torch.no_grad():
        table[rows[0]] = 7.0  # as if trained
    assert add_tokens(model, {"ADNI3": "<adni3>"}) == rows
    assert (model.text_encoder.get_input_embeddings().weight[rows[0]] == 7.0).all()


def test_prompts_are_plain_names_or_tokens():
    assert instance_prompts(["ADNI2", "Site A/1"], "name") == {"ADNI2": "ADNI2", "Site A/1": "Site A/1"}
    assert instance_prompts(["ADNI2", "Site A/1"], "token") == {"ADNI2": "<adni2>", "Site A/1": "<site-a-1>"}
    with pytest.raises(MrharmonyError, match="same token"):
        instance_prompts(["A 1", "a-1"], "token")
    with pytest.raises(MrharmonyError, match=r"大阪: makes the same token as 東京, which the base knows\."):
        instance_prompts(["大阪"], "token", {"東京": "<>"})
    assert instance_prompts(["大阪"], "name", {"東京": "<>"}) == {"大阪": "大阪"}


@pytest.mark.parametrize(
    ("names", "known", "told"),
    [
        (["site-of-the-north-one", "site-of-the-north-two"], (), "two: .* like site-of-the-north-one"),
        (["site-of-the-north-two"], ["site-of-the-north-one"], "two: .* like site-of-the-north-one"),
        (["A brain MR image"], (), "A brain MR image: .* like the class prompt"),
    ],
)
def test_names_that_the_text_encoder_reads_alike_are_refused(model, settings, names, known, told: str):
    prompts, others = instance_prompts(names, "name"), instance_prompts(known, "name")
    with pytest.raises(MrharmonyError, match=rf"{told}\. Call it otherwise, or give the preset"):
        require_told_apart(model, prompts, others, settings)
    tokens = instance_prompts(names, "token", others)
    require_told_apart(model, tokens, others, settings)
    alone = changed(settings, prior_weight=0.0)
    require_told_apart(model, {"A brain MR image": "A brain MR image", "ADNI2": "ADNI2"}, {}, alone)


def test_slices_are_random_full_enough_and_along_the_axis():
    brain = np.zeros((20, 30, 20), np.float32)
    brain[2:18, 5:25, 2:18] = np.arange(30)[5:25, None]
    chosen = choose_slices(brain, 1, 10, np.random.default_rng(0))
    assert chosen.shape == (10, 20, 20)
    assert len({float(piece.max()) for piece in chosen}) == 10
    assert choose_slices(brain, 0, 99, np.random.default_rng(0)).shape == (16, 30, 20)


def test_slices_that_are_nearly_empty_are_not_learned_from():
    """A ball of 1 mm: its first and last slices hold more than 100 voxels, and next to nothing to see."""
    places = np.mgrid[-80:80, -80:80, -80:80].astype(np.float32)
    ball = (np.square(places).sum(axis=0) < 70**2).astype(np.float32)
    areas = ball.sum(axis=(0, 2))
    chosen = choose_slices(ball, 1, 999, np.random.default_rng(0)).sum(axis=(1, 2))
    assert chosen.min() >= areas.max() / 4
    assert len(chosen) == (areas >= areas.max() / 4).sum() < (areas > 100).sum()


@pytest.mark.parametrize(
    ("slices", "processes", "steps"),
    [({"a": 100}, 1, 125), ({"a": 100, "b": 10}, 1, 250), ({"a": 100, "b": 10}, 4, 63)],
)
def test_epochs_become_steps_that_show_the_largest_domain_so_often(slices, processes: int, steps: int):
    planned = DreamBoothSettings(epochs=5, batch=2, accumulation=2).planned(slices, processes)
    assert planned.steps == steps
    assert DreamBoothSettings(steps=7).planned(slices, processes).steps == 7


def test_half_precision_is_chosen_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch):
    auto = DreamBoothSettings(precision="auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for able, chosen in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert precision_on(auto, only_cpu=False) == chosen
        assert precision_on(auto, only_cpu=True) == "no"
    assert precision_on(DreamBoothSettings(precision="fp16"), only_cpu=True) == "fp16"


def test_another_base_or_setting_starts_from_the_beginning_and_says_so(
    base, model, data, settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What is not resumed ends as it does in a folder of its own."""
    plain = changed(settings, steps=2, prior_weight=0.0, validate_every=None)
    with torch.no_grad():
        model.unet.conv_in.weight.mul_(1.5)
    save_stable_diffusion(model, tmp_path / "other")
    train(base, data, plain, tmp_path / "run")
    train(base, data, plain, tmp_path / "run")
    assert "from the beginning" not in capsys.readouterr().err
    others = [
        (tmp_path / "other", plain, "other"),
        (base, changed(plain, learning_rate=1e-7), "tiny"),
        (base, changed(plain, method="lora"), "tiny"),
    ]
    for number, (start, own, name) in enumerate(others):
        after = train(start, data, own, tmp_path / "run", name)
        told = capsys.readouterr().err
        assert f"{tmp_path / 'run'}: the training there is of another base" in told
        alone = train(start, data, own, tmp_path / str(number), name)
        assert "from the beginning" not in capsys.readouterr().err
        for one, other in zip(weights(after), weights(alone), strict=True):
            assert torch.equal(one, other)


def test_the_name_of_a_training_changes_with_all_that_decides_it(data, settings):
    prompts = {"ADNI2": "ADNI2", "ADNI3": "ADNI3"}
    names = {
        training_name("tiny", data, prompts, settings),
        training_name("other", data, prompts, settings),
        training_name("tiny", SliceSet(dict(reversed(data.slices.items()))), prompts, settings),
        training_name("tiny", data, {name: f"<{name}>" for name in prompts}, settings),
        training_name("tiny", data, prompts, changed(settings, learning_rate=1e-7)),
    }
    assert len(names) == 5


def test_a_checkpoint_belongs_to_its_slices(data):
    name, slices = next(iter(data.slices.items()))
    changed_slices = slices.copy()
    changed_slices[0, 0, 0] += 1
    others = [{name: changed_slices}, {"elsewhere": slices}]
    digests = {SliceSet({**data.slices, **other}).digest() for other in others} | {data.digest()}
    assert len(digests) == 3
    assert SliceSet(dict(data.slices)).digest() == data.digest()


@pytest.mark.parametrize("name", ["paper", "lora", "structure"])
def test_presets_load(name: str):
    assert DreamBoothSettings.preset(name).class_prompt == "a brain MR image"
