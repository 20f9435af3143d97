"""Adversarial unlearning of the site (Dinsdale et al. 2021, NeuroImage 228:117689): features, not images."""

from mrharmony.evaluate.unlearning.features import latent_features
from mrharmony.evaluate.unlearning.splits import UnlearningData, require_splits
from mrharmony.evaluate.unlearning.study import UnlearningScores, UnlearningStudy, unlearning_study
from mrharmony.evaluate.unlearning.training import (
    TrainedUnlearning,
    UnlearningSettings,
    train_unlearning,
)

__all__ = [
    "TrainedUnlearning",
    "UnlearningData",
    "UnlearningScores",
    "UnlearningSettings",
    "UnlearningStudy",
    "latent_features",
    "require_splits",
    "train_unlearning",
    "unlearning_study",
]
