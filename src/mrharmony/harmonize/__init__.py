"""Harmonization: one protocol, many methods, and the anatomy lock that keeps what a scan shows."""

from mrharmony.harmonize.accents import ACCENTS, Accent, load_accents, scan_looks
from mrharmony.harmonize.bilateral_bounds import LockSettings
from mrharmony.harmonize.bilateral_fit import fit_bilateral_grid
from mrharmony.harmonize.bilateral_grid import FIELD_OF_VIEW, BilateralGrid
from mrharmony.harmonize.classical import ClassicalHarmonizer, ClassicalMethod, scan_statistics
from mrharmony.harmonize.cyclegan import (
    CYCLEGAN,
    CycleGanHarmonizer,
    load_cyclegan,
    require_pairs,
    train_cyclegan,
)
from mrharmony.harmonize.detail import DETAIL, Detail, detail_of, fit_details, load_details, save_details
from mrharmony.harmonize.diffusion import DiffusionHarmonizer
from mrharmony.harmonize.evidence import Evidence, evidence, scan_evidence
from mrharmony.harmonize.image_to_image import ImageToImageHarmonizer
from mrharmony.harmonize.locked import Extent, lock_of, output_scale, render, through_lock, truth_fitted
from mrharmony.harmonize.looks import Looks, inversion_domain
from mrharmony.harmonize.methods import (
    FITTED_METHODS,
    SIMPLE_METHODS,
    FittedMethod,
    fit_method,
    load_method,
    require_method,
)
from mrharmony.harmonize.per_scan import STATISTICS_ZOOM
from mrharmony.harmonize.population import (
    CanonicalBrain,
    DomainStatistics,
    brain_statistics,
    fit_statistics,
    load_statistics,
    save_statistics,
    target_statistics,
)
from mrharmony.harmonize.protocol import HarmonizedVolume, Harmonizer
from mrharmony.harmonize.spread import SeededHarmonizer, spread
from mrharmony.harmonize.synthesis import (
    SYNTHESIS,
    SynthesisHarmonizer,
    fit_synthesis,
    load_synthesis,
)
from mrharmony.harmonize.tone_curves import global_curve, regional_curves
from mrharmony.harmonize.verdicts import LIMITS, Limit, Verdict, judge

__all__ = [
    "ACCENTS",
    "CYCLEGAN",
    "DETAIL",
    "FIELD_OF_VIEW",
    "FITTED_METHODS",
    "LIMITS",
    "SIMPLE_METHODS",
    "STATISTICS_ZOOM",
    "SYNTHESIS",
    "Accent",
    "BilateralGrid",
    "CanonicalBrain",
    "ClassicalHarmonizer",
    "ClassicalMethod",
    "CycleGanHarmonizer",
    "Detail",
    "DiffusionHarmonizer",
    "DomainStatistics",
    "Evidence",
    "Extent",
    "FittedMethod",
    "HarmonizedVolume",
    "Harmonizer",
    "ImageToImageHarmonizer",
    "Limit",
    "LockSettings",
    "Looks",
    "SeededHarmonizer",
    "SynthesisHarmonizer",
    "Verdict",
    "brain_statistics",
    "detail_of",
    "evidence",
    "fit_bilateral_grid",
    "fit_details",
    "fit_method",
    "fit_statistics",
    "fit_synthesis",
    "global_curve",
    "inversion_domain",
    "judge",
    "load_accents",
    "load_cyclegan",
    "load_details",
    "load_method",
    "load_statistics",
    "load_synthesis",
    "lock_of",
    "output_scale",
    "regional_curves",
    "render",
    "require_method",
    "require_pairs",
    "save_details",
    "save_statistics",
    "scan_evidence",
    "scan_looks",
    "scan_statistics",
    "spread",
    "target_statistics",
    "through_lock",
    "train_cyclegan",
    "truth_fitted",
]
