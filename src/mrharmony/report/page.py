"""What all pages are made of: a document that needs no other file, coloured marks, pictures, slices."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrharmony.core.volume import BoolArray

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # and the RAS axis that each of them is a slice of

_MARGIN = 0.06  # share of the brain's extent left out at both ends
_STYLE = """body{background:#111;color:#ddd;font:15px/1.45 system-ui,sans-serif;margin:1.5em auto;
max-width:1250px}
a{color:#8cf} img{max-width:100%} table{border-collapse:collapse} td,th{padding:.25em .9em .25em 0;
text-align:left;vertical-align:top} .mark{color:#fff;padding:.1em .6em;border-radius:.6em}"""


def document(title: str, body: str) -> str:
    """Return an HTML page that needs no other file; the body is HTML, the title plain text."""
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>{body}"
        "<p>Research use only; not for diagnosis.</p></body></html>\n"
    )


def mark(text: str, colour: str) -> str:
    """Return a word on a coloured ground, as HTML."""
    return f"<span class='mark' style='background:{colour}'>{escape(text)}</span>"


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
