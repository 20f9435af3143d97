"""One figure a benchmark: every method's main scores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrharmony.benchmark.table import Row

# Key, heading, the value of a perfect method.
PANELS = (
    ("gain", "PSNR gain dB (more is better)", 0.0),
    ("probe_linear", "retrained site probe (less is better)", None),
    ("drift", "tissue-volume drift % (less is better)", 0.0),
    ("slope", "ventricle slope kept (1 is right)", 1.0),
)
_OURS, _OTHER = "#c1440e", "#4a6fa5"


def draw_figure(path: Path, title: str, rows: Sequence[Row], ours: str) -> None:
    """Write a PNG with a panel for each main figure that the benchmark has.

    Parameters
    ----------
    path
        The `.png` file.
    title
        Above everything.
    rows
        The table's rows, a method each.
    ours
        The method to point out.
    """
    panels = [panel for panel in PANELS if any(row.get(panel[0]) is not None for row in rows)]
    figure = Figure(figsize=(3.4 * len(panels) + 1.2, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for (key, heading, perfect), axis in zip(panels, axes, strict=True):
        _draw_panel(axis, rows, key, ours)
        axis.set_title(heading, fontsize=9)
        if perfect is not None:
            axis.axvline(perfect, color="grey", linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), [str(row["method"]) for row in rows], fontsize=8)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    FigureCanvasAgg(figure).print_png(str(path))


def _draw_panel(axis: Axes, rows: Sequence[Row], key: str, ours: str) -> None:
    for place, row in enumerate(rows):
        value = row.get(key)
        if value is None:
            continue
        axis.plot(value, place, "o", color=_OURS if row["method"] == ours else _OTHER)
        if key == "gain":
            axis.plot([row["gain_low"], row["gain_high"]], [place, place], color=_OTHER, linewidth=1)
    axis.grid(axis="x", alpha=0.3)
