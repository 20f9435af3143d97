"""CycleGAN pseudo-scanner standardization: one model a pair of domains (Arai et al. 2021)."""

from mrharmony.cyclegan.generators import Generator
from mrharmony.cyclegan.pair import WEIGHTS, PairRecord, TrainedPair, join_pairs, load_pairs, save_pairs
from mrharmony.cyclegan.settings import CycleGanSettings
from mrharmony.cyclegan.training import train_pair
from mrharmony.cyclegan.translating import translate_brain

__all__ = [
    "WEIGHTS",
    "CycleGanSettings",
    "Generator",
    "PairRecord",
    "TrainedPair",
    "join_pairs",
    "load_pairs",
    "save_pairs",
    "train_pair",
    "translate_brain",
]
