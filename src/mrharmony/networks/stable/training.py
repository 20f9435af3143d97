"""Pictures to look at while Stable Diffusion is trained: a slice of every domain under every prompt.

One pass of DreamBooth: what is drawn, what is predicted, and how wrong it is.

DreamBooth (Ruiz et al. 2023): Stable Diffusion learns what the scanners of some domains see.

Every random choice of a pass is drawn from the seed and the numbers of step, pass and process alone, so a run
that was killed and resumed is the run that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from accelerate import Accelerator

from mrharmony.core.atomic import staged
from mrharmony.networks.diffusion.schedule import NoiseSchedule
from mrharmony.networks.diffusion.translation import WHITE, TranslationSettings, translate_slices
from mrharmony.networks.settings import NO_PROMPT
from mrharmony.networks.stable.adapting import Adaptation, adapt, add_tokens, parameter_groups, widen
from mrharmony.networks.stable.data import SliceSet, class_picture_files, load_picture
from mrharmony.networks.stable.model import StableDiffusion
from mrharmony.networks.stable.settings import DreamBoothSettings
from mrharmony.networks.training import LARGEST_GRADIENT, Plan, Training, step_generator

STEPS = 20
MOST_DOMAINS = 6


def validation_picture(
    model: StableDiffusion,
    data: SliceSet,
    prompts: Mapping[str, str],
    settings: DreamBoothSettings,
    file: Path,
) -> None:
    """Write a PNG: a row for each domain's first slice, the slice itself and its translation to each domain.

    Parameters
    ----------
    model
        As trained so far.
    data, prompts
        Slices and prompt of each domain; at most the first six are shown.
    settings
        Of the training; with structure, the slices are seen as structure too.
    file
        Where the picture goes.
    """
    names = list(data.slices)[:MOST_DOMAINS]
    rows = np.stack([data.slices[name][0] for name in names]).astype(np.float32)
    slices = torch.from_numpy(rows)[:, None]
    translation = TranslationSettings(
        num_inference_steps=STEPS, input_weight=1.0 if settings.structure else None, seed=settings.seed
    )
    positions = torch.zeros(len(slices))
    columns = [slices] + [
        translate_slices(model, slices, positions, prompts[name], translation)[0] for name in names
    ]
    upright = torch.rot90(torch.cat(columns, dim=1), 1, dims=(2, 3))
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in upright.numpy()])
    with staged(file) as new:
        new.fill(
            lambda stream: matplotlib.image.imsave(
                stream, sheet, cmap="gray", vmin=0, vmax=WHITE, format="png"
            )
        )
        new.commit()


@dataclass(frozen=True)
class _Batch:
    """What one pass learns from: the instance half first, then the class half if there is one."""

    latents: torch.Tensor
    structure: torch.Tensor | None
    token_ids: torch.Tensor
    instances: int


@dataclass(frozen=True)
class DreamBoothPass:
    """Where passes come from.

    Parameters
    ----------
    model
        The model that is trained.
    data, prompts
        Slices and prompt of each domain.
    class_files
        The class pictures; empty without prior preservation.
    settings
        Of the training.
    """

    model: StableDiffusion
    data: SliceSet
    prompts: Mapping[str, str]
    class_files: Sequence[Path]
    settings: DreamBoothSettings

    def loss(
        self, accelerator: Accelerator, module: torch.nn.Module, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the loss of a pass whose randomness the generator decides."""
        schedule = self.model.schedule
        with torch.no_grad(), accelerator.autocast():
            batch = self._batch(generator)
        clean = batch.latents.float()
        times = torch.randint(len(schedule.alphas), (len(clean),), generator=generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = schedule.noisy(clean, noise, times)
        if batch.structure is not None:
            noisy = torch.cat([noisy, batch.structure.float()], dim=1)
        with accelerator.autocast():
            predicted = module(noisy, times.to(clean.device), batch.token_ids)
        errors = (predicted.float() - schedule.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
        return dreambooth_loss(
            errors, times, schedule, batch.instances, self.settings.snr_gamma, self.settings.prior_weight
        )

    def _batch(self, generator: torch.Generator) -> _Batch:
        instances = self.data.batch(self.settings.batch, generator)
        prompts = [self.prompts[name] for name in instances.domains]
        pictures = self.model.pictures(instances.slices)
        if self.class_files:
            drawn = torch.randint(len(self.class_files), (self.settings.batch,), generator=generator)
            classes = torch.stack([load_picture(self.class_files[n]) for n in drawn.tolist()])
            pictures = torch.cat([pictures, classes.to(pictures)])
            prompts += [self.settings.class_prompt] * self.settings.batch
        latents = self.model.encode_pictures(pictures)
        structure = None
        if self.model.takes_structure:
            prompts, structure = self._conditions(instances.structures, prompts, latents, generator)
        token_ids = self.model.token_ids(prompts).to(latents.device)
        return _Batch(latents, structure, token_ids, self.settings.batch)

    def _conditions(
        self,
        structures: torch.Tensor,
        prompts: list[str],
        latents: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[list[str], torch.Tensor]:
        """Drop some prompts and structures, so that both can be weighed; class pictures have no structure."""
        count = len(structures)
        dropped = torch.rand(2, count, generator=generator)
        prompts = [
            NO_PROMPT if n < count and dropped[0, n] < self.settings.prompt_dropout else prompt
            for n, prompt in enumerate(prompts)
        ]
        kept = (dropped[1] >= self.settings.structure_dropout).to(latents)[:, None, None, None]
        seen = torch.zeros_like(latents)
        seen[:count] = self.model.structure(structures) * kept
        return prompts, seen


def dreambooth_loss(
    errors: torch.Tensor,
    times: torch.Tensor,
    schedule: NoiseSchedule,
    instances: int,
    gamma: float | None,
    prior_weight: float,
) -> torch.Tensor:
    """Return the instances' mean error plus the weighted one of the class pictures, each at its own SNR.

    Ruiz et al. 2023, equation 2, with the weights of Hang et al. 2023: every picture's error is weighed at
    the time that was drawn for it, and the halves are averaged apart, so neither touches the other's weights.

    Parameters
    ----------
    errors
        Mean squared error of each picture, shape (batch,), instances first.
    times
        Training time of each, shape (batch,).
    schedule
        The noise schedule.
    instances
        How many are instances; the rest are class pictures.
    gamma
        Of min-SNR weighting; None weighs all times alike.
    prior_weight
        Of the class pictures.
    """
    weighted = errors * schedule.snr_weights(times, gamma).to(errors)
    loss = weighted[:instances].mean()
    if len(errors) > instances:
        loss = loss + prior_weight * weighted[instances:].mean()
    return loss


def train_dreambooth(
    model: StableDiffusion,
    data: SliceSet,
    prompts: Mapping[str, str],
    settings: DreamBoothSettings,
    directory: Path,
    *,
    base: str,
    only_cpu: bool = False,
) -> StableDiffusion:
    """Train a model, or take it up where an earlier run into the same directory stopped.

    Under `accelerate launch` every process draws its own slices and gradients are averaged.

    Parameters
    ----------
    model
        The base model; its networks are changed in place.
    data
        The slices of each domain.
    prompts
        The prompt of each domain (`instance_prompts`).
    settings
        The whole configuration.
    directory
        Holds class pictures, checkpoint, TensorBoard logs and validation pictures.
    base
        What identifies the base model; class pictures of another base are made anew.
    only_cpu
        Leave a GPU alone.

    Returns
    -------
    The trained model on the CPU: averaged weights (EMA; of a decay of 0 the last ones), adapters merged.

    Raises
    ------
    MrharmonyError
        If the directory holds the checkpoint of another training.
    """
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        gradient_accumulation_steps=settings.accumulation,
        log_with="tensorboard",
        project_dir=directory,
        cpu=only_cpu,
    )
    accelerator.init_trackers("logs")
    model = replace(model, axis=settings.sliced_axis, enlarge=settings.enlarge).to(accelerator.device)
    files: Sequence[Path] = []
    if settings.prior_weight > 0:
        with accelerator.main_process_first():
            files = class_picture_files(model, data.size, settings, directory / "class", base)
    torch.manual_seed(settings.seed)  # adapters start at random
    rows = add_tokens(model, prompts)
    if settings.structure and not model.takes_structure:
        widen(model)
    adaptation = adapt(model.to(accelerator.device), rows, settings)
    passes = DreamBoothPass(model, data, prompts, files, settings)
    _Run(adaptation, passes, settings, directory).train(accelerator)
    accelerator.end_training()
    adaptation.merge()
    return model.to(torch.device("cpu"))


@dataclass(frozen=True)
class _Run:
    """Everything that a training run needs."""

    adaptation: Adaptation
    passes: DreamBoothPass
    settings: DreamBoothSettings
    directory: Path

    def train(self, accelerator: Accelerator) -> None:
        """Train from the last checkpoint to the last step; leave the averaged weights in the model."""
        settings, trained = self.settings, self.adaptation.parameters()
        raw = torch.optim.AdamW(parameter_groups(self.adaptation), lr=settings.rate)
        module, optimizer = accelerator.prepare(self.adaptation.module, raw)
        plan = Plan(settings.steps, lambda _: settings.rate, settings.ema_decay, settings.checkpoint_every)
        training = Training(
            self.directory / f"dreambooth-{self.passes.data.digest()}.safetensors",
            trained,
            optimizer,
            trained.parameters() if settings.ema_decay else [],
            plan,
            keeps=accelerator.is_main_process,
        )
        every = settings.validate_every
        for step in training.steps("training Stable Diffusion"):
            value = self._gradients(accelerator, module, step)
            training.update()
            accelerator.log({"loss": value}, step=step)
            due = every and (step + 1 == settings.steps or (step + 1) % every == 0)
            if due and accelerator.is_main_process:
                self._validate(training, step + 1)

    def _gradients(self, accelerator: Accelerator, module: torch.nn.Module, step: int) -> float:
        """Compute the gradients of a step, clipped; return the mean loss of its passes."""
        total = 0.0
        for number in range(self.settings.accumulation):
            passes = step * self.settings.accumulation + number
            generator = step_generator(self.settings.seed, f"dreambooth-{accelerator.process_index}", passes)
            with accelerator.accumulate(module):
                loss = self.passes.loss(accelerator, module, generator)
                accelerator.backward(loss)
            total += float(loss.detach())
        accelerator.clip_grad_norm_(list(self.adaptation.parameters()), LARGEST_GRADIENT)
        return total / self.settings.accumulation

    def _validate(self, training: Training, step: int) -> None:
        training.average.store(training.averaged)
        training.average.copy_to(training.averaged)
        self.adaptation.module.eval()
        file = self.directory / "validation" / f"step-{step:06d}.png"
        source = self.passes
        validation_picture(source.model, source.data, source.prompts, self.settings, file)
        self.adaptation.module.train()
        training.average.restore(training.averaged)
