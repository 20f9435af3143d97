"""A page a prepared scan, for rejecting a bad mask at a glance, and the index of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrharmony.core.findings import Finding
from mrharmony.core.volume import BoolArray, FloatArray, Volume
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.quality import PreparationFigures
from mrharmony.report.page import PLANES, document, mark, picture_data, slice_places
from mrharmony.space.grid import CANONICAL_GRID
from mrharmony.space.resampling import array_to_ras, resample_brain, to_ras
from mrharmony.space.template import template, template_brain_mask

Verdict = Literal["passed", "warned", "refused"]

_ENDS = {"sagittal": ("P", "A"), "coronal": ("L", "R"), "axial": ("L", "R")}
_SLICES = 6
_OUTLINE = "#ff4040"
_TEMPLATE_OUTLINE = "#40d0ff"
_COLOURS = {"passed": "#2e9e4f", "warned": "#d99000", "refused": "#d03030"}


@dataclass(frozen=True)
class IndexRow:
    """One scan of the index.

    Parameters
    ----------
    name
        The scan.
    verdict, reason
        What became of it, and what is odd about it or why it was refused.
    link
        The page, relative to the index; None where there is none.
    thumbnail
        PNG data URI, or None.
    """

    name: str
    verdict: Verdict
    reason: str
    link: str | None
    thumbnail: str | None


def preparation_page(
    name: str,
    prepared: PreparedScan,
    figures: PreparationFigures,
    verdict: Verdict,
    findings: Sequence[Finding],
) -> str:
    """Return a self-contained HTML page: mask on native slices, canonical brain with the template's outline.

    Parameters
    ----------
    name
        Of the scan.
    prepared, figures
        The prepared scan, and what it is judged by.
    verdict, findings
        What became of it, and what was noticed.
    """
    native, mask = to_ras(prepared.native), array_to_ras(prepared.brain_mask, prepared.native)
    canonical, _ = prepared.canonical(CANONICAL_GRID)
    return document(
        name,
        f"<h1>{escape(name)} {_mark(verdict)}</h1>{_finding_list(findings)}{_table(prepared, figures)}"
        "<h2>Native scan, outline of the brain mask</h2>"
        f"<img alt='brain mask on native slices' src='{_slices(native, mask, _OUTLINE)}'>"
        "<h2>Canonical brain, outline of the template</h2>"
        "<p>The brain shall lie centred in the outline, level, and left on the left. It is not scaled: most "
        "brains are smaller than the template.</p>"
        f"<img alt='canonical brain' src='{_slices(canonical, _template_mask(), _TEMPLATE_OUTLINE)}'>",
    )


def thumbnail(prepared: PreparedScan) -> str:
    """Return the three middle slices of the native scan with the mask's outline, as a PNG data URI."""
    native, mask = to_ras(prepared.native), array_to_ras(prepared.brain_mask, prepared.native)
    return _slices(native, mask, _OUTLINE, slices=1, inches=1.1)


def index_page(title: str, rows: Sequence[IndexRow]) -> str:
    """Return a self-contained HTML page that lists scans: refused first, then warned, then passed."""
    order = list(reversed(_COLOURS))
    ordered = sorted(rows, key=lambda row: (order.index(row.verdict), row.name))
    counts = ", ".join(f"{sum(row.verdict == verdict for row in rows)} {verdict}" for verdict in _COLOURS)
    lines = "".join(
        f"<tr><td>{_mark(row.verdict)}</td><td>{_link(row)}</td><td>{escape(row.reason)}</td>"
        f"<td>{_image(row.thumbnail)}</td></tr>"
        for row in ordered
    )
    head = "<tr><th>verdict</th><th>scan</th><th>why</th><th>brain mask</th></tr>"
    return document(title, f"<h1>{escape(title)}</h1><p>{counts}</p><table>{head}{lines}</table>")


def _mark(verdict: Verdict) -> str:
    return mark(verdict, _COLOURS[verdict])


def _link(row: IndexRow) -> str:
    return f"<a href='{escape(row.link)}'>{escape(row.name)}</a>" if row.link else escape(row.name)


def _image(data: str | None) -> str:
    return f"<img alt='brain mask' src='{escape(data)}'>" if data else ""


def _finding_list(findings: Sequence[Finding]) -> str:
    items = "".join(f"<li>{f.level}: {escape(f.message)} {escape(f.fix)}</li>" for f in findings)
    return f"<ul>{items}</ul>" if items else ""


def _table(prepared: PreparedScan, figures: PreparationFigures) -> str:
    native = prepared.native
    rows = {
        "voxels": f"{' × '.join(map(str, native.shape))}, {native.orientation}",
        "voxel size": " × ".join(f"{zoom:.3g}" for zoom in native.zooms) + " mm",
        "came skull-stripped": "yes" if prepared.skull_stripped else "no",
        "brain": f"{figures.brain_ml:.0f} ml",
        "correlation with the template": f"{figures.template_correlation:.3f}",
        "overlap with the template (Dice)": f"{figures.template_dice:.3f}",
        "rotation": f"{figures.rotation_degrees:.1f}°",
        "shift": f"{figures.shift_mm:.1f} mm",
        "size of the head": f"{figures.size:.3f} of the template's, along each edge",
        "intensity scale": f"{figures.scale:.5g}",
    }
    lines = (f"<tr><td>{label}</td><td>{escape(text)}</td></tr>" for label, text in rows.items())
    return f"<table>{''.join(lines)}</table>"


def _slices(
    volume: Volume, outline: BoolArray, colour: str, slices: int = _SLICES, inches: float = 2.0
) -> str:
    """Return slices through an outline as a PNG data URI: a row a plane, or all in one row if one a plane."""
    rows, columns = (3, slices) if slices > 1 else (1, 3)
    figure = Figure(figsize=(inches * columns, inches * rows), facecolor="black", dpi=100)
    axes = figure.subplots(rows, columns).reshape(3, slices)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    white = 1.15 * float(np.percentile(volume.voxels[outline], 98)) or 1.0
    for (plane, axis), line in zip(PLANES.items(), axes, strict=True):
        for number, position in enumerate(slice_places(outline, axis, slices)):
            _draw(line[number], volume, outline, axis, position, white, colour)
        if slices > 1:
            _name_ends(line[0], *_ENDS[plane])
    return picture_data(figure)


def _draw(
    axes: Axes, volume: Volume, outline: BoolArray, axis: int, position: int, white: float, colour: str
) -> None:
    image: FloatArray = np.take(volume.voxels, position, axis)
    across, up = (zoom for number, zoom in enumerate(volume.zooms) if number != axis)
    axes.imshow(image.T, cmap="gray", vmin=0, vmax=white, origin="lower", aspect=up / across)
    # Padded, so that an outline at the border of the field of view is closed and seen.
    edge: BoolArray = np.pad(np.take(outline, position, axis), 1)
    if edge.any():
        columns, rows = np.arange(edge.shape[0]) - 1, np.arange(edge.shape[1]) - 1
        axes.contour(columns, rows, edge.T, levels=[0.5], colors=colour, linewidths=0.8)
    axes.set_axis_off()


def _name_ends(axes: Axes, left: str, right: str) -> None:
    for place, end in ((0.02, left), (0.92, right)):
        axes.text(place, 0.5, end, color="white", fontsize=8, transform=axes.transAxes)


@cache
def _template_mask() -> BoolArray:
    _, mask = resample_brain(template(), template_brain_mask(), CANONICAL_GRID.shape, CANONICAL_GRID.affine)
    return mask
