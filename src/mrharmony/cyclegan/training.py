"""Training a CycleGAN for a pair of domains; a run that was killed and resumed is the run that was not."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch

from mrharmony.cyclegan.data import Brains, UnpairedBatch, UnpairedSlices
from mrharmony.cyclegan.losses import CycleGan
from mrharmony.cyclegan.pair import PairRecord, TrainedPair
from mrharmony.cyclegan.settings import CycleGanSettings
from mrharmony.latent.checkpoint import load_checkpoint, save_checkpoint
from mrharmony.latent.training import step_generator
from mrharmony.progress import track
from mrharmony.volume import MrharmonyError

NAME = "cyclegan"
_BETA1 = 0.5  # of Adam, Zhu et al. 2017


def train_pair(
    names: tuple[str, str],
    brains: tuple[Brains, Brains],
    settings: CycleGanSettings,
    work: Path,
    device: torch.device,
) -> TrainedPair:
    """Train both directions of a pair, or take up where an earlier run on the same scans stopped.

    Parameters
    ----------
    names
        Of the two domains.
    brains
        Their canonical brains on the working grid, 0 outside the brain, each of shape (scans, i, j, k).
    settings
        The whole configuration.
    work
        Holds the checkpoint, under a name that changes with pair, scans and settings.
    device
        Where to train.

    Returns
    -------
    The generators with averaged weights (EMA), on the CPU.

    Raises
    ------
    MrharmonyError
        If a domain has no scans.
    """
    from diffusers.training_utils import EMAModel  # noqa: PLC0415 - takes seconds to import

    _require_scans(names, brains)
    torch.manual_seed(settings.seed)
    data = UnpairedSlices(*brains, settings)
    state = CycleGan(settings, data.shape).to(device).train()
    betas = _BETA1, settings.beta2
    optimizer = torch.optim.Adam(state.parameters(), lr=settings.learning_rate, betas=betas)
    average = EMAModel(state.generators(), decay=settings.ema_decay, use_ema_warmup=True, power=3 / 4)
    average.to(device)
    checkpoint = work / f"{NAME}-{_digest(names, brains, settings)}.safetensors"
    first = load_checkpoint(checkpoint, state, average, optimizer)
    steps = track(range(first, settings.steps), f"training {' and '.join(names)}", settings.steps, first)
    for step in steps:
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_share(step, settings)
        generator = step_generator(settings.seed, NAME, step)
        batch = data.batch(settings.batch, generator)
        state.loss(UnpairedBatch(*(part.to(device) for part in batch)), generator).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        average.step(state.generators())
        state.seconds += time.process_time() - start
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            save_checkpoint(checkpoint, step + 1, state, average, optimizer)
    average.copy_to(state.generators())
    return _trained(names, brains, state.requires_grad_(False).eval().cpu())


def rate_share(step: int, settings: CycleGanSettings) -> float:
    """Return the share of the learning rate at a step: all of it, then linearly to 0 (Zhu et al. 2017)."""
    left = (settings.steps - step) / settings.steps
    return min(1.0, left / settings.decay_share) if settings.decay_share else 1.0


def _require_scans(names: tuple[str, str], brains: tuple[Brains, Brains]) -> None:
    for name, scans in zip(names, brains, strict=True):
        if not len(scans):
            raise MrharmonyError(f"{name}: has no scans to train on; give at least one.")


def _digest(names: tuple[str, str], brains: tuple[Brains, Brains], settings: CycleGanSettings) -> str:
    """Return a name that changes with all that decides the weights."""
    digest = hashlib.sha256(repr((names, settings.model_dump_json())).encode())
    for scans in brains:
        digest.update(scans.tobytes())
    return digest.hexdigest()[:16]


def _trained(names: tuple[str, str], brains: tuple[Brains, Brains], state: CycleGan) -> TrainedPair:
    record = PairRecord(
        first=names[0],
        second=names[1],
        scans=(len(brains[0]), len(brains[1])),
        settings=state.settings,
        generator_parameters=sum(part.numel() for part in state.to_first.parameters()),
        discriminator_parameters=sum(part.numel() for part in state.judge_first.parameters()),
        core_minutes=float(state.seconds) / 60,
    )
    return TrainedPair(record, state.to_first, state.to_second)
