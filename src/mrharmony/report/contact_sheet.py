"""Contact sheets: slices of several scans side by side, a labelled row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mrharmony.core.atomic import write_file
from mrharmony.core.volume import FloatArray

DIFFERENCE_LIMIT = 0.3  # canonical units at which a difference is full blue or orange
BRIGHTEST = 1.3  # canonical units shown white
_DARKER_BRIGHTER = LinearSegmentedColormap.from_list("difference", ["#50a0ff", "black", "#ff9020"])


@dataclass(frozen=True)
class Panel:
    """One picture of a row."""

    title: str
    image: FloatArray  # a slice as it is stored (first axis to the right, second axis up), canonical units
    is_difference: bool = False  # blue where it is darker, orange where brighter, black at 0


def contact_sheet(rows: Sequence[tuple[str, Sequence[Panel]]], title: str, path: Path) -> None:
    """Write a PNG with a row of panels for each label; every row has as many panels."""
    columns = len(rows[0][1])
    figure = Figure(figsize=(2.4 * columns, 2.5 * len(rows) + 0.6), facecolor="black", layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(rows), columns))
    for (label, panels), line in zip(rows, axes, strict=True):
        for panel, axis in zip(panels, line, strict=True):
            _draw(axis, panel)
        line[0].set_ylabel(label, color="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11)
    write_file(path, FigureCanvasAgg(figure).print_png)


def intensity_style(*, is_difference: bool) -> dict[str, Any]:
    """Return colours and range of `imshow` for canonical intensities or their difference."""
    if is_difference:
        return {"cmap": _DARKER_BRIGHTER, "vmin": -DIFFERENCE_LIMIT, "vmax": DIFFERENCE_LIMIT}
    return {"cmap": "gray", "vmin": 0.0, "vmax": BRIGHTEST}


def _draw(axis: Axes, panel: Panel) -> None:
    style = intensity_style(is_difference=panel.is_difference)
    axis.imshow(panel.image.T, origin="lower", interpolation="nearest", **style)
    axis.set_title(panel.title, color="white", fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_facecolor("black")
