"""Class images of DreamBooth: what a model shows with the prompts that it knows, kept as latents.

The class of Ruiz et al. 2023 is "a brain MR image" in the paper that this project starts from. A compact
model has no words: there the class is any brain under any prompt it knows, the empty prompt among them.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mrharmony.latent.autoencoder import encode
from mrharmony.latent.data import SliceData
from mrharmony.latent.guidance import SamplingSettings
from mrharmony.latent.model import LatentModel
from mrharmony.latent.sampling import sample_latents
from mrharmony.progress import track
from mrharmony.volume import Domain, MrharmonyError


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
    parts = [asdict(_looks(base, prompt, data, count, generator)) for prompt, count in wanted]
    tensors = {name: torch.cat([part[name] for part in parts]).cpu().contiguous() for name in parts[0]}
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(f".{os.getpid()}.tmp")
    save_file(tensors, temporary)
    temporary.replace(cache)
    return LatentSlices(**tensors)


@torch.no_grad()
def _looks(
    base: LatentModel, prompt: str, data: SliceData, count: int, generator: torch.Generator
) -> LatentSlices:
    batch = data.batch(count, generator).to(base.autoencoder.device)
    structures = encode(base.autoencoder, batch.structures)
    noise = torch.randn(structures.shape, generator=generator)
    domain = Domain(prompt, prompt)
    looks = sample_latents(base, structures, batch.positions, domain, noise, SamplingSettings())
    return LatentSlices(looks, structures, base.prompts.rows([prompt] * count), batch.positions)
