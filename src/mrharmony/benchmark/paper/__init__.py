"""The paper's own evaluation, of any two domains and all of our methods beside it."""

from mrharmony.benchmark.paper.figures import draw_directions, draw_grid
from mrharmony.benchmark.paper.grid import GUIDANCES, STRENGTHS, Cell, Direction, best_cell, measure_grid
from mrharmony.benchmark.paper.methods import fitted_methods, translations
from mrharmony.benchmark.paper.slices import PaperScan, PaperSlices
from mrharmony.benchmark.paper.study import PaperRequest, evaluate_paper, open_study

__all__ = [
    "GUIDANCES",
    "STRENGTHS",
    "Cell",
    "Direction",
    "PaperRequest",
    "PaperScan",
    "PaperSlices",
    "best_cell",
    "draw_directions",
    "draw_grid",
    "evaluate_paper",
    "fitted_methods",
    "measure_grid",
    "open_study",
    "translations",
]
