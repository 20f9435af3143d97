"""The same job over many scans: each on its own, failures told, the others done."""

from mrharmony.cohort.harmonizing import (
    HarmonizeJob,
    Outcome,
    harmonize_scan,
    output_paths,
    refused_scan,
    sidecar,
)

__all__ = ["HarmonizeJob", "Outcome", "harmonize_scan", "output_paths", "refused_scan", "sidecar"]
