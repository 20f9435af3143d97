"""Making Stable Diffusion ready for DreamBooth: prompts of domains, and what of the model is trained.

A prompt is a domain's plain name, as in the paper, or a token of its own in the text encoder's vocabulary.
CLIP's vocabulary splits `ADNI2` and `ADNI3` into the same piece and one digit each, so plain names share most
of what they mean; an added token belongs to its domain alone and starts as the mean of the name's pieces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.settings import NO_PROMPT, DreamBoothSettings
from mrharmony.networks.stable.model import StableDiffusion

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def instance_prompts(
    domains: Sequence[str],
    style: Literal["name", "token"],
    known: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the prompt of each domain: its name, or `<name>` in lower case.

    `known` are the prompts of other domains that the model has been taught before. Raises `MrharmonyError` if
    two domains would have the same token.
    """
    if style == "name":
        return {name: name for name in domains}
    prompts = {name: f"<{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}>" for name in domains}
    if len(set(prompts.values())) < len(prompts):
        raise MrharmonyError(
            f"Domains {', '.join(domains)}: two of them make the same token. "
            "Leave one out, or use plain names."
        )
    taken = {prompt: name for name, prompt in known.items()}
    if name := next((name for name, prompt in prompts.items() if prompt in taken), None):
        raise MrharmonyError(
            f"{name}: makes the same token as {taken[prompts[name]]}, which the base knows. "
            "Call it otherwise, or use plain names."
        )
    return prompts


def require_told_apart(
    model: StableDiffusion,
    prompts: Mapping[str, str],
    known: Mapping[str, str],
    settings: DreamBoothSettings,
) -> None:
    """Refuse domains that the text encoder reads like others, or like the class prompt or no prompt.

    It sees the first tokens alone (77 in CLIP), and no difference of case. `prompts` are those of the domains
    to learn and `known` those of the base's others, as in `instance_prompts`. Raises `MrharmonyError`.
    """
    read = {_ids(model, prompt): name for name, prompt in known.items()}
    read[_ids(model, NO_PROMPT)] = "no prompt at all"
    if settings.prior_weight > 0:
        read[_ids(model, settings.class_prompt)] = "the class prompt"
    for name, prompt in prompts.items():
        if prompt.startswith("<"):  # a token of its own, which the vocabulary need not have yet
            continue
        other = read.setdefault(_ids(model, prompt), name)
        if other != name:
            raise MrharmonyError(
                f"{name}: the text encoder reads this name like {other}. Call it otherwise, or give the "
                "preset `prompt: token`."
            )


def _ids(model: StableDiffusion, prompt: str) -> tuple[int, ...]:
    return tuple(model.token_ids([prompt])[0].tolist())


@torch.no_grad()
def add_tokens(model: StableDiffusion, prompts: Mapping[str, str]) -> list[int]:
    """Add the prompts that are tokens to vocabulary and text encoder; return the rows of these tokens."""
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


class PromptedUNet(torch.nn.Module):
    """Text encoder and U-Net as one module, so that gradients of both are gathered together."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.unet = model.unet
        self.text_encoder = model.text_encoder

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """Return the prediction for latents (batch, channels, h, w) under token numbers (batch, length)."""
        states = self.text_encoder(token_ids)[0]
        predicted: torch.Tensor = self.unet(noisy, times, encoder_hidden_states=states).sample
        return predicted


@dataclass(frozen=True)
class Adaptation:
    """A model made ready for training."""

    module: PromptedUNet  # text encoder and U-Net; what is trained requires gradients
    adapters: tuple[Any, ...]  # wrapped networks whose adapters are merged at the end

    def parameters(self) -> torch.nn.ParameterList:
        """Return what is trained, as a module of its own that shares the parameters."""
        return torch.nn.ParameterList(p for p in self.module.parameters() if p.requires_grad)

    def merge(self) -> None:
        """Add the adapters to the weights that they adapt, and take them out."""
        for adapter in self.adapters:
            adapter.merge_and_unload()
        self.module.requires_grad_(False).eval()


def adapt(model: StableDiffusion, token_rows: list[int], settings: DreamBoothSettings) -> Adaptation:
    """Make a model ready for training, in place; `token_rows`, those of domains, are trained in any case."""
    module = PromptedUNet(model)
    adapters: list[Any] = []
    if settings.method == "lora":
        from peft import get_peft_model  # noqa: PLC0415 - takes seconds to import

        adapters.append(get_peft_model(model.unet, _lora(settings.lora_rank, UNET_LAYERS)))
        # What was widened is new, and adapters do not reach it.
        model.unet.conv_in.requires_grad_(settings.structure)
        if settings.text_encoder:
            adapters.append(get_peft_model(model.text_encoder, _lora(settings.lora_rank, TEXT_LAYERS)))
    else:
        model.unet.requires_grad_(True)
        model.text_encoder.requires_grad_(settings.text_encoder)
    table = model.text_encoder.get_input_embeddings().weight
    if token_rows and not table.requires_grad:
        _train_rows(table, token_rows)
    if settings.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    return Adaptation(module.train(), tuple(adapters))


def widen(model: StableDiffusion) -> None:
    """Let the U-Net see the structure's latents beside the noisy ones; it ignores them until it is trained.

    The first convolution gets as many input channels again, with weights 0 (Brooks et al. 2023, section 3.2).
    """
    old = model.unet.conv_in
    channels = 2 * old.in_channels
    wide = torch.nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : old.in_channels] = old.weight
    wide.bias = old.bias
    model.unet.conv_in = wide.to(old.weight)
    model.unet.register_to_config(in_channels=channels)


def parameter_groups(adaptation: Adaptation) -> list[dict[str, Any]]:
    """Return the optimizer's groups: the table of tokens must not shrink, or every old token would change."""
    table = adaptation.module.text_encoder.get_input_embeddings().weight
    trained = list(adaptation.parameters())
    groups: list[dict[str, Any]] = [{"params": [p for p in trained if p is not table], "weight_decay": 1e-2}]
    if any(p is table for p in trained):
        groups.append({"params": [table], "weight_decay": 0.0})
    return groups


def _train_rows(table: torch.nn.Parameter, rows: list[int]) -> None:
    table.requires_grad_(True)
    trained = torch.zeros(len(table), 1)
    trained[rows] = 1.0
    table.register_hook(lambda gradient: gradient * trained.to(gradient))  # type: ignore[no-untyped-call]


def _lora(rank: int, layers: list[str]) -> Any:  # noqa: ANN401 - a `LoraConfig` of peft
    from peft import LoraConfig  # noqa: PLC0415 - takes seconds to import

    return LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=layers)
