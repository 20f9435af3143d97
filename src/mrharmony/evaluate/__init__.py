"""How good a result is, with and without a truth; every figure with its equation and source in docs/."""

from mrharmony.evaluate.anatomy import AnatomyScores, compare_anatomy
from mrharmony.evaluate.biology import BiologyScores, biology_scores
from mrharmony.evaluate.cohort_biology import CohortBiology, cohort_biology
from mrharmony.evaluate.identity import IdentitySummary, identity_scores, summarize_identity
from mrharmony.evaluate.leak import leak_suspected, leaked_noise
from mrharmony.evaluate.paired import (
    DATA_RANGE,
    PairedScores,
    PairedTruth,
    masked_ssim,
    mean_squared_error,
    paired_scores,
    peak_ratio,
    room_share,
)
from mrharmony.evaluate.paper import (
    PaperRow,
    SliceScores,
    as_picture,
    image_scores,
    paper_table,
    slice_places,
    slice_scores,
    tone_distance,
    tone_quantiles,
)
from mrharmony.evaluate.repeat import RepeatFloor, repeat_floor
from mrharmony.evaluate.site_classifiers import probe_inputs
from mrharmony.evaluate.site_distances import SiteDistances, site_distances
from mrharmony.evaluate.site_probe import (
    CrossFittedProbe,
    FittedProbe,
    ProbeScores,
    SiteProbe,
    cross_fit_probe,
    fit_probe,
    frozen_probe,
    probe_sites,
)
from mrharmony.evaluate.tissues import TissueSegmentation, TissueVolumes, segment_tissues
from mrharmony.evaluate.uncertainty import Estimate, bootstrap_estimate, bootstrap_interval
from mrharmony.evaluate.volumetry import TargetVolumetry

__all__ = [
    "DATA_RANGE",
    "AnatomyScores",
    "BiologyScores",
    "CohortBiology",
    "CrossFittedProbe",
    "Estimate",
    "FittedProbe",
    "IdentitySummary",
    "PairedScores",
    "PairedTruth",
    "PaperRow",
    "ProbeScores",
    "RepeatFloor",
    "SiteDistances",
    "SiteProbe",
    "SliceScores",
    "TargetVolumetry",
    "TissueSegmentation",
    "TissueVolumes",
    "as_picture",
    "biology_scores",
    "bootstrap_estimate",
    "bootstrap_interval",
    "cohort_biology",
    "compare_anatomy",
    "cross_fit_probe",
    "fit_probe",
    "frozen_probe",
    "identity_scores",
    "image_scores",
    "leak_suspected",
    "leaked_noise",
    "masked_ssim",
    "mean_squared_error",
    "paired_scores",
    "paper_table",
    "peak_ratio",
    "probe_inputs",
    "probe_sites",
    "repeat_floor",
    "room_share",
    "segment_tissues",
    "site_distances",
    "slice_places",
    "slice_scores",
    "summarize_identity",
    "tone_distance",
    "tone_quantiles",
]
