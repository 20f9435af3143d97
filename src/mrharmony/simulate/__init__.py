"""Virtual travelling heads: anatomies, MR physics, scanners, and cohorts of them.

`virtual_head` makes a person, `scan_head` images it with a `Scanner`, `write_cohort` does both for many
people and scanners and writes BIDS with the truth beside it.
"""

from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy
from mrharmony.simulate.cohort import scanner_of_session, write_cohort
from mrharmony.simulate.heads import template_anatomy, virtual_head
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import (
    ScanDraw,
    contrast,
    draw_scan,
    render,
    scan_coronal,
    scan_head,
    tissue_signals,
)
from mrharmony.simulate.segment import segment_brain
from mrharmony.simulate.signal import TISSUE_PARAMETERS, TISSUES, Mprage, SpoiledGradientEcho, tissue_signal

__all__ = [
    "CORTICAL_GM",
    "CSF",
    "DEEP_GM",
    "TISSUES",
    "TISSUE_PARAMETERS",
    "WM",
    "Anatomy",
    "Mprage",
    "ScanDraw",
    "Scanner",
    "SpoiledGradientEcho",
    "contrast",
    "draw_scan",
    "load_scanners",
    "random_scanner",
    "render",
    "scan_coronal",
    "scan_head",
    "scanner_of_session",
    "segment_brain",
    "template_anatomy",
    "tissue_signal",
    "tissue_signals",
    "virtual_head",
    "write_cohort",
]
