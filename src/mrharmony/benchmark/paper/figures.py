"""The paper's figures 1 and 2, input beside output, and the heat map of strength and guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrharmony.benchmark.paper.grid import Cell, Direction
from mrharmony.benchmark.paper.methods import PaperMethod
from mrharmony.core.findings import MrharmonyError
from mrharmony.report.contact_sheet import Panel, contact_sheet


def draw_directions(path: Path, title: str, rows: Sequence[tuple[Direction, Sequence[PaperMethod]]]) -> None:
    """Write a PNG: the first slice of each direction, its input beside every method's first image.

    The last column is the target scanner's own slice, where all directions have one.
    """
    truths = [direction.slices.truths for direction, _ in rows]
    sheet = []
    for (direction, methods), truth in zip(rows, truths, strict=True):
        panels = [Panel("input", direction.slices.inputs[0])]
        panels += [_panel(method, direction) for method in methods]
        if truth is not None and all(other is not None for other in truths):
            panels.append(Panel("truth", truth[0]))
        sheet.append((direction.name, panels))
    contact_sheet(sheet, title, path)


def _panel(method: PaperMethod, direction: Direction) -> Panel:
    """Return a method's first image, or black where it refuses."""
    name = method.name.replace("image-to-image, ", "").replace("autoencoder ", "")
    try:
        return Panel(name, method.make(direction)[0, 0])
    except MrharmonyError:
        return Panel(f"{name}: refused", np.zeros_like(direction.slices.inputs[0]))


Score = Callable[[Cell], float | None]
PANELS: tuple[tuple[str, Score], ...] = (
    ("between: SSIM to the input", lambda cell: cell.between.to_input.ssim),
    ("between: MSE to the input", lambda cell: cell.between.to_input.mse),
    ("between: W₂ to the target's tone", lambda cell: cell.between.tone),
    ("within: SSIM to the input", lambda cell: cell.within.to_input.ssim),
    ("within: MSE to the input", lambda cell: cell.within.to_input.mse),
    (
        "between: MSE to the truth",
        lambda cell: cell.between.to_truth.mse if cell.between.to_truth else None,
    ),
)


def draw_grid(path: Path, title: str, cells: Sequence[Cell], chosen: tuple[float, float]) -> None:
    """Write a PNG with a heat map for each score, strength to the right and guidance up.

    Parameters
    ----------
    path
        The `.png` file.
    title
        Above everything.
    cells
        All strengths with all guidances.
    chosen
        Strength and guidance that were chosen on training scans; framed.
    """
    panels = [panel for panel in PANELS if all(panel[1](cell) is not None for cell in cells)]
    figure = Figure(figsize=(4.2 * 3, 3.3 * -(-len(panels) // 3) + 0.4), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 3), 3).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for (heading, score), axis in zip(panels, axes, strict=False):
        _draw_panel(axis, cells, score, chosen)
        axis.set_title(heading, fontsize=10)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_panel(axis: Axes, cells: Sequence[Cell], score: Score, chosen: tuple[float, float]) -> None:
    strengths = sorted({cell.strength for cell in cells})
    guidances = sorted({cell.guidance for cell in cells})
    values = np.full((len(guidances), len(strengths)), np.nan)
    for cell in cells:
        values[guidances.index(cell.guidance), strengths.index(cell.strength)] = score(cell)
    axis.imshow(values, origin="lower", aspect="auto", cmap="viridis")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        dark = "white" if value < middle else "black"
        axis.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=7, color=dark)
    place = strengths.index(chosen[0]), guidances.index(chosen[1])
    axis.plot(*place, "s", markersize=26, markerfacecolor="none", markeredgecolor="red", markeredgewidth=2)
    axis.set_xticks(range(len(strengths)), [f"{value:g}" for value in strengths])
    axis.set_yticks(range(len(guidances)), [f"{value:g}" for value in guidances])
    axis.set_xlabel("strength")
    axis.set_ylabel("guidance")
