"""LoRA on the denoiser's attention (Hu et al. 2022): few weights learn, and are merged in the end.

Class images of DreamBooth: what a model shows with the prompts that it knows, kept as latents.

The class of Ruiz et al. 2023 is "a brain MR image" in the paper that this project starts from. A compact
model has no words: there the class is any brain under any prompt it knows, the empty prompt among them.

Drift: how far the looks of known domains move while a model learns new ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.networks.diffusion.data import SliceData
from mrharmony.networks.diffusion.model import LatentModel
from mrharmony.networks.diffusion.networks import encode
from mrharmony.networks.diffusion.sampling import (
    EncodedBrain,
    SamplingSettings,
    encode_brain,
    sample_contrast,
    sample_latents,
)

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")  # of each attention layer, as diffusers names them


def add_lora(denoiser: UNet2DConditionModel, rank: int) -> None:
    """Freeze a denoiser and add W + B A to its attention projections; B is 0, so nothing changes yet.

    Parameters
    ----------
    denoiser
        Changed in place; only A and B are left to learn.
    rank
        Rows of A and columns of B.
    """
    denoiser.requires_grad_(False)
    denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(PROJECTIONS)))


def merge_lora(denoiser: UNet2DConditionModel) -> None:
    """Add what was learned to the weights, in place: a denoiser as there was before, for any loader."""
    denoiser.fuse_lora()
    denoiser.unload_lora()


@dataclass(frozen=True)
class LatentSlices:
    """Slices in a model's latent space, with all that the denoiser is told of them.

    Parameters
    ----------
    clean, structures
        Scaled latents of the slices and of their structure, shape (n, channels, height, width).
    rows
        Embedding row of each slice's prompt, shape (n,).
    positions
        Where the slices lie along the sliced axis, -1 to 1, shape (n,).
    """

    clean: torch.Tensor
    structures: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor

    def draw(self, count: int, generator: torch.Generator, device: torch.device) -> LatentSlices:
        """Draw some of them, with replacement, onto a device."""
        chosen = torch.randint(len(self.rows), (count,), generator=generator)
        return LatentSlices(**{name: tensor[chosen].to(device) for name, tensor in vars(self).items()})


def class_images(
    base: LatentModel, data: SliceData, counts: dict[str, int], seed: int, cache: Path
) -> LatentSlices:
    """Return looks of a model under prompts that it knows; generated once, then read from the cache.

    Parameters
    ----------
    base
        The model, before anything new is learned.
    data
        Where the structures come from.
    counts
        How many looks of each prompt.
    seed
        Of the structures and of the noise.
    cache
        A safetensors file.

    Raises
    ------
    MrharmonyError
        If the cache is damaged.
    """
    if cache.is_file():
        try:
            return LatentSlices(**load_file(cache))
        except (SafetensorError, TypeError) as error:
            raise MrharmonyError(f"{cache}: is damaged. Delete it; it is made again.") from error
    generator = torch.Generator().manual_seed(seed)
    wanted = track(counts.items(), "generating class images", len(counts))
    parts = [asdict(_contrasts(base, prompt, data, count, generator)) for prompt, count in wanted]
    tensors = {name: torch.cat([part[name] for part in parts]).cpu().contiguous() for name in parts[0]}
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, temporary)
    temporary.replace(cache)
    return LatentSlices(**tensors)


@torch.no_grad()
def _contrasts(
    base: LatentModel, prompt: str, data: SliceData, count: int, generator: torch.Generator
) -> LatentSlices:
    batch = data.batch(count, generator).to(base.autoencoder.device)
    structures = encode(base.autoencoder, batch.structures)
    noise = torch.randn(structures.shape, generator=generator)
    domain = Domain(prompt, prompt)
    contrasts = sample_latents(base, structures, batch.positions, domain, noise, SamplingSettings())
    return LatentSlices(contrasts, structures, base.prompts.rows([prompt] * count), batch.positions)


EVERY = 8  # slices: neighbours show almost the same


def contrast_drift(
    before: LatentModel, after: LatentModel, brains: Sequence[Volume], domains: Sequence[Domain]
) -> dict[str, float]:
    """Return the mean absolute change of each domain's look, in canonical units.

    Parameters
    ----------
    before, after
        Models that both know the domains and share an autoencoder.
    brains
        Canonical brains on the models' grid, whose structure the looks have; at least one.
    domains
        The domains to look at.
    """
    encoded = [_thinned(encode_brain(before, brain)) for brain in brains]
    return {
        domain.name: float(np.mean([_change(before, after, brain, domain) for brain in encoded]))
        for domain in track(domains, "measuring the drift of known domains")
    }


def _thinned(encoded: EncodedBrain) -> EncodedBrain:
    return replace(
        encoded,
        filled=encoded.filled[::EVERY],
        structure=encoded.structure[::EVERY],
        positions=encoded.positions[::EVERY],
    )


def _change(before: LatentModel, after: LatentModel, encoded: EncodedBrain, domain: Domain) -> float:
    contrasts: list[FloatArray] = [
        sample_contrast(model, encoded, domain, SamplingSettings()).voxels[:, encoded.filled]
        for model in (before, after)
    ]
    return float(np.abs(contrasts[1] - contrasts[0])[encoded.brain.voxels[:, encoded.filled] > 0].mean())
