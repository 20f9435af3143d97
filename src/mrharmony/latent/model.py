"""The compact latent diffusion model as one value: networks, schedule and the card that describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from mrharmony.latent.config import AdaptationSettings, Settings, TrainingSettings
from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.prepare import Grid
from mrharmony.volume import Domain, MrharmonyError, same_name

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from mrharmony.latent.prompts import PromptEncoder


class DomainCard(Settings):
    """A domain that a model knows, and how many scans it learned it from (0 for a simulated one)."""

    name: str
    prompt: str
    scans: int = Field(0, ge=0)


class BaseCard(Settings):
    """The model that another one was adapted from, and how."""

    model: str
    sha256: str
    domains: tuple[str, ...]  # that were new
    adaptation: AdaptationSettings


class ModelCard(Settings):
    """What `mrharmony.json` says of a model: its domains, its grid, its data and its licence."""

    format_version: int = 1
    domains: tuple[DomainCard, ...]
    working_zoom: float = Field(gt=0)  # mm
    intensity_convention: str
    training_data: str
    licence: str
    training: TrainingSettings | None = None  # None where nothing was trained, only statistics taken
    base: BaseCard | None = None  # None where the model was trained from scratch
    pipeline: str | None = None  # the Stable Diffusion model that was fine-tuned
    dreambooth: DreamBoothSettings | None = None  # how a Stable Diffusion model was fine-tuned

    def find(self, name: str) -> Domain | None:
        """Return the domain of that name, or else one that differs in case, hyphens or dots; else None."""
        exact = [card for card in self.domains if card.name == name]
        for card in (*exact, *self.domains):
            if same_name(card.name, name):
                return Domain(card.name, card.prompt)
        return None

    def domain(self, name: str) -> Domain:
        """Return the domain of that name as `find` does, or say which ones there are."""
        found = self.find(name)
        if found is not None:
            return found
        known = ", ".join(card.name for card in self.domains)
        raise MrharmonyError(f"{name}: the model does not know this domain. Choose one of: {known}.")


@dataclass(frozen=True)
class LatentModel:
    """Autoencoder, denoiser and prompts, with their noise schedule and card."""

    autoencoder: AutoencoderKL
    denoiser: UNet2DConditionModel
    prompts: PromptEncoder
    scheduler: DDIMScheduler
    card: ModelCard

    @property
    def grid(self) -> Grid:
        """The grid in template space on which this model works."""
        return Grid.working(self.card.working_zoom)
