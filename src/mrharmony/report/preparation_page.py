"""One page for each prepared scan, to reject a bad mask at a glance, and an index of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrharmony.core.findings import Finding
from mrharmony.core.volume import BoolArray, Volume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import USUAL_DICE, PreparationFigures
from mrharmony.report.page import PLANES, draw_slice, picture_data, render, slice_places
from mrharmony.space.grid import CANONICAL_GRID
from mrharmony.space.resampling import array_to_ras, resample_brain, to_ras
from mrharmony.space.template import template, template_brain_mask

PreparationVerdict = Literal["passed", "warned", "refused"]

_ENDS = {"sagittal": ("P", "A"), "coronal": ("L", "R"), "axial": ("L", "R")}
_SLICES = 6
_OUTLINE = "#ff4040"
_TEMPLATE_OUTLINE = "#40d0ff"


@dataclass(frozen=True)
class IndexRow:
    """One scan of the index."""

    name: str
    verdict: PreparationVerdict
    reason: str  # what is odd about it or why it was refused
    link: str | None  # the scan's page, relative to the index; None where there is none
    thumbnail: str | None  # PNG data URI


def preparation_page(
    name: str,
    prepared: PreparedScan,
    figures: PreparationFigures,
    verdict: PreparationVerdict,
    findings: Sequence[Finding],
) -> str:
    """Return an HTML page: mask on native slices, and the canonical brain with the template's outline."""
    native, mask = to_ras(prepared.native), array_to_ras(prepared.brain_mask, prepared.native)
    canonical, _ = prepared.canonical(CANONICAL_GRID)
    return render(
        "preparation",
        title=name,
        native=prepared.native,
        skull_stripped=prepared.skull_stripped,
        figures=figures,
        usual_dice=USUAL_DICE,
        verdict=verdict,
        findings=findings,
        native_slices=_slices(native, mask, _OUTLINE),
        canonical_slices=_slices(canonical, _template_mask(), _TEMPLATE_OUTLINE),
    )


def thumbnail(prepared: PreparedScan) -> str:
    """Return the three middle slices of the native scan with the mask's outline, as a PNG data URI."""
    native, mask = to_ras(prepared.native), array_to_ras(prepared.brain_mask, prepared.native)
    return _slices(native, mask, _OUTLINE, slices=1, inches=1.1)


def index_page(title: str, rows: Sequence[IndexRow]) -> str:
    """Return a self-contained HTML page that lists scans: refused first, then warned, then passed."""
    verdicts = get_args(PreparationVerdict)
    ordered = sorted(rows, key=lambda row: (-verdicts.index(row.verdict), row.name))
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in verdicts}
    return render("index", title=title, rows=ordered, counts=counts)


def _slices(
    volume: Volume, outline: BoolArray, colour: str, slices: int = _SLICES, inches: float = 2.0
) -> str:
    """Return slices through a mask as a PNG data URI: a row for each plane, or one row for single slices."""
    rows, columns = (3, slices) if slices > 1 else (1, 3)
    figure = Figure(figsize=(inches * columns, inches * rows), facecolor="black", dpi=100)
    axes = figure.subplots(rows, columns).reshape(3, slices)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    white = 1.15 * float(np.percentile(volume.voxels[outline], 98)) or 1.0
    style = {"cmap": "gray", "vmin": 0, "vmax": white}
    for (plane, axis), line in zip(PLANES.items(), axes, strict=True):
        for number, position in enumerate(slice_places(outline, axis, slices)):
            draw_slice(line[number], volume.voxels, volume.zooms, axis, position, style)
            _draw_outline(line[number], np.take(outline, position, axis), colour)
        if slices > 1:
            _name_ends(line[0], *_ENDS[plane])
    return picture_data(figure)


def _draw_outline(axes: Axes, outline: BoolArray, colour: str) -> None:
    # Padded, so that an outline at the border of the field of view is closed and seen.
    edge: BoolArray = np.pad(outline, 1)
    if edge.any():
        columns, rows = np.arange(edge.shape[0]) - 1, np.arange(edge.shape[1]) - 1
        axes.contour(columns, rows, edge.T, levels=[0.5], colors=colour, linewidths=0.8)


def _name_ends(axes: Axes, left: str, right: str) -> None:
    for place, end in ((0.02, left), (0.92, right)):
        axes.text(place, 0.5, end, color="white", fontsize=8, transform=axes.transAxes)


@cache
def _template_mask() -> BoolArray:
    _, mask = resample_brain(template(), template_brain_mask(), CANONICAL_GRID.shape, CANONICAL_GRID.affine)
    return mask
