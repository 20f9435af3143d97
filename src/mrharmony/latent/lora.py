"""LoRA on the denoiser's attention (Hu et al. 2022): few weights learn, and are merged in the end."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from peft import LoraConfig

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
