"""One pass of DreamBooth: what is drawn, what is predicted, and how wrong it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from mrharmony.latent.config import NO_PROMPT
from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.latent.noise_schedule import NoiseSchedule
from mrharmony.latent.stable.class_pictures import load_picture
from mrharmony.latent.stable.data import SliceSet
from mrharmony.latent.stable.model import StableDiffusion


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
