"""What all pages are made of: HTML from templates, pictures inside it, and slices of volumes.

A page needs no other file. Templates escape all that is put into them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrharmony.core.volume import BoolArray, FloatArray

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # and the RAS axis that each of them is a slice of

_MARGIN = 0.06  # share of the brain's extent left out at both ends


def render(template: str, **content: object) -> str:
    """Return a page made from a file of the `templates` folder; `content` are the template's variables."""
    return _environment().get_template(f"{template}.html.j2").render(content)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mrharmony.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def picture_data(figure: Figure) -> str:
    """Return a figure as a PNG data URI."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def slice_places(mask: BoolArray, axis: int, count: int) -> list[int]:
    """Return slice numbers spread over the extent of a mask along an axis; the middle if it is one."""
    others = tuple({0, 1, 2} - {axis})
    filled = np.flatnonzero(mask.any(axis=others))
    first, last = float(filled[0]), float(filled[-1])
    shares = np.linspace(_MARGIN, 1 - _MARGIN, count) if count > 1 else [0.5]
    return [round(first + share * (last - first)) for share in shares]


def draw_slice(
    axes: Axes, voxels: FloatArray, zooms: Sequence[float], axis: int, place: int, style: dict[str, Any]
) -> None:
    """Draw a slice of a volume in RAS order, its voxels in their true proportions (`zooms` in mm).

    `axis` is the one that the slice cuts, `place` its number along it; `style` are arguments of `imshow`.
    """
    across, up = (zoom for number, zoom in enumerate(zooms) if number != axis)
    axes.imshow(np.take(voxels, place, axis).T, origin="lower", aspect=up / across, **style)
    axes.set_axis_off()
