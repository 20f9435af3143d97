"""The traps of image-to-image in diffusers, each met; and what translation promises."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionImg2ImgPipeline
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny_stable_diffusion import SD15_SCHEDULE
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.networks.schedule import NoiseSchedule, sampling_times
from mrharmony.networks.stable.model import to_pictures, to_slices
from mrharmony.networks.translation import (
    WHITE,
    TranslationSettings,
    image_noise,
    select_images,
    translate_brain,
    translate_slices,
)

V15_BETAS = {key: SD15_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
QUICK = TranslationSettings(num_inference_steps=4, strength=0.5)


@pytest.fixture
def batch(slices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(slices)[:, None]


def translate(model, batch, **changes):
    settings = QUICK.model_copy(update=changes)
    return translate_slices(model, batch, torch.zeros(len(batch)), "ADNI3", settings)


@given(steps=st.integers(1, 1000), percent=st.integers(0, 100))
def test_the_number_of_steps_is_rounded_and_all_times_exist(steps: int, percent: int):
    times = sampling_times(steps, percent / 100, 1000)
    exact = steps * percent / 100
    assert abs(len(times) - exact) <= 0.5 + 1e-9 or (len(times) == 1 and 0 < exact < 0.5)
    assert all(999 >= one > other >= 0 for one, other in pairwise(times))
    assert all(0 <= time <= 999 for time in times)


def test_steps_times_strength_is_not_truncated():
    assert int(50 * 0.58) == 28  # what diffusers runs
    assert len(sampling_times(50, 0.58, 1000)) == 29
    assert len(sampling_times(10, 0.04, 1000)) == 1


def test_a_thousand_steps_at_strength_one_stay_within_the_schedule():
    v15 = PNDMScheduler(**SD15_SCHEDULE)
    v15.set_timesteps(1000)
    assert v15.timesteps.max() == 1000  # one past the last, which is the trap
    assert sampling_times(1000, 1.0, 1000) == list(range(999, -1, -1))


class OnePicture:
    """A `PictureModel` of data that is one picture only, so that the best prediction is known."""

    axis, takes_structure = 1, False

    def __init__(self, picture: torch.Tensor) -> None:
        self.schedule = NoiseSchedule.of(DDIMScheduler(**V15_BETAS, set_alpha_to_one=True))
        self.picture = picture

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        return slices

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return latents

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(positions), 1, 1)

    def predict(self, latents, structure, time, tokens) -> torch.Tensor:
        alpha = self.schedule.alphas[time].float()
        return (latents - alpha.sqrt() * self.picture) / (1 - alpha).sqrt()


@pytest.mark.parametrize("steps", [1000, 30, 1])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_any_number_of_steps_at_any_strength_ends_at_the_data(batch, steps: int, strength: float):
    model = OnePicture(batch[3])
    settings = TranslationSettings(num_inference_steps=steps, strength=strength)
    made = translate_slices(model, batch[:2], torch.zeros(2), "", settings)
    assert torch.allclose(made[0], batch[3:4].expand(2, -1, -1, -1), atol=1e-3)


def test_the_loop_is_that_of_diffusers_where_diffusers_is_right(model, batch):
    settings = TranslationSettings(num_inference_steps=10, strength=0.5, guidance_scale=3.0, seed=5)
    pipeline = StableDiffusionImg2ImgPipeline(
        model.vae, model.text_encoder, model.tokenizer, model.unet, model.scheduler, None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    with torch.inference_mode():
        theirs = pipeline(
            "ADNI3",
            model.encode(batch[:1]),
            strength=0.5,
            num_inference_steps=10,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        ).images
        expected = model.decode(theirs, (38, 34)).clamp_min(0)
    ours = translate_slices(model, batch[:1], torch.zeros(1), "ADNI3", settings)[0]
    assert torch.allclose(ours, expected, atol=1e-4)


def test_the_latent_is_the_mode_and_not_a_sample(model, batch):
    posterior = model.vae.encode(model.pictures(batch)).latent_dist
    assert posterior.std.min() > 0
    assert torch.equal(model.encode(batch), posterior.mode() * model.vae.config.scaling_factor)


def test_strength_zero_is_the_round_trip_of_the_autoencoder(model, batch):
    with torch.inference_mode():
        expected = model.decode(model.encode(batch), (38, 34)).clamp_min(0)
    assert torch.allclose(translate(model, batch, strength=0.0)[0], expected, atol=1e-6)


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    enlarge=st.integers(1, 3),
    multiple=st.sampled_from([8, 16]),
)
def test_any_size_is_padded_and_comes_back(rows: int, columns: int, enlarge: int, multiple: int):
    flat = torch.full((2, 1, rows, columns), 0.7)
    pictures = to_pictures(flat, enlarge, multiple)
    assert pictures.shape[1] == 3
    assert all(edge % multiple == 0 and edge - enlarge * side < multiple
               for edge, side in zip(pictures.shape[2:], (columns, rows), strict=True))  # fmt: skip
    assert torch.allclose(to_slices(pictures, (rows, columns), enlarge, multiple), flat, atol=1e-6)


def test_intensities_never_pass_through_8_bits(batch):
    levels = torch.linspace(0, WHITE, 38 * 34).reshape(1, 1, 38, 34)
    pictures = to_pictures(levels, 1, 8)
    assert pictures.dtype == torch.float32
    assert len(pictures.unique()) == 38 * 34  # far more than 256
    assert torch.allclose(to_slices(pictures, (38, 34), 1, 8), levels, atol=1e-6)


def test_pictures_are_upright_and_black_around():
    brain = torch.zeros(1, 1, 4, 6)
    brain[0, 0, 0, -1] = WHITE  # left, superior
    picture = to_pictures(brain, 1, 8)[0, 0]
    assert picture.shape == (8, 8)
    assert picture[1, 2] == 1  # the first row and column that are not padding
    assert (picture.flatten().sort().values[:-1] == -1).all()


def test_each_image_has_its_own_generator_whatever_the_batch(model, batch):
    settings = {"num_images_per_prompt": 3, "select": "all", "seed": 7}
    together = translate(model, batch[:6], **settings)
    alone = translate(model, batch[2:3], **settings)
    assert torch.allclose(together[:, 2:3], alone, atol=1e-5)
    shard = translate(model, batch[2:3], seed=9)
    assert torch.allclose(together[2, 2:3], shard[0], atol=1e-5)  # image n of seed s is image 0 of seed s + n
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_all_slices_of_an_image_start_from_the_same_noise():
    noise = image_noise(torch.Size([4, 5, 5]), 3, [0, 0, 1])
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("following", [400, None])
def test_a_perfect_prediction_is_stepped_to_the_exact_mixture(prediction: str, following: int | None):
    schedule = NoiseSchedule.of(DDIMScheduler(prediction_type=prediction, set_alpha_to_one=True))
    clean, noise = torch.randn(2, 3, 4, 5, 5)
    time = torch.full((3,), 600)
    made = schedule.step(
        schedule.target(clean, noise, time), schedule.noisy(clean, noise, time), 600, following
    )
    there = clean if following is None else schedule.noisy(clean, noise, torch.full((3,), following))
    assert torch.allclose(made, there, atol=1e-5)


def test_guidance_and_prompt_change_the_picture(model, batch):
    one = translate(model, batch[:1])
    assert (one - translate(model, batch[:1], guidance_scale=1.0)).abs().max() > 1e-5
    other = translate_slices(model, batch[:1], torch.zeros(1), "a brain", QUICK)
    assert (one - other).abs().max() > 1e-5


def test_selection():
    rng = np.random.default_rng(0)
    source = rng.random((2, 9, 9), dtype=np.float32)
    images = np.stack([rng.random((2, 9, 9), dtype=np.float32), source + np.float32(0.01), 1 - source])
    assert select_images(images, source, "all") is images
    assert np.array_equal(select_images(images, source, "best-ssim"), images[1:2])
    assert np.allclose(select_images(images, source, "mean")[0], images.mean(axis=0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_translated_along_any_axis_and_empty_slices_stay_empty(model, axis: int):
    voxels = np.zeros((12, 13, 14), np.float32)
    voxels[3:8, 4:9, 5:10] = 0.8
    brain = Volume(voxels, np.eye(4))
    along = type(model)(model.tokenizer, model.text_encoder, model.vae, model.unet, model.scheduler, axis)
    (contrast,) = translate_brain(along, brain, "ADNI2", QUICK)
    filled = (voxels > 0).any(axis=tuple({0, 1, 2} - {axis}))
    stack = np.moveaxis(contrast.voxels, axis, 0)
    assert not stack[~filled].any()
    assert (stack[filled].reshape(filled.sum(), -1).std(axis=1) > 0).all()


def test_the_papers_preset_is_its_table_1():
    paper = TranslationSettings.paper()
    assert (paper.seed, paper.num_inference_steps, paper.guidance_scale) == (2500, 1000, 100)
    assert (paper.num_images_per_prompt, paper.strength) == (100, 0.8)


def test_structure_of_a_model_without_is_refused(model, batch):
    with pytest.raises(MrharmonyError, match="without structure"):
        translate(model, batch, input_weight=1.0)


def test_a_volume_without_brain_is_refused(model):
    with pytest.raises(MrharmonyError, match="No brain"):
        translate_brain(model, Volume(np.zeros((9, 9, 9), np.float32), np.eye(4)), "ADNI2", QUICK)
