"""The latent diffusion model: what a brain would look like in a domain, generated from its structure."""

from mrharmony.latent.config import AdaptationSettings, TrainingSettings
from mrharmony.latent.data import MixedSlices, RealSlices, SliceData
from mrharmony.latent.denoiser import build_scheduler
from mrharmony.latent.dreambooth_settings import DreamBoothSettings
from mrharmony.latent.drift import look_drift
from mrharmony.latent.guidance import GREATEST_WEIGHT, SamplingSettings
from mrharmony.latent.inversion import invert_brain
from mrharmony.latent.model import BaseCard, DomainCard, LatentModel, ModelCard
from mrharmony.latent.model_directory import (
    CARD,
    STATISTICS,
    as_saved,
    load_model,
    model_hash,
    read_card,
    save_card,
    save_model,
    write_directory,
)
from mrharmony.latent.picture_model import CompactPictures, PictureModel
from mrharmony.latent.sampling import EncodedBrain, encode_brain, round_trip, sample_look
from mrharmony.latent.training import TrainedNetworks, train_networks
from mrharmony.latent.translation import (
    TranslationSettings,
    read_translation,
    translate_brain,
    translate_slices,
)
from mrharmony.latent.virtual import VirtualHead, VirtualSlices

__all__ = [
    "CARD",
    "GREATEST_WEIGHT",
    "STATISTICS",
    "AdaptationSettings",
    "BaseCard",
    "CompactPictures",
    "DomainCard",
    "DreamBoothSettings",
    "EncodedBrain",
    "LatentModel",
    "MixedSlices",
    "ModelCard",
    "PictureModel",
    "RealSlices",
    "SamplingSettings",
    "SliceData",
    "TrainedNetworks",
    "TrainingSettings",
    "TranslationSettings",
    "VirtualHead",
    "VirtualSlices",
    "as_saved",
    "build_scheduler",
    "encode_brain",
    "invert_brain",
    "load_model",
    "look_drift",
    "model_hash",
    "read_card",
    "read_translation",
    "round_trip",
    "sample_look",
    "save_card",
    "save_model",
    "train_networks",
    "translate_brain",
    "translate_slices",
    "write_directory",
]
