"""The latent diffusion model: what a brain would look like in a domain, generated from its structure."""

from mrharmony.latent.config import AdaptationSettings, TrainingSettings
from mrharmony.latent.data import MixedSlices, RealSlices, SliceData
from mrharmony.latent.denoiser import build_scheduler
from mrharmony.latent.drift import look_drift
from mrharmony.latent.model import BaseCard, DomainCard, LatentModel, ModelCard, letters
from mrharmony.latent.model_directory import (
    CARD,
    STATISTICS,
    as_saved,
    load_model,
    model_hash,
    read_card,
    save_card,
    save_model,
)
from mrharmony.latent.sampling import EncodedBrain, SamplingSettings, encode_brain, round_trip, sample_look
from mrharmony.latent.training import TrainedNetworks, train_networks
from mrharmony.latent.virtual import VirtualHead, VirtualSlices

__all__ = [
    "CARD",
    "STATISTICS",
    "AdaptationSettings",
    "BaseCard",
    "DomainCard",
    "EncodedBrain",
    "LatentModel",
    "MixedSlices",
    "ModelCard",
    "RealSlices",
    "SamplingSettings",
    "SliceData",
    "TrainedNetworks",
    "TrainingSettings",
    "VirtualHead",
    "VirtualSlices",
    "as_saved",
    "build_scheduler",
    "encode_brain",
    "letters",
    "load_model",
    "look_drift",
    "model_hash",
    "read_card",
    "round_trip",
    "sample_look",
    "save_card",
    "save_model",
    "train_networks",
]
