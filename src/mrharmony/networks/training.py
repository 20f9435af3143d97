"""The training loop of all networks: a run that was killed and resumed is, to the bit, the run that was not.

Two things make it so. Everything random in a step is drawn from the seed, the name of the training and the
number of the step alone; and a checkpoint holds all that steps change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mrharmony.core.progress import track
from mrharmony.core.tensors import open_tensors, save_tensors

WARM_UP_STEPS = 50
LARGEST_GRADIENT = 1.0  # Euclidean norm to which gradients are clipped
EMA_POWER = 3 / 4  # the average's decay at step n is 1 - (1 + n)^-power, up to that of the settings


@dataclass(frozen=True)
class Plan:
    """Length, learning rate, average and checkpoints of a training run."""

    length: int  # steps of the whole run
    rate: Callable[[int], float]  # learning rate at a step, by its number from 0
    ema_decay: float  # of the exponential moving average (EMA) of the weights, 0 to 1
    checkpoint_every: int  # steps


class Training:
    """A training run: walks through its steps, averages the weights, and keeps a checkpoint.

    The body of `for step in training.steps(...)` computes gradients and calls `update`.

    Parameters
    ----------
    checkpoint
        The safetensors file of the checkpoint; the run goes on from it where it is there. One that is damaged
        or of another training raises `MrharmonyError`.
    module, optimizer
        Everything that steps change, optimizer and average apart; and the optimizer of its parameters.
    averaged
        The parameters whose average is the result; none for the last weights.
    plan
        Steps, learning rate, average and checkpoints.
    writes_checkpoint
        Whether this process writes the checkpoint; of several that train together only one does.
    """

    def __init__(
        self,
        checkpoint: Path,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        averaged: Iterable[torch.nn.Parameter],
        plan: Plan,
        writes_checkpoint: bool = True,
    ) -> None:
        from diffusers.training_utils import EMAModel  # noqa: PLC0415 - takes seconds to import

        self._checkpoint, self._module, self._optimizer = checkpoint, module, optimizer
        self._plan, self._writes_checkpoint = plan, writes_checkpoint
        self._averaged = list(averaged)
        self._average = EMAModel(self._averaged, decay=plan.ema_decay, use_ema_warmup=True, power=EMA_POWER)
        self.finished = 0  # steps
        self.seconds = 0.0  # processor time of all finished steps, over all runs that they took
        if checkpoint.is_file():
            self._restore()

    def steps(self, title: str) -> Iterator[int]:
        """Yield the numbers of the steps that are left; after the last, leave the average in the module."""
        length = self._plan.length
        for step in track(range(self.finished, length), title, length, self.finished):
            start = time.process_time()
            for group in self._optimizer.param_groups:
                group["lr"] = self._plan.rate(step)
            yield step
            self.finished = step + 1
            self.seconds += time.process_time() - start
            due = self.finished % self._plan.checkpoint_every == 0 or self.finished == length
            if due and self._writes_checkpoint:
                self._save()
        self._average.copy_to(self._averaged)

    def update(self) -> None:
        """Let the optimizer take its step by the gradients, clear them, and average."""
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._average.step(self._averaged)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while."""
        self._average.store(self._averaged)
        self._average.copy_to(self._averaged)
        try:
            yield
        finally:
            self._average.restore(self._averaged)

    def _save(self) -> None:
        tensors = {f"module/{name}": tensor for name, tensor in self._module.state_dict().items()}
        tensors |= {f"ema/{index}": shadow for index, shadow in enumerate(self._average.shadow_params)}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        records = {
            "step": self.finished,
            "ema_step": self._average.optimization_step,
            "seconds": self.seconds,
        }
        save_tensors(self._checkpoint, arrays, records)

    def _restore(self) -> None:
        content, remedy = (
            "a checkpoint of this training",
            "name another output, or move it away to start over",
        )
        with open_tensors(self._checkpoint, content, remedy, "pt") as file:
            self._module.load_state_dict(file.tensors("module/", kinds="fi"))
            for index, shadow in enumerate(self._average.shadow_params):
                shadow.data.copy_(file.tensor(f"ema/{index}"))
            self._average.optimization_step = file.record("ema_step", int)
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in file.tensors("optimizer/", kinds="fi").items():
                number, field = name.split("/")
                state.setdefault(int(number), {})[field] = value
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": state, "param_groups": groups})
            self.finished, self.seconds = file.record("step", int), file.record("seconds", float)


def cosine_plan(steps: int, learning_rate: float, ema_decay: float, checkpoint_every: int) -> Plan:
    """Return a plan whose learning rate follows `schedule_share`, from `learning_rate` down to 0."""
    return Plan(steps, lambda step: learning_rate * schedule_share(step, steps), ema_decay, checkpoint_every)


def clip_gradients(module: torch.nn.Module) -> None:
    """Scale the gradients of a module's parameters down to a norm of 1 where it is greater."""
    torch.nn.utils.clip_grad_norm_(module.parameters(), LARGEST_GRADIENT)


def step_generator(seed: int, name: str, step: int) -> torch.Generator:
    """Return the generator of everything random in one step of the training of that name."""
    entropy = np.random.SeedSequence([seed, *name.encode(), step])
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def schedule_share(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a short linear start, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
