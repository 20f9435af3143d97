"""The page of a harmonized cohort: a table to sort, and what happened to each scan in pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.report.contact_sheet import DIFFERENCE_LIMIT, intensity_style
from mrharmony.report.page import PLANES, draw_slice, picture_data, render, slice_places

_INCHES, _DPI = 1.9, 80
_DIFFERENCE = "output − source"


@dataclass(frozen=True)
class HarmonizedRow:
    """One harmonized scan of the page."""

    name: str
    source: str | None  # None where it is not known
    target: str
    verdict: str  # on its drift
    reasons: tuple[str, ...]  # what decided the verdict
    drift: Mapping[str, float]  # figures by name
    provenance: tuple[tuple[str, str], ...]  # method, model and versions, as label and text
    picture: str | None  # PNG data URI of `comparison`
    remark: str  # what the picture lacks and why; empty if nothing
    links: tuple[tuple[str, str], ...] = ()  # other pages: label, and address relative to the report


def harmonization_page(
    title: str, rows: Sequence[HarmonizedRow], links: Sequence[tuple[str, str]], lost: Sequence[str]
) -> str:
    """Return the self-contained HTML page of a cohort.

    `links` are other pages of the folder, label and address relative to the report; `lost` are files that
    should describe a scan and could not be read.
    """
    return render(
        "harmonization",
        title=title,
        rows=rows,
        links=links,
        lost=lost,
        verdicts=Counter(row.verdict for row in rows),
        drift_names=list(dict.fromkeys(name for row in rows for name in row.drift)),
        provenances=Counter(row.provenance for row in rows),
        difference_limit=DIFFERENCE_LIMIT,
    )


def comparison(before: FloatArray | None, after: FloatArray, mask: BoolArray, zooms: Sequence[float]) -> str:
    """Return middle slices of source, output and difference on three planes as a PNG data URI.

    Parameters
    ----------
    before, after
        Source, if any, and output, in canonical units, RAS order, shape (i, j, k).
    mask
        Voxels whose difference is shown; not empty.
    zooms
        Voxel size in mm.
    """
    images = {"output": after}
    if before is not None:
        images = {"source": before, **images, _DIFFERENCE: np.where(mask, after - before, 0)}
    figure = Figure(figsize=(_INCHES * 3, _INCHES * len(images)), facecolor="black", dpi=_DPI)
    axes = figure.subplots(len(images), 3, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 0.94, 0.02, 0.12)
    for line, (name, voxels) in zip(axes, images.items(), strict=True):
        style = intensity_style(is_difference=name == _DIFFERENCE)
        for panel, axis in zip(line, PLANES.values(), strict=True):
            draw_slice(panel, voxels, zooms, axis, slice_places(mask, axis, 1)[0], style)
        line[0].set_title(name, color="white", fontsize=8, loc="left", pad=2)
    return picture_data(figure)
