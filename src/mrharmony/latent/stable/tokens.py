"""Prompts of domains: plain names as in the paper, or tokens of their own in the text encoder's vocabulary.

CLIP's vocabulary splits `ADNI2` and `ADNI3` into the same piece and one digit each, so plain names share most
of what they mean; an added token belongs to its domain alone and starts as the mean of the name's pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from mrharmony.latent.stable.model import StableDiffusion
from mrharmony.volume import MrharmonyError


def instance_prompts(domains: Sequence[str], style: Literal["name", "token"]) -> dict[str, str]:
    """Return the prompt of each domain: its name, or `<name>` in lower case.

    Raises
    ------
    MrharmonyError
        If two domains would have the same token.
    """
    if style == "name":
        return {name: name for name in domains}
    prompts = {name: f"<{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}>" for name in domains}
    if len(set(prompts.values())) < len(prompts):
        raise MrharmonyError(
            f"Domains {', '.join(domains)}: two of them make the same token. Rename one, or use plain names."
        )
    return prompts


@torch.no_grad()
def add_tokens(model: StableDiffusion, prompts: Mapping[str, str]) -> list[int]:
    """Add the prompts that are tokens to vocabulary and text encoder; returns the rows of all that are.

    Parameters
    ----------
    model
        Changed in place.
    prompts
        Prompt of each domain name.
    """
    new = {name: prompt for name, prompt in prompts.items() if prompt.startswith("<")}
    pieces = {prompt: _pieces(model, name) for name, prompt in new.items()}
    known = len(model.tokenizer)
    model.tokenizer.add_tokens(list(pieces))
    rows: list[int] = model.tokenizer.convert_tokens_to_ids(list(pieces))
    if len(model.tokenizer) > model.text_encoder.config.vocab_size:
        model.text_encoder.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
    table = model.text_encoder.get_input_embeddings().weight
    for row, parts in zip(rows, pieces.values(), strict=True):
        if row >= known:
            table[row] = table[parts].mean(dim=0)
    return rows


def _pieces(model: StableDiffusion, name: str) -> list[int]:
    pieces: list[int] = model.tokenizer(name, add_special_tokens=False).input_ids
    return pieces or [model.tokenizer.eos_token_id]
