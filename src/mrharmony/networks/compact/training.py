"""Training the compact model: first the autoencoder, then the denoiser in its latent space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from mrharmony.networks.compact.data import SliceBatch, SliceData
from mrharmony.networks.compact.networks import (
    INTENSITY_CENTRE,
    INTENSITY_RANGE,
    build_autoencoder,
    build_denoiser,
    build_scheduler,
    encode,
    predict_velocity,
    shrink_factor,
)
from mrharmony.networks.settings import NO_PROMPT, StageSettings, TrainingSettings, choose_device
from mrharmony.networks.training import Training, clip_gradients, cosine_plan, step_generator
from mrharmony.space.grid import Grid

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from mrharmony.networks.compact.prompts import PromptEncoder

POSTERIOR_WEIGHT = 1e-6  # of the KL term, as in Rombach et al. 2022, appendix G
BATCHES_TO_SCALE = 8
LOG_EVERY = 20  # steps

Loss = Callable[[SliceBatch, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class TrainedNetworks:
    """What training leaves: the three networks with averaged weights (EMA)."""

    autoencoder: AutoencoderKL
    denoiser: UNet2DConditionModel
    prompts: PromptEncoder


def train_networks(
    data: SliceData, settings: TrainingSettings, directory: Path, only_cpu: bool = False
) -> TrainedNetworks:
    """Train both stages, or go on where an earlier run into the same directory stopped.

    Parameters
    ----------
    data, settings
        Where the slices come from, and the whole configuration.
    directory
        Holds checkpoints and TensorBoard logs.
    only_cpu
        Whether to train on the CPU even where there is a GPU.

    Returns
    -------
    The networks, on the CPU.

    Raises
    ------
    MrharmonyError
        If a checkpoint is damaged or of another training.
    """
    from mrharmony.networks.compact.prompts import PromptEncoder  # noqa: PLC0415 - takes seconds to import

    device = choose_device("cpu" if only_cpu else "auto")
    torch.manual_seed(settings.seed)
    autoencoder = build_autoencoder(settings.autoencoder).to(device)
    loss = autoencoder_loss(autoencoder)
    train_stage("autoencoder", autoencoder, loss, data, settings.autoencoder_stage, settings, directory)
    autoencoder.requires_grad_(False).eval()
    _scale_latents(autoencoder, data, settings)

    torch.manual_seed(settings.seed + 1)
    size = Grid.working(settings.working_zoom).shape[0] // shrink_factor(autoencoder)
    denoiser = build_denoiser(settings.denoiser, settings.autoencoder.latent_channels, size)
    prompts = PromptEncoder(
        [NO_PROMPT, *data.prompts], settings.denoiser.prompt_tokens, settings.denoiser.token_size
    )
    both = torch.nn.ModuleDict({"denoiser": denoiser, "prompts": prompts}).to(device)
    loss = denoiser_loss(autoencoder, denoiser, prompts, settings)
    train_stage("denoiser", both, loss, data, settings.denoiser_stage, settings, directory)
    both.requires_grad_(False).eval()
    return TrainedNetworks(autoencoder.cpu(), denoiser.cpu(), prompts.cpu())


def train_stage(
    name: str,
    module: torch.nn.Module,
    loss: Loss,
    data: SliceData,
    stage: StageSettings,
    settings: TrainingSettings,
    directory: Path,
) -> None:
    """Train a module from the last checkpoint to the last step, and leave averaged weights (EMA) in it.

    The randomness of the stage, its checkpoint and its TensorBoard logs in `directory` go by its name. The
    module is trained on the device where it is.
    """
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes seconds to import

    device = next(module.parameters()).device
    optimizer = torch.optim.AdamW(module.train().parameters(), lr=stage.learning_rate, weight_decay=1e-4)
    plan = cosine_plan(stage.steps, stage.learning_rate, stage.ema_decay, settings.checkpoint_every)
    training = Training(directory / f"{name}.safetensors", module, optimizer, module.parameters(), plan)
    with SummaryWriter(directory / "logs") as log:
        for step in training.steps(f"training the {name}"):
            generator = step_generator(settings.seed, name, step)
            value = loss(data.batch(stage.batch, generator).to(device), generator)
            value.backward()  # type: ignore[no-untyped-call]
            clip_gradients(module)
            training.update()
            if step % LOG_EVERY == 0:
                log.add_scalar(f"{name}/loss", float(value.detach()), step)


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
        keep = draw_kept(count, settings.structure_dropout, generator).to(clean)[:, None, None, None]
        rows = prompts.rows(batch.prompts) * draw_kept(count, settings.prompt_dropout, generator)
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


def draw_kept(count: int, dropout: float, generator: torch.Generator) -> torch.Tensor:
    """Draw which slices keep their condition: 1, or 0 for the share `dropout`; shape (count,)."""
    return (torch.rand(count, generator=generator) >= dropout).long()


@torch.no_grad()
def _scale_latents(autoencoder: AutoencoderKL, data: SliceData, settings: TrainingSettings) -> None:
    """Set the scaling factor that gives latents standard deviation 1 (Rombach et al. 2022, appendix G)."""
    generator = torch.Generator().manual_seed(settings.seed)
    batches = [data.batch(settings.denoiser_stage.batch, generator) for _ in range(BATCHES_TO_SCALE)]
    latents = torch.cat([encode(autoencoder, batch.images.to(autoencoder.device)) for batch in batches])
    autoencoder.register_to_config(scaling_factor=float(1.0 / latents.std()))
