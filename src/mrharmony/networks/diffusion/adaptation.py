"""DreamBooth on the compact model (Ruiz et al. 2023): new domains join a trained model, known ones stay.

Each new domain gets learned tokens, which start as those of the known domain whose looks are nearest. The
denoiser learns with them, by LoRA on its attention or in all its weights, while class images that the base
generated hold it to what it showed before (prior preservation).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.devices import choose_device, move_model
from mrharmony.networks.diffusion.data import SliceBatch, SliceData
from mrharmony.networks.diffusion.model import LatentModel
from mrharmony.networks.diffusion.networks import encode
from mrharmony.networks.diffusion.preservation import LatentSlices, add_lora, class_images, merge_lora
from mrharmony.networks.diffusion.prompts import PromptEncoder
from mrharmony.networks.diffusion.sampling import SamplingSettings, sample_latents
from mrharmony.networks.diffusion.training import (
    Loss,
    TrainedNetworks,
    draw_times,
    kept,
    train_stage,
    velocity_error,
)
from mrharmony.networks.settings import NO_PROMPT, AdaptationSettings, StageSettings, TrainingSettings

SLICES_TO_COMPARE = 16  # of each new domain, with the looks of all known ones
EMA_DECAY = 0.99
TOKEN_PACE = 10.0  # times the learning rate: tokens must part from the nearest domain's before weights move


@dataclass(frozen=True)
class AdaptedNetworks:
    """What adaptation leaves.

    Parameters
    ----------
    networks
        Autoencoder (the base's), denoiser and prompts; LoRA is merged into the weights.
    nearest
        The known prompt that each new prompt started from.
    """

    networks: TrainedNetworks
    nearest: dict[str, str]


class ExtendedEmbedding(torch.nn.Module):
    """An embedding whose known rows stay to the bit while new rows, after them, learn.

    Parameters
    ----------
    known
        Shape (prompts, length).
    new
        Where the new rows start, shape (new prompts, length).
    """

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
    base: LatentModel,
    data: SliceData,
    settings: AdaptationSettings,
    directory: Path,
    only_cpu: bool = False,
) -> AdaptedNetworks:
    """Teach a model the domains of some slices; an earlier run into `directory` is taken up where it stopped.

    Parameters
    ----------
    base
        The trained model; its weights are left as they are, its dropout and training times are kept.
    data
        Slices of the new domains alone.
    settings
        How the new domains are taught.
    directory
        Holds class images, checkpoint and TensorBoard logs of this base, data and settings.
    only_cpu
        Leave a GPU alone.

    Raises
    ------
    MrharmonyError
        If the base was not trained, or a file in the directory is damaged.
    """
    training = base.card.training
    if training is None:
        raise MrharmonyError("The base holds no trained networks. Name another model.")
    move_model(base, choose_device("cpu" if only_cpu else "auto"))
    nearest = nearest_prompts(base, data, settings.seed)
    counts = class_counts(base.prompts, nearest, settings.class_images)
    prior = class_images(base, data, counts, settings.seed, directory / "class-images.safetensors")
    torch.manual_seed(settings.seed)
    denoiser, prompts = copy.deepcopy(base.denoiser), extended_prompts(base.prompts, nearest)
    if settings.all_weights:
        denoiser.requires_grad_(True)
    else:
        add_lora(denoiser, settings.lora_rank)
    both = torch.nn.ModuleDict({"denoiser": denoiser, "prompts": prompts})
    loss = adaptation_loss(base, denoiser, prompts, prior, training, settings)
    stage = StageSettings(
        steps=settings.steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        ema_decay=EMA_DECAY,
    )
    run = training.model_copy(update={"seed": settings.seed, "checkpoint_every": settings.checkpoint_every})
    train_stage("denoiser", both, loss, data, stage, run, directory)
    if not settings.all_weights:
        merge_lora(denoiser)
    both.requires_grad_(False).eval()
    return AdaptedNetworks(TrainedNetworks(base.autoencoder, denoiser, settled_prompts(prompts)), nearest)


@torch.no_grad()
def nearest_prompts(base: LatentModel, data: SliceData, seed: int) -> dict[str, str]:
    """Return, for each new prompt, the known one whose looks come closest to the new slices' latents."""
    generator = torch.Generator().manual_seed(seed)
    batch = data.batch(SLICES_TO_COMPARE * len(data.prompts), generator).to(base.autoencoder.device)
    clean, structure = (encode(base.autoencoder, slices) for slices in (batch.images, batch.structures))
    noise = torch.randn(structure.shape, generator=generator)
    candidates = [prompt for prompt in base.prompts.known if prompt != NO_PROMPT]
    errors = torch.stack(
        [
            (
                sample_latents(base, structure, batch.positions, Domain(p, p), noise, SamplingSettings())
                - clean
            )
            .square()
            .mean(dim=(1, 2, 3))
            for p in candidates
        ]
    ).cpu()
    own = {prompt: torch.tensor([p == prompt for p in batch.prompts]) for prompt in data.prompts}
    return {prompt: candidates[int(errors[:, mine].mean(dim=1).argmin())] for prompt, mine in own.items()}


def class_counts(known: PromptEncoder, nearest: dict[str, str], each: int) -> dict[str, int]:
    """Return how many class images of each known prompt there shall be: half of all under the nearest ones.

    A new domain starts as its nearest, so that is the one which would drift along.
    """
    closest = set(nearest.values())
    others = [prompt for prompt in known.known if prompt not in closest]
    share = -(-each * len(others) // len(closest))
    return dict.fromkeys(others, each) | dict.fromkeys(sorted(closest), max(each, share))


def extended_prompts(known: PromptEncoder, nearest: dict[str, str]) -> PromptEncoder:
    """Return a copy of an encoder with new prompts after the known ones; only their tokens can learn.

    Parameters
    ----------
    known
        The base's encoder.
    nearest
        New prompts, and the known prompt that each starts as.
    """
    rows = known.embedding.weight.detach()
    starts = rows[known.rows(list(nearest.values())).to(rows.device)]
    prompts = copy.deepcopy(known)
    prompts.requires_grad_(False)
    prompts.known = {prompt: row for row, prompt in enumerate([*known.known, *nearest])}
    prompts.add_module("embedding", ExtendedEmbedding(rows.clone(), starts.clone()))
    return prompts


def settled_prompts(extended: PromptEncoder) -> PromptEncoder:
    """Return what `extended_prompts` made and training changed as an ordinary encoder."""
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
        keep = kept(count, training.structure_dropout, generator).to(images.clean)[:, None, None, None]
        times = draw_times(count, training.pure_noise_share, scheduler, generator)
        tokens = prompts(images.rows, images.positions)
        structures = images.structures * keep
        return velocity_error(denoiser, scheduler, images.clean, structures, tokens, times, generator)

    def loss(batch: SliceBatch, generator: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            clean, structure = (encode(base.autoencoder, part) for part in (batch.images, batch.structures))
        rows = prompts.rows(batch.prompts).to(clean.device)
        instance = error(LatentSlices(clean, structure, rows, batch.positions), generator)
        drawn = prior.draw(len(rows), generator, clean.device)
        return instance + settings.prior_weight * error(drawn, generator)

    return loss
