"""Domain prompts: learned tokens that name a site, a scanner or a protocol, and the place of a slice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class PromptEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Turns a domain's prompt and a slice's position into the tokens that the denoiser attends to.

    Each prompt has learned tokens, `tokens` of length `size`; the first prompt is always the empty one.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, prompts: Sequence[str], tokens: int = 4, size: int = 64) -> None:
        super().__init__()
        self.known = {prompt: row for row, prompt in enumerate(prompts)}
        self.embedding = nn.Embedding(len(self.known), tokens * size)
        self.position = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        nn.init.normal_(self.embedding.weight, std=0.5)

    def rows(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the embedding row of each prompt, shape (n,); KeyError for an unknown prompt."""
        return torch.tensor([self.known[prompt] for prompt in prompts], dtype=torch.long)

    def forward(self, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return tokens of shape (batch, tokens + 1, size) for the prompts' rows and the slices' positions.

        Both have the shape (batch,); positions run from -1 to 1 over the field of view along the sliced axis.
        """
        size = self.config.size
        prompt_tokens = self.embedding(rows).reshape(len(rows), self.config.tokens, size)
        return torch.cat([prompt_tokens, self.position(_sinusoids(positions, size))[:, None]], dim=1)


def _sinusoids(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Return sines and cosines of positions at octave-spaced frequencies (Vaswani et al. 2017, 3.5)."""
    octaves = torch.linspace(0.0, 5.0, size // 2, device=positions.device)
    angles = positions[:, None] * math.pi * torch.exp2(octaves)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
