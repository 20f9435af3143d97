"""Training a CycleGAN on the scans of two domains, of different people (Zhu et al. 2017)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.networks.cyclegan.networks import (
    OUTSIDE,
    CycleGanSettings,
    Discriminator,
    Generator,
    channels_of,
    located,
    to_units,
)
from mrharmony.networks.cyclegan.pair import PairRecord, TrainedPair
from mrharmony.networks.slices import numpy_generator, shifted, worthwhile_slices
from mrharmony.networks.training import Plan, Training, step_generator

Brains = NDArray[np.float16]
NAME = "cyclegan"
_BETA1 = 0.5  # of Adam, Zhu et al. 2017


class UnpairedBatch(NamedTuple):
    """Slices of both domains as the networks see them, each of shape (batch, channels, i, k)."""

    first: Tensor
    second: Tensor


class UnpairedSlices:
    """Slices of two domains' brains (scans, i, j, k), 0 outside the brain; scans are drawn equally often."""

    def __init__(self, first: Brains, second: Brains, settings: CycleGanSettings) -> None:
        self._domains = tuple(_Domain(brains, settings) for brains in (first, second))
        self.shape = (channels_of(settings), first.shape[1], first.shape[3])

    def batch(self, size: int, generator: torch.Generator) -> UnpairedBatch:
        """Draw `size` slices of each domain, mirrored and moved; the same generator state, the same batch."""
        rng = numpy_generator(generator)
        return UnpairedBatch(*(domain.batch(size, rng) for domain in self._domains))


class _Domain:
    """The scans of one domain and which of their slices are worth learning from."""

    def __init__(self, brains: Brains, settings: CycleGanSettings) -> None:
        self._brains, self._reach, self._positions = brains, settings.slices // 2, settings.positions
        last = brains.shape[2] - 1 - self._reach
        found = (worthwhile_slices(brain > 0) for brain in brains)
        self._rows = [rows[(rows >= self._reach) & (rows <= last)] for rows in found]

    def batch(self, size: int, rng: np.random.Generator) -> Tensor:
        drawn = [self._slices(rng) for _ in range(size)]
        slices = to_units(shifted(torch.from_numpy(np.stack([found for found, _ in drawn])), rng))
        if not self._positions:
            return slices
        return located(slices, [row for _, row in drawn], self._brains.shape[2])

    def _slices(self, rng: np.random.Generator) -> tuple[FloatArray, int]:
        scan = int(rng.integers(len(self._brains)))
        row = int(rng.choice(self._rows[scan]))
        near = self._brains[scan][:, row - self._reach : row + self._reach + 1]
        upright = np.moveaxis(near, 1, 0).astype(np.float32)
        return (upright[:, ::-1] if rng.random() < 0.5 else upright), row


class ImagePool(nn.Module):
    """Slices generated earlier, to show a discriminator again (Shrivastava et al. 2017, section 2.3).

    It holds `size` images; a pool of 0 shows the new ones alone. It is part of the training's state, so that
    a resumed run goes on with the same one.
    """

    images: Tensor
    held: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    def exchange(self, made: Tensor, generator: torch.Generator) -> Tensor:
        """Put new images in and return as many; once the pool is full, half of them are from earlier steps.

        No gradient goes through the result.
        """
        shown = made.detach().clone()
        for number, image in enumerate(made.detach()):
            place, size = int(self.held), len(self.images)
            if place < size:
                self.images[place] = image
                self.held += 1
            elif size and float(torch.rand((), generator=generator)) < 0.5:
                place = int(torch.randint(size, (), generator=generator))
                shown[number] = self.images[place]
                self.images[place] = image
        return shown


class CycleGan(nn.Module):
    """All that training on slices of a shape (channels, i, k) changes, so that its checkpoint is complete."""

    def __init__(self, settings: CycleGanSettings, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.settings = settings
        self.to_first, self.to_second = Generator(settings), Generator(settings)
        self.discriminator_first, self.discriminator_second = Discriminator(settings), Discriminator(settings)
        self.pool_first, self.pool_second = (ImagePool(settings.pool, shape) for _ in range(2))

    def generators(self) -> list[nn.Parameter]:
        """Return the parameters of both generators."""
        return [*self.to_first.parameters(), *self.to_second.parameters()]

    def loss(self, batch: UnpairedBatch, generator: torch.Generator) -> Tensor:
        """Return the sum of the losses of generators and discriminators (Zhu et al. 2017, section 3).

        The adversarial one is of least squares. No gradient of either's loss reaches the other's weights, so
        one step lowers both, as alternating steps on the same slices would. The generator of random numbers
        decides what the pools exchange.
        """
        first, second = batch
        made_second, made_first = _made(self.to_second, first, first), _made(self.to_first, second, second)
        with _frozen(self.discriminator_first, self.discriminator_second):
            fooling = _score_error(self.discriminator_second, made_second, 1) + _score_error(
                self.discriminator_first, made_first, 1
            )
        there_and_back = _difference(self.to_first, made_second, first)
        there_and_back = there_and_back + _difference(self.to_second, made_first, second)
        loss: Tensor = fooling + self.settings.cycle_weight * there_and_back
        if self.settings.identity_weight:
            own = _difference(self.to_second, second, second) + _difference(self.to_first, first, first)
            loss = loss + self.settings.identity_weight * own
        shown_first = self.pool_first.exchange(made_first, generator)
        shown_second = self.pool_second.exchange(made_second, generator)
        learning = _discriminator_loss(self.discriminator_first, first, shown_first)
        return loss + learning + _discriminator_loss(self.discriminator_second, second, shown_second)


def _score_error(discriminator: Discriminator, slices: Tensor, label: float) -> Tensor:
    """Return the mean squared distance of a discriminator's scores to a label: 1 is real, 0 is generated."""
    distance: Tensor = (discriminator(slices) - label).square().mean()
    return distance


def _discriminator_loss(discriminator: Discriminator, real: Tensor, made: Tensor) -> Tensor:
    """Return half the sum, so that discriminators learn more slowly (Zhu et al. 2017, section 4)."""
    return (_score_error(discriminator, real, 1) + _score_error(discriminator, made, 0)) / 2


def _made(generator: Generator, slices: Tensor, brain: Tensor) -> Tensor:
    """Return slices with the other domain's contrast; the slices `brain` show where the brain is."""
    made: Tensor = generator(slices, brain[:, : generator.slices] > OUTSIDE)
    return made


def _difference(generator: Generator, slices: Tensor, truth: Tensor) -> Tensor:
    """Return the mean absolute difference of translated slices to what they should be."""
    return (_made(generator, slices, truth) - truth)[:, : generator.slices].abs().mean()


@contextmanager
def _frozen(*networks: nn.Module) -> Iterator[None]:
    """Let gradients pass through networks without reaching their weights."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


def train_pair(
    names: tuple[str, str],
    brains: tuple[Brains, Brains],
    settings: CycleGanSettings,
    work: Path,
    device: torch.device,
) -> TrainedPair:
    """Train both directions of a pair, or go on where an earlier run on the same scans stopped.

    Parameters
    ----------
    names, brains
        Of the two domains, and their canonical brains on the working grid, 0 outside the brain, each of shape
        (scans, i, j, k).
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
        If a domain has no scans, or the checkpoint is damaged.
    """
    for name, scans in zip(names, brains, strict=True):
        if not len(scans):
            raise MrharmonyError(f"{name}: has no scans to train on; give at least one.")
    torch.manual_seed(settings.seed)
    data = UnpairedSlices(*brains, settings)
    state = CycleGan(settings, data.shape).to(device).train()
    betas = _BETA1, settings.beta2
    optimizer = torch.optim.Adam(state.parameters(), lr=settings.learning_rate, betas=betas)
    plan = Plan(
        settings.steps,
        lambda step: settings.learning_rate * rate_share(step, settings),
        settings.ema_decay,
        settings.checkpoint_every,
    )
    checkpoint = work / f"{NAME}-{_digest(names, brains, settings)}.safetensors"
    training = Training(checkpoint, state, optimizer, state.generators(), plan)
    for step in training.steps(f"training {' and '.join(names)}"):
        generator = step_generator(settings.seed, NAME, step)
        batch = UnpairedBatch(*(part.to(device) for part in data.batch(settings.batch, generator)))
        state.loss(batch, generator).backward()  # type: ignore[no-untyped-call]
        training.update()
    record = PairRecord(
        first=names[0],
        second=names[1],
        scans=(len(brains[0]), len(brains[1])),
        settings=settings,
        generator_parameters=sum(part.numel() for part in state.to_first.parameters()),
        discriminator_parameters=sum(part.numel() for part in state.discriminator_first.parameters()),
        core_minutes=training.seconds / 60,
    )
    state.requires_grad_(False).eval().cpu()
    return TrainedPair(record, state.to_first, state.to_second)


def rate_share(step: int, settings: CycleGanSettings) -> float:
    """Return the share of the learning rate at a step: all of it, then linearly to 0 (Zhu et al. 2017)."""
    left = (settings.steps - step) / settings.steps
    return min(1.0, left / settings.decay_share) if settings.decay_share else 1.0


def _digest(names: tuple[str, str], brains: tuple[Brains, Brains], settings: CycleGanSettings) -> str:
    """Return a name that changes with all that decides the weights."""
    digest = hashlib.sha256(repr((names, settings.model_dump_json())).encode())
    for scans in brains:
        digest.update(scans.tobytes())
    return digest.hexdigest()[:16]
