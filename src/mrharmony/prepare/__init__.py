"""From a native scan to the canonical brain, and exactly back."""

from mrharmony.prepare.grid import CANONICAL_GRID, Grid
from mrharmony.prepare.intensity import intensity_scale
from mrharmony.prepare.pipeline import PREPARATION_FORMAT, prepare_scan
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.template import template, template_brain_mask

__all__ = [
    "CANONICAL_GRID",
    "PREPARATION_FORMAT",
    "Grid",
    "PreparedScan",
    "intensity_scale",
    "prepare_scan",
    "template",
    "template_brain_mask",
]
