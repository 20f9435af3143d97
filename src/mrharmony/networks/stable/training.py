"""DreamBooth (Ruiz et al. 2023): Stable Diffusion learns what the scanners of some domains see.

Everything random in a pass is drawn from the seed and the numbers of pass and process alone, so a run that
was killed and resumed is the run that was not.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from accelerate import Accelerator

from mrharmony.core.atomic import staged
from mrharmony.networks.schedule import NoiseSchedule
from mrharmony.networks.settings import NO_PROMPT, DreamBoothSettings
from mrharmony.networks.stable.adapting import Adaptation, adapt, add_tokens, parameter_groups, widen
from mrharmony.networks.stable.data import SliceSet, class_picture_files, load_picture
from mrharmony.networks.stable.model import StableDiffusion
from mrharmony.networks.training import LARGEST_GRADIENT, Plan, Training, step_generator
from mrharmony.networks.translation import TranslationSettings, translate_slices
from mrharmony.space.intensity import WHITE

STEPS = 20  # of a validation picture
MOST_DOMAINS = 6  # in it


@dataclass(frozen=True)
class DreamBoothPass:
    """One pass of DreamBooth: what is drawn, what is predicted, and how wrong it is."""

    model: StableDiffusion
    data: SliceSet
    prompts: Mapping[str, str]  # of each domain
    class_files: Sequence[Path]  # the class pictures; empty without prior preservation
    settings: DreamBoothSettings

    def loss(
        self, accelerator: Accelerator, module: torch.nn.Module, generator: torch.Generator
    ) -> torch.Tensor:
        """Return the loss of a pass whose randomness the generator decides."""
        schedule = self.model.schedule
        with torch.no_grad(), accelerator.autocast():
            latents, structure, token_ids = self._batch(generator)
        clean = latents.float()
        times = torch.randint(len(schedule.alphas), (len(clean),), generator=generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = schedule.noisy(clean, noise, times)
        if structure is not None:
            noisy = torch.cat([noisy, structure.float()], dim=1)
        with accelerator.autocast():
            predicted = module(noisy, times.to(clean.device), token_ids)
        errors = (predicted.float() - schedule.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
        settings = self.settings
        return dreambooth_loss(
            errors, times, schedule, settings.batch, settings.snr_gamma, settings.prior_weight
        )

    def _batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return latents, structure latents and token numbers: instances first, then class pictures."""
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
        return latents, structure, self.model.token_ids(prompts).to(latents.device)

    def _conditions(
        self, structures: torch.Tensor, prompts: list[str], latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[list[str], torch.Tensor]:
        """Drop some prompts and structures, so that guidance can weigh both; class pictures have none."""
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
    errors, times
        Mean squared error and training time of each picture, instances first, shape (batch,).
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
    """Train a model, or go on where the same training into the same directory was stopped.

    Any other base, slices, prompts or settings start from the beginning, which is told on standard error
    where the directory holds another training. Under `accelerate launch` every process draws its own slices
    and gradients are averaged.

    Parameters
    ----------
    model, base
        The base model, whose networks are changed in place, and what identifies it.
    data, prompts
        The slices, and the prompt, of each domain (`instance_prompts`).
    settings
        The whole configuration.
    directory
        Holds class pictures and, by the name of the training, its checkpoint, TensorBoard logs and
        validation pictures.
    only_cpu
        Whether to train on the CPU even where there is a GPU.

    Returns
    -------
    The trained model on the CPU: averaged weights (EMA; of a decay of 0 the last ones), adapters merged.

    Raises
    ------
    MrharmonyError
        If the checkpoint is damaged.
    """
    run = directory / training_name(base, data, prompts, settings)
    accelerator = Accelerator(
        mixed_precision=precision_on(settings, only_cpu),
        gradient_accumulation_steps=settings.accumulation,
        log_with="tensorboard",
        project_dir=run,
        cpu=only_cpu,
    )
    if accelerator.is_main_process:
        _tell_of_another(run)
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
    _train(adaptation, passes, run, accelerator)
    accelerator.end_training()
    adaptation.merge()
    return model.to(torch.device("cpu"))


def training_name(base: str, data: SliceSet, prompts: Mapping[str, str], settings: DreamBoothSettings) -> str:
    """Return the name of a training; anything that decides its result changes it."""
    decisive = f"{base} {data.digest()} {list(prompts.items())} {settings.model_dump_json()}"
    return f"dreambooth-{hashlib.sha256(decisive.encode()).hexdigest()[:16]}"


def _checkpoint(run: Path) -> Path:
    return run.with_name(f"{run.name}.safetensors")


def _tell_of_another(run: Path) -> None:
    """Say that a training starts anew beside another one, which its caller may have meant to resume."""
    if not _checkpoint(run).exists() and any(run.parent.glob("dreambooth-*.safetensors")):
        print(
            f"{run.parent}: the training there is of another base, other slices or other settings, or of an "
            "earlier release. This one starts from the beginning.",
            file=sys.stderr,
        )


def precision_on(settings: DreamBoothSettings, only_cpu: bool) -> str:
    """Return the precision to train in here; `auto` is bf16 where the GPU computes with it, else float32."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if not only_cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def _train(adaptation: Adaptation, passes: DreamBoothPass, run: Path, accelerator: Accelerator) -> None:
    """Train from the last checkpoint to the last step; leave the averaged weights in the model."""
    settings, trained = passes.settings, adaptation.parameters()
    raw = torch.optim.AdamW(parameter_groups(adaptation), lr=settings.rate)
    module, optimizer = accelerator.prepare(adaptation.module, raw)
    training = Training(
        _checkpoint(run),
        trained,
        optimizer,
        trained.parameters() if settings.ema_decay else [],
        Plan(settings.steps, lambda _: settings.rate, settings.ema_decay, settings.checkpoint_every),
        writes_checkpoint=accelerator.is_main_process,
    )
    every = settings.validate_every
    for step in training.steps("training Stable Diffusion"):
        value = _gradients(accelerator, module, passes, step)
        accelerator.clip_grad_norm_(trained.parameters(), LARGEST_GRADIENT)
        training.update()
        accelerator.log({"loss": value}, step=step)
        due = every and (step + 1 == settings.steps or (step + 1) % every == 0)
        if due and accelerator.is_main_process:
            adaptation.module.eval()
            with training.averaged_weights():
                validation_picture(passes, run / "validation" / f"step-{step + 1:06d}.png")
            adaptation.module.train()


def _gradients(accelerator: Accelerator, module: torch.nn.Module, passes: DreamBoothPass, step: int) -> float:
    """Gather the gradients of the passes of a step; return the passes' mean loss."""
    settings, total = passes.settings, 0.0
    for number in range(step * settings.accumulation, (step + 1) * settings.accumulation):
        generator = step_generator(settings.seed, f"dreambooth-{accelerator.process_index}", number)
        with accelerator.accumulate(module):
            loss = passes.loss(accelerator, module, generator)
            accelerator.backward(loss)
        total += float(loss.detach())
    return total / settings.accumulation


def validation_picture(passes: DreamBoothPass, file: Path) -> None:
    """Write a PNG: a row for each domain's first slice, the slice itself and its translation to each domain.

    The first six domains are shown. With structure, the slices are seen as structure too.
    """
    model, data, prompts, settings = passes.model, passes.data, passes.prompts, passes.settings
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
