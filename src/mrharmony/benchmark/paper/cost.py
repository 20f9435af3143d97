"""What the paper's experiment costs, said before it begins: scans, slices, steps, time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mrharmony.benchmark.paper.grid import GUIDANCES, STRENGTHS
from mrharmony.benchmark.paper.slices import SEARCH_SLICES, PaperRequest
from mrharmony.networks.schedule import sampling_times
from mrharmony.networks.settings import NO_PROMPT, DreamBoothSettings
from mrharmony.networks.stable.model import StableDiffusion
from mrharmony.networks.translation import TranslationSettings
from mrharmony.space.grid import Grid

DIRECTIONS = 2
_GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """The cost of an experiment; times are those of this machine, from one evaluation of each network."""

    scans: int  # to train on
    slices: int  # of them, at most
    pixels: tuple[int, int]  # of a picture, height and width
    steps: int  # of training
    seen: float  # times that a slice is seen on average
    device: str
    evaluation: float  # seconds of the U-Net for a picture, float32
    class_pictures: float  # seconds
    training: float
    translation: float
    memory: float  # GiB of weights, gradients, moments and average

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self)

    def text(self) -> str:
        """Return it for people."""
        height, width = self.pixels
        return (
            f"Training: {self.scans} scans, at most {self.slices} slices as pictures of {height}x{width} "
            f"pixels; {self.steps} steps, which show each slice {self.seen:.1f} times on average.\n"
            f"Time on this machine ({self.device}, {self.evaluation:.2g} s an evaluation of the U-Net): "
            f"about {_duration(self.class_pictures)} for class pictures, {_duration(self.training)} for "
            f"training, {_duration(self.translation)} for translation; preparation takes 10 s of processor a "
            "scan.\n"
            f"Memory: {self.memory:.1f} GiB for weights and training; the pictures come on top."
        )


def measure_cost(
    model: StableDiffusion,
    settings: DreamBoothSettings,
    scans: Mapping[str, int],
    request: PaperRequest,
    device: torch.device,
) -> Cost:
    """Return the cost of an experiment; both networks are evaluated once to know their time.

    Parameters
    ----------
    model, device
        The model before training, with the settings' axis and pixels, and where it will run.
    settings, scans
        Of the training, and how many scans of each domain it gets.
    request
        The evaluation.
    """
    slices = {name: count * settings.slices_per_scan for name, count in scans.items()}
    planned = settings.planned(slices)
    blank, size = _blank_slice(settings), _latent_size(model, settings)
    model.to(device)
    with torch.inference_mode():
        latents, tokens = torch.zeros(size, device=device), model.embed(NO_PROMPT, torch.zeros(1))
        evaluation = _seconds(lambda: model.predict(latents, None, 1, tokens), device)
        coding = _seconds(lambda: model.encode(blank), device)
    pictures = planned.steps * settings.accumulation * settings.batch * (2 if settings.prior_weight else 1)
    passes = 4 if settings.gradient_checkpointing else 3  # forward (twice where checkpointed) and backward
    guided = 2 * settings.class_images * settings.class_steps if settings.prior_weight else 0
    drawn = planned.steps * settings.accumulation * settings.batch
    height, width = model.pictures(blank).shape[-2:]
    return Cost(
        sum(scans.values()),
        sum(slices.values()),
        (height, width),
        planned.steps,
        drawn / sum(slices.values()),
        device.type,
        evaluation,
        evaluation * guided,
        pictures * (passes * evaluation + coding),
        evaluation * translation_evaluations(request),
        _training_bytes(model, settings) / _GIB,
    )


def translation_evaluations(request: PaperRequest) -> int:
    """Return how often the U-Net is evaluated for the table; the best settings count as the dearest ones."""
    searched = [
        request.search.model_copy(update={"strength": strength, "guidance_scale": guidance})
        for strength in STRENGTHS
        for guidance in GUIDANCES
    ]
    best = searched[-1].model_copy(update={"num_images_per_prompt": request.images})
    search = DIRECTIONS * SEARCH_SLICES * sum(map(_evaluations, searched))
    return search + DIRECTIONS * request.slices * (_evaluations(request.paper) + _evaluations(best))


def _evaluations(settings: TranslationSettings) -> int:
    """Return how often the U-Net is evaluated for all images of a slice."""
    times = sampling_times(settings.num_inference_steps, settings.strength, 1000)
    return settings.num_images_per_prompt * len(times) * (1 if settings.guidance_scale == 1 else 2)


def _blank_slice(settings: DreamBoothSettings) -> torch.Tensor:
    shape = list(Grid.working(settings.working_zoom).shape)
    del shape[settings.sliced_axis]
    return torch.zeros(1, 1, *shape)


def _latent_size(model: StableDiffusion, settings: DreamBoothSettings) -> torch.Size:
    factor = 2 ** (len(model.vae.config.block_out_channels) - 1)
    height, width = model.pictures(_blank_slice(settings)).shape[-2:]
    return torch.Size((1, model.vae.config.latent_channels, height // factor, width // factor))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the time of the second call: the first one sets up."""
    for _ in range(2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def _training_bytes(model: StableDiffusion, settings: DreamBoothSettings) -> int:
    """Return the bytes of float32 weights and of what full training keeps beside them; LoRA's is little."""
    networks = {name: _weights(getattr(model, name)) for name in ("unet", "vae", "text_encoder")}
    trained = networks["unet"] + (networks["text_encoder"] if settings.text_encoder else 0)
    beside = 4 if settings.ema_decay else 3  # gradient, two moments, average
    return 4 * (sum(networks.values()) + (beside * trained if settings.method == "full" else 0))


def _weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
