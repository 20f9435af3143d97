"""DreamBooth (Ruiz et al. 2023): Stable Diffusion learns what the scanners of some domains see.

Every random choice of a pass is drawn from the seed and the numbers of step, pass and process alone, so a run
that was killed and resumed is the run that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from mrharmony.latent.checkpoint import load_checkpoint, save_checkpoint
from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.latent.stable.adapting import Adaptation, adapt, parameter_groups, widen
from mrharmony.latent.stable.class_pictures import class_picture_files
from mrharmony.latent.stable.data import SliceSet
from mrharmony.latent.stable.model import StableDiffusion
from mrharmony.latent.stable.passes import DreamBoothPass
from mrharmony.latent.stable.tokens import add_tokens
from mrharmony.latent.stable.validation import validation_picture
from mrharmony.latent.training import step_generator
from mrharmony.progress import track


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
        trained = self.adaptation.parameters()
        raw = torch.optim.AdamW(parameter_groups(self.adaptation), lr=self.settings.rate)
        averaged = list(trained.parameters()) if self.settings.ema_decay else []
        average = EMAModel(averaged, decay=self.settings.ema_decay, use_ema_warmup=True, power=3 / 4)
        average.to(accelerator.device)
        checkpoint = self.directory / f"dreambooth-{self.passes.data.digest()}.safetensors"
        first = load_checkpoint(checkpoint, trained, average, raw)
        module, optimizer = accelerator.prepare(self.adaptation.module, raw)
        steps = self.settings.steps
        for step in track(range(first, steps), "training Stable Diffusion", steps, first):
            value = self._step(accelerator, module, optimizer, step)
            average.step(averaged)
            accelerator.log({"loss": value}, step=step)
            last = step + 1 == steps
            if accelerator.is_main_process and (last or (step + 1) % self.settings.checkpoint_every == 0):
                save_checkpoint(checkpoint, step + 1, trained, average, raw)
            every = self.settings.validate_every
            if accelerator.is_main_process and every and (last or (step + 1) % every == 0):
                self._validate(averaged, average, step + 1)
        average.copy_to(averaged)

    def _step(
        self,
        accelerator: Accelerator,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        step: int,
    ) -> float:
        total = 0.0
        for number in range(self.settings.accumulation):
            passes = step * self.settings.accumulation + number
            generator = step_generator(self.settings.seed, f"dreambooth-{accelerator.process_index}", passes)
            with accelerator.accumulate(module):
                loss = self.passes.loss(accelerator, module, generator)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(list(self.adaptation.parameters()), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            total += float(loss.detach())
        return total / self.settings.accumulation

    def _validate(self, averaged: Sequence[torch.nn.Parameter], average: EMAModel, step: int) -> None:
        average.store(averaged)
        average.copy_to(averaged)
        self.adaptation.module.eval()
        file = self.directory / "validation" / f"step-{step:06d}.png"
        source = self.passes
        validation_picture(source.model, source.data, source.prompts, self.settings, file)
        self.adaptation.module.train()
        average.restore(averaged)
