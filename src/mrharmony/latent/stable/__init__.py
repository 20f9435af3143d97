"""Stable Diffusion v1.x: opened from disk, taught scanners by DreamBooth, and used for image-to-image."""

from mrharmony.latent.stable.data import SliceSet, choose_slices, join_domains
from mrharmony.latent.stable.dreambooth import train_dreambooth
from mrharmony.latent.stable.loading import (
    load_adapted,
    load_stable_diffusion,
    resolve_source,
    save_stable_diffusion,
)
from mrharmony.latent.stable.model import StableDiffusion
from mrharmony.latent.stable.tokens import instance_prompts

__all__ = [
    "SliceSet",
    "StableDiffusion",
    "choose_slices",
    "instance_prompts",
    "join_domains",
    "load_adapted",
    "load_stable_diffusion",
    "resolve_source",
    "save_stable_diffusion",
    "train_dreambooth",
]
