"""The three losses of a CycleGAN (Zhu et al. 2017, section 3), with least squares for the adversarial one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mrharmony.cyclegan.data import UnpairedBatch
from mrharmony.cyclegan.discriminators import Discriminator
from mrharmony.cyclegan.generators import Generator
from mrharmony.cyclegan.located import OUTSIDE
from mrharmony.cyclegan.pool import ImagePool
from mrharmony.cyclegan.settings import CycleGanSettings


class CycleGan(nn.Module):
    """All that a training run changes, so that its checkpoint is the whole of it.

    Parameters
    ----------
    settings
        The whole configuration.
    shape
        Of the slices that go together, (channels, i, k).
    """

    seconds: Tensor

    def __init__(self, settings: CycleGanSettings, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.settings = settings
        self.to_first, self.to_second = Generator(settings), Generator(settings)
        self.judge_first, self.judge_second = Discriminator(settings), Discriminator(settings)
        self.pool_first, self.pool_second = (ImagePool(settings.pool, shape) for _ in range(2))
        # Processor time so far; a double, or a long sum would lose the short steps.
        self.register_buffer("seconds", torch.zeros((), dtype=torch.float64))

    def generators(self) -> list[nn.Parameter]:
        """Return the parameters of both generators."""
        return [*self.to_first.parameters(), *self.to_second.parameters()]

    def loss(self, batch: UnpairedBatch, generator: torch.Generator) -> Tensor:
        """Return the sum of what generators and discriminators each have to lower.

        Each is blind to the other's part of it, so one step lowers both, as alternating steps on the same
        slices would.

        Parameters
        ----------
        batch
            Slices of both domains.
        generator
            Of the pools' chances.
        """
        first, second = batch
        made_second, made_first = _made(self.to_second, first, first), _made(self.to_first, second, second)
        with _frozen(self.judge_first, self.judge_second):
            fooling = _verdict(self.judge_second, made_second, 1) + _verdict(self.judge_first, made_first, 1)
        there_and_back = _difference(self.to_first, made_second, first)
        there_and_back = there_and_back + _difference(self.to_second, made_first, second)
        loss: Tensor = fooling + self.settings.cycle_weight * there_and_back
        if self.settings.identity_weight:
            own = _difference(self.to_second, second, second) + _difference(self.to_first, first, first)
            loss = loss + self.settings.identity_weight * own
        shown_first = self.pool_first.exchange(made_first, generator)
        shown_second = self.pool_second.exchange(made_second, generator)
        judging = _judging(self.judge_first, first, shown_first)
        return loss + judging + _judging(self.judge_second, second, shown_second)


def _verdict(judge: Discriminator, slices: Tensor, wanted: float) -> Tensor:
    verdict: Tensor = (judge(slices) - wanted).square().mean()
    return verdict


def _judging(judge: Discriminator, real: Tensor, made: Tensor) -> Tensor:
    """Return half the sum, so that discriminators learn more slowly (Zhu et al. 2017, section 4)."""
    return (_verdict(judge, real, 1) + _verdict(judge, made, 0)) / 2


def _made(generator: Generator, slices: Tensor, brain: Tensor) -> Tensor:
    """Return slices in the other look; `brain` are slices that show where the brain is."""
    made: Tensor = generator(slices, brain[:, : generator.slices] > OUTSIDE)
    return made


def _difference(generator: Generator, slices: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference of translated slices to what they should be."""
    count = generator.slices
    return (_made(generator, slices, wanted) - wanted)[:, :count].abs().mean()


@contextmanager
def _frozen(*judges: nn.Module) -> Iterator[None]:
    """Let gradients pass through networks without reaching their weights."""
    for judge in judges:
        judge.requires_grad_(False)
    try:
        yield
    finally:
        for judge in judges:
            judge.requires_grad_(True)
