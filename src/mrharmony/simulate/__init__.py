"""Virtual travelling heads: anatomies, MR physics, scanners, and cohorts of them.

`virtual_head` makes a person, `scan_head` images it with a `Scanner`, `write_cohort` does both for many
people and scanners and writes BIDS with the truth beside it; `write_recipe_cohort` does so for sites with
populations of their own. docs/simulation.md holds constants, equations and limits.
"""

from mrharmony.simulate._cohort_files import true_brain
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, LESION_LABEL, WM, Anatomy
from mrharmony.simulate.cohort import scanner_of_session, write_cohort
from mrharmony.simulate.contrast import contrast, tissue_signals
from mrharmony.simulate.heads import template_anatomy, virtual_head
from mrharmony.simulate.mp2rage import Mp2rage
from mrharmony.simulate.person import Person, Population, draw_people, draw_person, expected_person
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.recipe import Recipe, load_recipe
from mrharmony.simulate.recipe_cohort import write_recipe_cohort
from mrharmony.simulate.recipe_subjects import Subject, plan_subjects
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import ScanDraw, draw_scan, render, scan_coronal, scan_head
from mrharmony.simulate.segment import segment_brain
from mrharmony.simulate.signal import Mprage, SpoiledGradientEcho, tissue_signal
from mrharmony.simulate.tissues import TISSUE_PARAMETERS, TISSUES

__all__ = [
    "CORTICAL_GM",
    "CSF",
    "DEEP_GM",
    "LESION_LABEL",
    "TISSUES",
    "TISSUE_PARAMETERS",
    "WM",
    "Anatomy",
    "Mp2rage",
    "Mprage",
    "Person",
    "Population",
    "Recipe",
    "ScanDraw",
    "Scanner",
    "SpoiledGradientEcho",
    "Subject",
    "contrast",
    "draw_people",
    "draw_person",
    "draw_scan",
    "expected_person",
    "load_recipe",
    "load_scanners",
    "plan_subjects",
    "random_scanner",
    "render",
    "scan_coronal",
    "scan_head",
    "scanner_of_session",
    "segment_brain",
    "template_anatomy",
    "tissue_signal",
    "tissue_signals",
    "true_brain",
    "virtual_head",
    "write_cohort",
    "write_recipe_cohort",
]
