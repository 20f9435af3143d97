"""Training the reference network; a run that was killed and resumed is the run that was not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mrharmony.latent.checkpoint import load_checkpoint, save_checkpoint
from mrharmony.latent.config import Settings
from mrharmony.latent.training import schedule_share, step_generator
from mrharmony.progress import track
from mrharmony.synthesis.data import ReferenceBatch, ReferenceSlices
from mrharmony.synthesis.network import CHANNELS, ReferenceNetwork

NAME = "reference-network"


class SynthesisSettings(Settings):
    """A training run of the reference network."""

    references: tuple[str, ...]  # simulated scanners, whose look the network gives
    channels: tuple[int, ...] = CHANNELS  # features of each level
    copies: int = Field(4, ge=1)  # virtual heads from each real anatomy
    steps: int = Field(16000, ge=1)
    batch: int = Field(32, ge=1)  # slices a step
    learning_rate: float = Field(2e-3, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    checkpoint_every: int = Field(200, ge=1)  # steps
    seed: int = 0


def train_reference_network(
    data: ReferenceSlices,
    settings: SynthesisSettings,
    directory: Path,
    device: torch.device,
    workers: int = 0,
) -> ReferenceNetwork:
    """Train, or take up where an earlier run into the same directory stopped.

    Parameters
    ----------
    data
        Where the slices come from.
    settings
        The whole configuration.
    directory
        Holds the checkpoint.
    device
        Where to train.
    workers
        Processes that draw batches ahead, which does not change them; with 0 this one draws its own.

    Returns
    -------
    The network with averaged weights (EMA), on the CPU.
    """
    torch.manual_seed(settings.seed)
    network = ReferenceNetwork(len(settings.references), settings.channels).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    average = EMAModel(network.parameters(), decay=settings.ema_decay, use_ema_warmup=True, power=3 / 4)
    average.to(device)
    checkpoint = directory / f"{NAME}.safetensors"
    first = load_checkpoint(checkpoint, network, average, optimizer)
    coming = _coming(data, settings, first, workers)
    batches = track(coming, "training the network", settings.steps, first)
    for step, batch in enumerate(batches, start=first):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule_share(step, settings.steps)
        reference_loss(network, batch.to(device)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(network.parameters())
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            save_checkpoint(checkpoint, step + 1, network, average, optimizer)
    average.copy_to(network.parameters())
    return network.requires_grad_(False).eval().cpu()


def reference_loss(network: ReferenceNetwork, batch: ReferenceBatch) -> Tensor:
    """Return the mean squared error in the brain; its minimum is the expected look."""
    inside = (batch.truths > 0).float()
    looks: Tensor = network(batch.slices, batch.coordinates)
    return ((looks - batch.truths).square() * inside).sum() / inside.sum()


def _coming(
    data: ReferenceSlices, settings: SynthesisSettings, first: int, workers: int
) -> DataLoader[ReferenceBatch]:
    """Return the batches of the steps that are left, in their order; workers share the heads' gigabytes."""
    return DataLoader(
        _Batches(data, settings),
        batch_size=None,
        sampler=range(first, settings.steps),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=lambda batch: batch,
    )


@dataclass(frozen=True)
class _Batches(Dataset[ReferenceBatch]):
    """The batch of every step."""

    data: ReferenceSlices
    settings: SynthesisSettings

    def __getitem__(self, step: int) -> ReferenceBatch:
        return self.data.batch(self.settings.batch, step_generator(self.settings.seed, NAME, step))
