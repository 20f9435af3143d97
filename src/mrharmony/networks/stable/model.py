"""A Stable Diffusion v1.x model of brain slices as one value, and its directory in diffusers' layout.

Slices become pictures upright, in three channels, -1..1 and padded; floats all the way, and exactly back.
Weights are safetensors only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from mrharmony.core.atomic import write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import LARGEST, require_numbers
from mrharmony.core.wording import some_of
from mrharmony.networks.card import CARD, ModelCard, read_card
from mrharmony.networks.schedule import NoiseSchedule
from mrharmony.networks.settings import NO_PROMPT
from mrharmony.networks.stable.configs import PIPELINE
from mrharmony.networks.stable.source import PARTS, resolve_source
from mrharmony.space.intensity import WHITE

PIXEL_MULTIPLE = 8  # the U-Net's own halvings pad themselves
_NOT_NEEDED = {"text_projection.weight"}  # of `CLIPTextModelWithProjection`, behind the states that are used
NETWORKS: dict[str, Any] = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}


@dataclass(frozen=True)
class StableDiffusion:
    """The parts of a Stable Diffusion v1.x model; a `PictureModel`."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler  # only its noise schedule is used
    axis: int = 1  # voxel axis that the slices are perpendicular to
    enlarge: int = 1  # picture pixels a voxel edge

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained on."""
        return NoiseSchedule.of(self.scheduler)

    @property
    def takes_structure(self) -> bool:
        """Whether the U-Net was widened by the structure's latents."""
        return int(self.unet.config.in_channels) == 2 * int(self.vae.config.latent_channels)

    @property
    def multiple(self) -> int:
        """Pictures are padded to multiples of this many pixels."""
        return max(PIXEL_MULTIPLE, int(2 ** (len(self.vae.config.block_out_channels) - 1)))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        device: torch.device = self.unet.device
        return device

    def to(self, device: torch.device) -> StableDiffusion:
        """Move the networks; returns the model."""
        for network in (self.text_encoder, self.vae, self.unet):
            network.to(device)
        return self

    def pictures(self, slices: torch.Tensor) -> torch.Tensor:
        """Return slices (batch, 1, i, k) as pictures (batch, 3, height, width) on the model's device."""
        return to_pictures(slices.to(self.device), self.enlarge, self.multiple)

    def encode_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of pictures, the mode of the posterior."""
        latents: torch.Tensor = self.vae.encode(pictures).latent_dist.mode() * self.vae.config.scaling_factor
        return latents

    def encode(self, slices: torch.Tensor) -> torch.Tensor:
        """Return scaled latents of slices, the mode of the posterior."""
        return self.encode_pictures(self.pictures(slices))

    def structure(self, slices: torch.Tensor) -> torch.Tensor:
        """Return structure latents: not scaled, as InstructPix2Pix and its pipeline in diffusers have it."""
        return self.encode(slices) / float(self.vae.config.scaling_factor)

    def decode_pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the pictures of scaled latents, not clipped."""
        pictures: torch.Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return pictures

    def decode(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return canonical intensities of slices with that many rows and columns."""
        return to_slices(self.decode_pictures(latents), size, self.enlarge, self.multiple)

    def token_ids(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return the prompts' token numbers, padded to the text encoder's length, shape (n, length)."""
        length = self.text_encoder.config.max_position_embeddings
        ids: torch.Tensor = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return ids

    def embed(self, prompt: str, positions: torch.Tensor) -> torch.Tensor:
        """Return the text encoder's last states; the position of a slice does not enter."""
        states: torch.Tensor = self.text_encoder(self.token_ids([prompt]).to(self.device))[0]
        return states.expand(len(positions), -1, -1)

    def predict(
        self, latents: torch.Tensor, structure: torch.Tensor | None, time: int, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return the U-Net's prediction; a widened one sees zeros where there is no structure."""
        if self.takes_structure:
            seen = torch.zeros_like(latents) if structure is None else structure
            latents = torch.cat([latents, seen], dim=1)
        predicted: torch.Tensor = self.unet(latents, time, encoder_hidden_states=tokens).sample
        return predicted


def to_pictures(slices: torch.Tensor, enlarge: int, multiple: int) -> torch.Tensor:
    """Return slices (batch, 1, i, k) as pictures (batch, 3, height, width), superior up.

    Canonical intensities 0 to 1.25 become -1 to 1, higher ones 1. Each voxel edge becomes `enlarge` pixels,
    interpolated linearly; black on all sides fills height and width up to multiples of `multiple`.
    """
    upright = torch.rot90(slices, 1, dims=(2, 3)) / WHITE * 2 - 1
    if enlarge > 1:
        upright = F.interpolate(upright, scale_factor=enlarge, mode="bilinear", align_corners=False)
    height, width = upright.shape[-2:]
    top, bottom = _margins(height, multiple)
    left, right = _margins(width, multiple)
    padded = F.pad(upright.clamp(-1, 1), (left, right, top, bottom), value=-1.0)
    return padded.expand(-1, 3, -1, -1)


def to_slices(pictures: torch.Tensor, size: tuple[int, int], enlarge: int, multiple: int) -> torch.Tensor:
    """Return pictures as canonical intensities of slices with `size` rows and columns; undoes `to_pictures`.

    The three channels, and the pixels that one voxel was enlarged to, are averaged.
    """
    width, height = (edge * enlarge for edge in size)
    top, left = _margins(height, multiple)[0], _margins(width, multiple)[0]
    grey = pictures.mean(dim=1, keepdim=True)[:, :, top : top + height, left : left + width]
    if enlarge > 1:
        grey = F.avg_pool2d(grey, enlarge)
    return torch.rot90((grey + 1) / 2 * WHITE, -1, dims=(2, 3))


def _margins(size: int, multiple: int) -> tuple[int, int]:
    missing = -size % multiple
    return missing // 2, missing - missing // 2


def load_stable_diffusion(source: str | Path, network: bool = False) -> StableDiffusion:
    """Open a Stable Diffusion v1.x model.

    Parameters
    ----------
    source
        A directory in diffusers' layout, or the id of a Hub repository such as `owner/name`.
    network
        Whether a repository may be downloaded; without, only what an earlier download left is used. For a
        directory no network is ever touched.

    Raises
    ------
    MrharmonyError
        If the model is not there, not complete, not safe to load, or not of this family.
    """
    directory = resolve_source(source, network)
    with _quiet():
        scheduler = _open_scheduler(directory / "scheduler")
        networks = {name: _open_network(directory / name, kind) for name, kind in NETWORKS.items()}
        with _damage_told(directory / "tokenizer"):
            tokenizer = CLIPTokenizer.from_pretrained(directory / "tokenizer", local_files_only=True)
    model = StableDiffusion(tokenizer, scheduler=scheduler, **networks)
    _require_family(directory, model)
    _try_networks(directory, model)
    return model


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    """Tell whatever the libraries make of a damaged part in one sentence, by its folder."""
    try:
        yield
    except MrharmonyError:
        raise
    except Exception as error:
        if "ignore_mismatched_sizes" in str(error):  # the way out that both libraries name
            reason = "its weights do not fit its config.json, by their shapes"
        else:
            reason = f"incomplete or damaged ({(str(error).splitlines() or [type(error).__name__])[0]})"
        raise MrharmonyError(f"{folder}: {reason}. Fetch the folder again, complete.") from error


def _open_scheduler(folder: Path) -> DDIMScheduler:
    """Open the noise schedule; refuse one whose numbers are none, though each of them may be possible."""
    with _damage_told(folder):
        # The betas of whatever scheduler the model comes with, PNDM for v1.5, on DDIM's formulas. Trailing
        # steps: v1.5's own ask for a time after the last one at 1000 steps.
        scheduler = DDIMScheduler.from_pretrained(
            folder, timestep_spacing="trailing", clip_sample=False, local_files_only=True
        )
        if not NoiseSchedule.of(scheduler).is_sound:
            raise MrharmonyError(
                f"{folder / 'scheduler_config.json'}: its numbers do not lead from a picture to noise, or "
                "leave nothing of it to a model that predicts noise. Fetch the file again, or name another "
                "model."
            )
        return scheduler


def _open_network(folder: Path, kind: Any) -> Any:  # noqa: ANN401 - classes of diffusers and transformers
    """Open a network for inference; refuse one whose weights are not those of its config, by name.

    The libraries leave weights that are missing at random, or without memory behind them, drop those that are
    left over, and go on.
    """
    with _damage_told(folder):
        network, report = kind.from_pretrained(
            folder,
            use_safetensors=True,
            torch_dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise MrharmonyError(
            f"{folder}: the weights are incomplete, {some_of(missing)} missing. Fetch the model again."
        )
    if unused := sorted(set(report["unexpected_keys"]) - _NOT_NEEDED):
        raise MrharmonyError(
            f"{folder}: its weights do not fit its config.json, which has no place for {some_of(unused)}. "
            "Take both from one model."
        )
    with _damage_told(folder):
        for name, tensor in network.state_dict().items():
            require_numbers(name, tensor, kinds="fi")
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _try_networks(directory: Path, model: StableDiffusion) -> None:
    """Refuse networks that make no usable numbers of a blank picture: a config can spoil sound weights."""

    def tried(part: str, made: Callable[[], torch.Tensor]) -> torch.Tensor:
        with _damage_told(directory / part):
            numbers = made()
            if not numbers.abs().max() <= LARGEST:
                raise MrharmonyError(
                    f"{directory / part}: makes numbers of a blank picture that are not finite or beyond "
                    f"{LARGEST:g}. Fetch the folder again, config.json and weights, or name another model."
                )
            return numbers

    side = PIXEL_MULTIPLE * model.multiple
    latents = tried("vae", lambda: model.encode_pictures(torch.full((1, 3, side, side), -1.0)))
    tokens = tried("text_encoder", lambda: model.embed(NO_PROMPT, torch.zeros(1)))
    tried("unet", lambda: model.predict(latents, None, 1, tokens))
    tried("vae", lambda: model.decode_pictures(latents))


def load_adapted(directory: Path) -> tuple[StableDiffusion, ModelCard]:
    """Open a model that DreamBooth training wrote, with its card; raises `MrharmonyError` for another one."""
    card = read_card(directory)
    if card.dreambooth is None:
        raise MrharmonyError(
            f"{directory}: holds no Stable Diffusion model. Adapt one to a data set (mrharmony adapt)."
        )
    model = load_stable_diffusion(directory)
    return replace(model, axis=card.dreambooth.sliced_axis, enlarge=card.dreambooth.enlarge), card


def save_stable_diffusion(model: StableDiffusion, directory: Path) -> None:
    """Write a model in diffusers' layout, float32, so that diffusers opens it without mrharmony.

    A widened U-Net makes it an InstructPix2Pix pipeline there.
    """
    kind = "InstructPix2Pix" if model.takes_structure else ""
    parts = {name: getattr(model, name) for name in sorted(PARTS)}
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{kind}Pipeline",
        "_diffusers_version": version("diffusers"),
        "requires_safety_checker": False,
        **{part: [None, None] for part in ("feature_extractor", "image_encoder", "safety_checker")},
        **{name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()},
    }
    with _quiet():
        for name, part in parts.items():
            part.save_pretrained(directory / name)
    write_json(directory / PIPELINE, index)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own progress bars and warnings away from the terminal."""
    loudness = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip((diffusers_logging, transformers_logging), loudness, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _require_family(directory: Path, model: StableDiffusion) -> None:
    """Refuse parts that do not fit each other, as those of SDXL or of an inpainting model."""
    latents, sees = model.vae.config.latent_channels, model.unet.config.in_channels
    text, attends = model.text_encoder.config.hidden_size, model.unet.config.cross_attention_dim
    if text != attends or model.vae.config.in_channels != 3:
        raise MrharmonyError(
            f"{directory}: text encoder and U-Net are not those of Stable Diffusion v1.x. Name such a model."
        )
    words, known = len(model.tokenizer), model.text_encoder.config.vocab_size
    if words != known:
        raise MrharmonyError(
            f"{directory / 'tokenizer'}: knows {words} words, the text encoder {known}. "
            "Fetch the folder again, complete."
        )
    if sees != latents and not model.takes_structure:
        raise MrharmonyError(
            f"{directory}: its U-Net takes {sees} channels, not {latents} or {2 * latents}. "
            "Name a text-to-image model, not one for inpainting or depth."
        )
    if model.takes_structure and not (directory / CARD).is_file() and not _is_instruct(directory):
        raise MrharmonyError(f"{directory}: has a widened U-Net of unknown meaning. Name another model.")


def _is_instruct(directory: Path) -> bool:
    return "InstructPix2Pix" in (directory / PIPELINE).read_text("utf-8")
