"""Stable Diffusion v1.5's classes in the smallest sizes, tokenizer included, made from configs."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH = 16  # tokens of a prompt
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789<>-"
MERGES = ["a d", "ad n", "adn i</w>", "b r", "br a", "bra i", "brai n</w>", "m r</w>", "i m", "im a"]
SD15_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Single letters, some pieces of our prompts, and CLIP's two special tokens."""
    folder.mkdir(parents=True)
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *("".join(m.split()) for m in MERGES)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=LENGTH)


def tiny_pipeline(tokenizer: CLIPTokenizer, in_channels: int = 4) -> StableDiffusionPipeline:
    """The classes of Stable Diffusion v1.5 in the smallest sizes; its own noise schedule."""
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=40,
    )
    unet = UNet2DConditionModel(
        sample_size=5,
        in_channels=in_channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(**SD15_SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
