"""Training the compact model: first the autoencoder, then the denoiser in its latent space.

Every random choice of a step is drawn from the seed and the step's number alone, so a run that was killed
and resumed is the run that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from mrharmony.core.progress import track
from mrharmony.networks.checkpoint import load_checkpoint, save_checkpoint
from mrharmony.networks.diffusion.data import SliceBatch, SliceData
from mrharmony.networks.diffusion.networks import (
    INTENSITY_CENTRE,
    INTENSITY_RANGE,
    build_autoencoder,
    build_denoiser,
    build_scheduler,
    decode,
    encode,
    predict_velocity,
    shrink_factor,
)
from mrharmony.networks.settings import NO_PROMPT, StageSettings, TrainingSettings
from mrharmony.space.grid import Grid

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from mrharmony.networks.diffusion.prompts import PromptEncoder


POSTERIOR_WEIGHT = 1e-6  # of the KL term, as in Rombach et al. 2022, appendix G
WARM_UP_STEPS = 50
BATCHES_TO_SCALE = 8

Loss = Callable[[SliceBatch, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class TrainedNetworks:
    """What training leaves: the three networks, evaluation weights (EMA) loaded."""

    autoencoder: AutoencoderKL
    denoiser: UNet2DConditionModel
    prompts: PromptEncoder


def train_networks(
    data: SliceData,
    settings: TrainingSettings,
    directory: Path,
    precision: str = "no",
    only_cpu: bool = False,
) -> TrainedNetworks:
    """Train both stages, or take them up where an earlier run into the same directory stopped.

    Parameters
    ----------
    data
        Where the slices come from.
    settings
        The whole configuration.
    directory
        Holds checkpoints and TensorBoard logs.
    precision
        Mixed precision of accelerate, `no`, `bf16` or `fp16`.
    only_cpu
        Leave a GPU alone.
    """
    from accelerate import Accelerator  # noqa: PLC0415 - takes seconds to import

    from mrharmony.networks.diffusion.prompts import PromptEncoder  # noqa: PLC0415 - takes seconds to import

    accelerator = Accelerator(
        mixed_precision=precision, log_with="tensorboard", project_dir=directory, cpu=only_cpu
    )
    accelerator.init_trackers("logs")
    torch.manual_seed(settings.seed)
    autoencoder = build_autoencoder(settings.autoencoder)
    stage = Stage("autoencoder", autoencoder, settings.autoencoder_stage, data, settings, directory)
    stage.run(accelerator, autoencoder_loss(autoencoder))
    autoencoder.requires_grad_(False).eval()
    _scale_latents(autoencoder, data, settings)

    torch.manual_seed(settings.seed + 1)
    size = Grid.working(settings.working_zoom).shape[0] // shrink_factor(autoencoder)
    denoiser = build_denoiser(settings.denoiser, settings.autoencoder.latent_channels, size)
    prompts = PromptEncoder(
        [NO_PROMPT, *data.prompts], settings.denoiser.prompt_tokens, settings.denoiser.token_size
    )
    both = torch.nn.ModuleDict({"denoiser": denoiser, "prompts": prompts})
    stage = Stage("denoiser", both, settings.denoiser_stage, data, settings, directory)
    stage.run(accelerator, denoiser_loss(autoencoder, denoiser, prompts, settings))
    accelerator.end_training()
    both.requires_grad_(False).eval()
    return TrainedNetworks(autoencoder.cpu(), denoiser.cpu(), prompts.cpu())


@dataclass(frozen=True)
class Stage:
    """One stage of training: a module, its settings and where its data and checkpoint are."""

    name: str
    module: torch.nn.Module
    stage: StageSettings
    data: SliceData
    settings: TrainingSettings
    directory: Path

    def run(self, accelerator: Accelerator, loss: Loss) -> None:
        """Train from the last checkpoint to the last step; leave the averaged weights in the module."""
        from diffusers.training_utils import EMAModel  # noqa: PLC0415 - takes seconds to import

        self.module.to(accelerator.device).train()
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.stage.learning_rate, weight_decay=1e-4
        )
        average = EMAModel(
            self.module.parameters(), decay=self.stage.ema_decay, use_ema_warmup=True, power=3 / 4
        )
        average.to(accelerator.device)
        checkpoint = self.directory / f"{self.name}.safetensors"
        first = load_checkpoint(checkpoint, self.module, average, optimizer)
        for step in track(
            range(first, self.stage.steps), f"training the {self.name}", self.stage.steps, first
        ):
            value = self._step(accelerator, optimizer, loss, step)
            average.step(self.module.parameters())
            if step % 20 == 0:
                accelerator.log({f"{self.name}/loss": value}, step=step)
            if (step + 1) % self.settings.checkpoint_every == 0 or step + 1 == self.stage.steps:
                save_checkpoint(checkpoint, step + 1, self.module, average, optimizer)
        average.copy_to(self.module.parameters())

    def _step(
        self, accelerator: Accelerator, optimizer: torch.optim.Optimizer, loss: Loss, step: int
    ) -> float:
        for group in optimizer.param_groups:
            group["lr"] = self.stage.learning_rate * schedule_share(step, self.stage.steps)
        generator = step_generator(self.settings.seed, self.name, step)
        batch = self.data.batch(self.stage.batch, generator).to(accelerator.device)
        with accelerator.autocast():
            value = loss(batch, generator)
        accelerator.backward(value)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(value.detach())


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """Return the generator of everything random in one step of one stage."""
    entropy = np.random.SeedSequence([seed, *stage.encode(), step])
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def schedule_share(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a short linear start, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def autoencoder_loss(autoencoder: AutoencoderKL) -> Loss:
    """Return the loss of the first stage: absolute error and a light pull of the posterior to a normal."""

    def loss(batch: SliceBatch, generator: torch.Generator) -> torch.Tensor:
        del generator
        slices = (torch.cat([batch.images, batch.structures]) - INTENSITY_CENTRE) / INTENSITY_RANGE
        posterior = autoencoder.encode(slices).latent_dist
        restored = autoencoder.decode(posterior.mode()).sample
        pull: torch.Tensor = POSTERIOR_WEIGHT * posterior.kl().mean()
        return F.l1_loss(restored.float(), slices) + pull

    return loss


def denoiser_loss(
    autoencoder: AutoencoderKL,
    denoiser: UNet2DConditionModel,
    prompts: PromptEncoder,
    settings: TrainingSettings,
) -> Loss:
    """Return the loss of the second stage: squared error of v (Salimans & Ho 2022, section 4)."""
    scheduler = build_scheduler()

    def loss(batch: SliceBatch, generator: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            clean, structure = encode(autoencoder, batch.images), encode(autoencoder, batch.structures)
        count = len(clean)
        keep = kept(count, settings.structure_dropout, generator).to(clean)[:, None, None, None]
        rows = prompts.rows(batch.prompts) * kept(count, settings.prompt_dropout, generator)
        tokens = prompts(rows.to(clean.device), batch.positions)
        times = draw_times(count, settings.pure_noise_share, scheduler, generator)
        return velocity_error(denoiser, scheduler, clean, structure * keep, tokens, times, generator)

    return loss


def velocity_error(
    denoiser: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    clean: torch.Tensor,
    structure: torch.Tensor,
    tokens: torch.Tensor,
    times: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the mean squared error of v where fresh noise hides clean latents up to the given times (n,)."""
    times = times.to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    noisy = scheduler.add_noise(clean, noise, times)
    predicted = predict_velocity(denoiser, noisy, structure, times, tokens)
    error: torch.Tensor = F.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, times).float())
    return error


def draw_times(
    count: int, pure_noise_share: float, scheduler: DDIMScheduler, generator: torch.Generator
) -> torch.Tensor:
    """Draw training times (count,): a share at pure noise, where sampling starts, the rest uniform."""
    last = scheduler.config.num_train_timesteps - 1
    uniform = torch.randint(0, last + 1, (count,), generator=generator)
    pure = torch.rand(count, generator=generator) < pure_noise_share
    return torch.where(pure, torch.full_like(uniform, last), uniform)


def kept(count: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    """Draw which slices keep their condition: 1, or 0 for the share `dropout`; shape (count,)."""
    return (torch.rand(count, generator=generator) >= dropout).long()


@torch.no_grad()
def _scale_latents(autoencoder: AutoencoderKL, data: SliceData, settings: TrainingSettings) -> None:
    """Set the scaling factor that gives latents standard deviation 1 (Rombach et al. 2022, appendix G)."""
    generator = torch.Generator().manual_seed(settings.seed)
    batches = [data.batch(settings.denoiser_stage.batch, generator) for _ in range(BATCHES_TO_SCALE)]
    latents = torch.cat([encode(autoencoder, batch.images.to(autoencoder.device)) for batch in batches])
    autoencoder.register_to_config(scaling_factor=float(1.0 / latents.std()))


@torch.no_grad()
def round_trip_error(autoencoder: AutoencoderKL, batch: SliceBatch) -> float:
    """Return the root mean square error of encode and decode inside the brain, in canonical units."""
    restored = decode(autoencoder, encode(autoencoder, batch.images))
    return float((restored - batch.images)[batch.images > 0].square().mean().sqrt())
