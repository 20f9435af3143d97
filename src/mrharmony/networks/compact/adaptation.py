"""DreamBooth on the compact model (Ruiz et al. 2023): new domains join a trained model, known ones stay.

Each new domain gets learned tokens, which start as those of the known domain whose contrasts are nearest. The
denoiser learns with them, by LoRA on its attention (Hu et al. 2022) or in all its weights, while class images
that the base generated keep known domains as they were (prior preservation). The class of Ikegami et al. is
"a brain MR image"; the compact model has no words, so its class is any brain under any known prompt, also
the empty one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.tensors import open_tensors, save_tensors
from mrharmony.core.volume import Volume
from mrharmony.networks.compact.data import SliceBatch, SliceData
from mrharmony.networks.compact.model import LatentModel
from mrharmony.networks.compact.sampling import EncodedBrain, encode_brain, sample_contrast, sample_latents
from mrharmony.networks.compact.training import (
    Loss,
    TrainedNetworks,
    draw_kept,
    draw_times,
    train_stage,
    velocity_error,
)
from mrharmony.networks.settings import (
    NO_PROMPT,
    AdaptationSettings,
    StageSettings,
    TrainingSettings,
    choose_device,
)

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from mrharmony.networks.compact.prompts import PromptEncoder

SLICES_TO_COMPARE = 16  # of each new domain, with the contrasts of all known ones
EMA_DECAY = 0.99
TOKEN_PACE = 10.0  # times the learning rate: tokens must part from the nearest domain's before weights move
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")  # of each attention layer, as diffusers names them
DRIFT_EVERY = 8  # slices: neighbours show almost the same


@dataclass(frozen=True)
class AdaptedNetworks:
    """What adaptation leaves."""

    networks: TrainedNetworks  # the base's autoencoder, denoiser and prompts; LoRA is merged into the weights
    nearest: dict[str, str]  # the known prompt that each new prompt started from


@dataclass(frozen=True)
class LatentSlices:
    """Slices in a model's latent space, with all that the denoiser sees of them."""

    clean: torch.Tensor  # scaled latents, shape (n, channels, height, width)
    structures: torch.Tensor  # those of the slices' structure, same shape
    rows: torch.Tensor  # embedding row of each slice's prompt, shape (n,)
    positions: torch.Tensor  # where the slices lie along the sliced axis, -1 to 1, shape (n,)

    def draw(self, count: int, generator: torch.Generator, device: torch.device) -> LatentSlices:
        """Draw some of them, with replacement, onto a device."""
        chosen = torch.randint(len(self.rows), (count,), generator=generator)
        return LatentSlices(**{name: tensor[chosen].to(device) for name, tensor in vars(self).items()})


class ExtendedEmbedding(torch.nn.Module):
    """An embedding whose known rows (prompts, length) stay to the bit while new rows, after them, learn."""

    known: torch.Tensor
    start: torch.Tensor

    def __init__(self, known: torch.Tensor, new: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("known", known)
        self.register_buffer("start", new)
        self.change = torch.nn.Parameter(torch.zeros_like(new))

    @property
    def weight(self) -> torch.Tensor:
        """All rows, shape (prompts + new prompts, length)."""
        return torch.cat([self.known, self.start + TOKEN_PACE * self.change])

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the given rows (n,), shape (n, length)."""
        return F.embedding(rows, self.weight)


def adapt_networks(
    base: LatentModel, data: SliceData, settings: AdaptationSettings, directory: Path, only_cpu: bool = False
) -> AdaptedNetworks:
    """Teach a model the domains of some slices, or go on where an earlier run into `directory` stopped.

    Parameters
    ----------
    base
        The trained model; its weights do not change, its dropout and training times hold here too.
    data
        Slices of the new domains alone.
    settings
        How the new domains are taught.
    directory
        Holds class images, checkpoint and TensorBoard logs of this base, data and settings.
    only_cpu
        Whether to train on the CPU even where there is a GPU.

    Raises
    ------
    MrharmonyError
        If the base was not trained, or a file in the directory is damaged.
    """
    training = base.card.training
    if training is None:
        raise MrharmonyError("The base holds no trained networks. Choose another model.")
    base.to(choose_device("cpu" if only_cpu else "auto"))
    nearest = nearest_prompts(base, data, settings.seed)
    counts = class_counts(base.prompts, nearest, settings.class_images)
    prior = class_images(base, data, counts, settings.seed, directory / "class-images.safetensors")
    torch.manual_seed(settings.seed)
    denoiser, prompts = copy.deepcopy(base.denoiser), extended_prompts(base.prompts, nearest)
    if settings.all_weights:
        denoiser.requires_grad_(True)
    else:
        from peft import LoraConfig  # noqa: PLC0415 - takes seconds to import

        denoiser.requires_grad_(False)
        rank = settings.lora_rank
        denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(PROJECTIONS)))
    both = torch.nn.ModuleDict({"denoiser": denoiser, "prompts": prompts})
    loss = adaptation_loss(base, denoiser, prompts, prior, training, settings)
    stage = StageSettings(
        steps=settings.steps, batch=settings.batch, learning_rate=settings.learning_rate, ema_decay=EMA_DECAY
    )
    run = training.model_copy(update={"seed": settings.seed, "checkpoint_every": settings.checkpoint_every})
    train_stage("denoiser", both, loss, data, stage, run, directory)
    if not settings.all_weights:
        denoiser.fuse_lora()
        denoiser.unload_lora()
    both.requires_grad_(False).eval()
    return AdaptedNetworks(TrainedNetworks(base.autoencoder, denoiser, settled_prompts(prompts)), nearest)


@torch.no_grad()
def nearest_prompts(base: LatentModel, data: SliceData, seed: int) -> dict[str, str]:
    """Return, for each new prompt, the known one whose contrasts come closest to the new slices' latents."""
    generator = torch.Generator().manual_seed(seed)
    batch = data.batch(SLICES_TO_COMPARE * len(data.prompts), generator).to(base.autoencoder.device)
    clean, structure = base.encode(batch.images), base.encode(batch.structures)
    noise = torch.randn(structure.shape, generator=generator)

    def errors(prompt: str) -> torch.Tensor:
        domain = Domain(prompt, prompt)
        latents = sample_latents(base, structure, batch.positions, domain, noise)
        return (latents - clean).square().mean(dim=(1, 2, 3))

    candidates = [prompt for prompt in base.prompts.known if prompt != NO_PROMPT]
    found = torch.stack([errors(prompt) for prompt in candidates]).cpu()
    own = {prompt: torch.tensor([p == prompt for p in batch.prompts]) for prompt in data.prompts}
    return {prompt: candidates[int(found[:, mine].mean(dim=1).argmin())] for prompt, mine in own.items()}


def class_counts(known: PromptEncoder, nearest: dict[str, str], each: int) -> dict[str, int]:
    """Return how many class images of each known prompt to make: half of all under the nearest ones.

    A new domain starts as its nearest, so that is the one that would drift with it.
    """
    closest = set(nearest.values())
    others = [prompt for prompt in known.known if prompt not in closest]
    share = -(-each * len(others) // len(closest))
    return dict.fromkeys(others, each) | dict.fromkeys(sorted(closest), max(each, share))


def class_images(
    base: LatentModel, data: SliceData, counts: dict[str, int], seed: int, cache: Path
) -> LatentSlices:
    """Return what a model shows under prompts that it knows, in the structures of `data`.

    They are generated once, `counts` of each prompt, then read from the cache, a safetensors file; a damaged
    one raises `MrharmonyError`.
    """
    if not cache.is_file():
        generator = torch.Generator().manual_seed(seed)
        prompts = track(counts.items(), "generating class images", len(counts))
        parts = [vars(_generated(base, prompt, data, count, generator)) for prompt, count in prompts]
        joined = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        save_tensors(cache, joined, {})
    with open_tensors(
        cache,
        "class images of this training",
        "name another output, or move it away to make them again",
        "pt",
    ) as file:
        return LatentSlices(**file.tensors(kinds="fi"))


@torch.no_grad()
def _generated(
    base: LatentModel, prompt: str, data: SliceData, count: int, generator: torch.Generator
) -> LatentSlices:
    batch = data.batch(count, generator).to(base.autoencoder.device)
    structures = base.encode(batch.structures)
    noise = torch.randn(structures.shape, generator=generator)
    domain = Domain(prompt, prompt)
    clean = sample_latents(base, structures, batch.positions, domain, noise)
    return LatentSlices(clean, structures, base.prompts.rows([prompt] * count), batch.positions)


def extended_prompts(known: PromptEncoder, nearest: dict[str, str]) -> PromptEncoder:
    """Return a copy of an encoder with new prompts after the known ones; only their tokens can learn.

    `nearest` holds the new prompts, each with the known prompt that it starts as.
    """
    rows = known.embedding.weight.detach()
    starts = rows[known.rows(list(nearest.values())).to(rows.device)]
    prompts = copy.deepcopy(known)
    prompts.requires_grad_(False)
    prompts.known = {prompt: row for row, prompt in enumerate([*known.known, *nearest])}
    prompts.add_module("embedding", ExtendedEmbedding(rows.clone(), starts.clone()))
    return prompts


def settled_prompts(extended: PromptEncoder) -> PromptEncoder:
    """Return an encoder of `extended_prompts`, trained, as an ordinary one."""
    from mrharmony.networks.compact.prompts import PromptEncoder  # noqa: PLC0415 - takes seconds to import

    weight = extended.embedding.weight.detach().clone()
    rest = {n: v for n, v in extended.state_dict().items() if not n.startswith("embedding.")}
    prompts: PromptEncoder = PromptEncoder(list(extended.known), extended.config.tokens, extended.config.size)
    prompts.load_state_dict(rest | {"embedding.weight": weight})
    prompts.to(weight.device).requires_grad_(False).eval()
    return prompts


def adaptation_loss(
    base: LatentModel,
    denoiser: UNet2DConditionModel,
    prompts: PromptEncoder,
    prior: LatentSlices,
    training: TrainingSettings,
    settings: AdaptationSettings,
) -> Loss:
    """Return the loss of new slices plus that of class images (Ruiz et al. 2023, equation 2)."""
    scheduler = base.scheduler

    def error(images: LatentSlices, generator: torch.Generator) -> torch.Tensor:
        count = len(images.rows)
        keep = draw_kept(count, training.structure_dropout, generator).to(images.clean)[:, None, None, None]
        times = draw_times(count, training.pure_noise_share, scheduler, generator)
        tokens = prompts(images.rows, images.positions)
        structures = images.structures * keep
        return velocity_error(denoiser, scheduler, images.clean, structures, tokens, times, generator)

    def loss(batch: SliceBatch, generator: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            clean, structure = base.encode(batch.images), base.encode(batch.structures)
        rows = prompts.rows(batch.prompts).to(clean.device)
        instance = error(LatentSlices(clean, structure, rows, batch.positions), generator)
        drawn = prior.draw(len(rows), generator, clean.device)
        return instance + settings.prior_weight * error(drawn, generator)

    return loss


def contrast_drift(
    before: LatentModel, after: LatentModel, brains: Sequence[Volume], domains: Sequence[Domain]
) -> dict[str, float]:
    """Return the mean absolute change of each domain's contrast, in canonical units.

    Parameters
    ----------
    before, after
        Models that both know the domains and share an autoencoder.
    brains
        Canonical brains on the models' grid, in whose structure the contrasts are sampled; at least one.
    domains
        The domains to compare.
    """
    encoded = [_thinned(encode_brain(before, brain)) for brain in brains]
    return {
        domain.name: float(np.mean([_change(before, after, brain, domain) for brain in encoded]))
        for domain in track(domains, "measuring the drift of known domains")
    }


def _thinned(encoded: EncodedBrain) -> EncodedBrain:
    names = ("filled", "structure", "positions")
    return replace(encoded, **{name: getattr(encoded, name)[::DRIFT_EVERY] for name in names})


def _change(before: LatentModel, after: LatentModel, encoded: EncodedBrain, domain: Domain) -> float:
    one, other = (
        sample_contrast(model, encoded, domain).voxels[:, encoded.filled] for model in (before, after)
    )
    return float(np.abs(other - one)[encoded.brain.voxels[:, encoded.filled] > 0].mean())
