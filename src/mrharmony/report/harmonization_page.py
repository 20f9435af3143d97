"""The page of a harmonized cohort: a table to sort, and what happened to each scan in pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.report.contact_sheet import BRIGHTEST, DIFFERENCE_LIMIT
from mrharmony.report.page import PLANES, document, mark, picture_data, slice_places

_COLOURS = {"pass": "#2e9e4f", "warn": "#d99000", "fail": "#d03030"}
_OTHER_COLOUR = "#666"
_INCHES, _DPI = 1.9, 80
_SORT = """<script>
document.querySelectorAll('table.sortable th').forEach((head, column) => head.onclick = () => {
  const body = head.closest('table').tBodies[0];
  const down = head.dataset.down = head.dataset.down === '1' ? '' : '1';
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => (a - b) || String(a).localeCompare(String(b));
  [...body.rows].sort((a, b) => order(value(a), value(b)) * (down ? 1 : -1)).forEach(row => body.append(row));
});
</script>"""


@dataclass(frozen=True)
class HarmonizedRow:
    """One harmonized scan of the page.

    Parameters
    ----------
    name
        The scan.
    source, target
        Domains; the source is None where it is not known.
    verdict, reasons
        On its drift, and what decided it.
    drift
        Drift figures by name.
    provenance
        Method, model and versions, as label and text.
    picture
        PNG data URI of `comparison`, or None.
    remark
        What the picture lacks and why; empty if nothing.
    links
        Other pages of this scan: label and address relative to the report.
    """

    name: str
    source: str | None
    target: str
    verdict: str
    reasons: tuple[str, ...]
    drift: Mapping[str, float]
    provenance: tuple[tuple[str, str], ...]
    picture: str | None
    remark: str
    links: tuple[tuple[str, str], ...] = ()


def harmonization_page(
    title: str, rows: Sequence[HarmonizedRow], links: Sequence[tuple[str, str]], lost: Sequence[str]
) -> str:
    """Return the self-contained HTML page of a cohort.

    Parameters
    ----------
    title
        Above everything.
    rows
        The scans.
    links
        Other pages of the folder: label and address relative to the report.
    lost
        Files that should describe a scan and could not be read.
    """
    counts = Counter(row.verdict for row in rows)
    verdicts = " ".join(f"{mark(verdict, _colour(verdict))} {count}" for verdict, count in counts.items())
    warning = f"<p>Could not be read: {escape(', '.join(lost))}.</p>" if lost else ""
    return document(
        title,
        f"<h1>{escape(title)}</h1><p>{len(rows)} scan{'s' * (len(rows) > 1)}: {verdicts}</p>{warning}"
        f"{_links(links)}<h2>Scans</h2><p>Click on a heading to sort. Drift is from source to output: 1 is "
        f"perfect for correlations, 0 for everything else.</p>{_table(rows)}"
        f"<h2>Method and model</h2>{_provenance(rows)}<h2>Before and after</h2>"
        "<p>The source as it was scanned, bias field included, at the output's brightness; the output; the "
        f"difference, blue to red for ∓{DIFFERENCE_LIMIT:g}, where 1 is about white matter. Left is left.</p>"
        f"{''.join(_section(number, row) for number, row in enumerate(rows))}{_SORT}",
    )


def comparison(before: FloatArray | None, after: FloatArray, mask: BoolArray, zooms: Sequence[float]) -> str:
    """Return middle slices of source, output and difference on three planes as a PNG data URI.

    Parameters
    ----------
    before, after
        Source and output in canonical units, RAS order, shape (i, j, k); the output is shown alone without
        a source.
    mask
        Voxels whose difference means something; not empty.
    zooms
        Voxel size in mm.
    """
    difference = None if before is None else np.where(mask, after - before, 0)
    images = [(name, v) for name, v in (("source", before), ("output", after)) if v is not None]
    images += [] if difference is None else [("output − source", difference)]
    figure = Figure(figsize=(_INCHES * 3, _INCHES * len(images)), facecolor="black", dpi=_DPI)
    axes = figure.subplots(len(images), 3, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 0.94, 0.02, 0.12)
    for line, (name, voxels) in zip(axes, images, strict=True):
        for panel, axis in zip(line, PLANES.values(), strict=True):
            place = slice_places(mask, axis, 1)[0]
            _draw(panel, np.take(voxels, place, axis), axis, zooms, voxels is difference)
        line[0].set_title(name, color="white", fontsize=8, loc="left", pad=2)
    return picture_data(figure)


def _draw(axes: Axes, image: FloatArray, axis: int, zooms: Sequence[float], is_difference: bool) -> None:
    across, up = (zoom for number, zoom in enumerate(zooms) if number != axis)
    colours = "RdBu_r" if is_difference else "gray"
    low, high = (-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT) if is_difference else (0.0, BRIGHTEST)
    axes.imshow(image.T, cmap=colours, vmin=low, vmax=high, origin="lower", aspect=up / across)
    axes.set_axis_off()


def _colour(verdict: str) -> str:
    return _COLOURS.get(verdict, _OTHER_COLOUR)


def _links(links: Sequence[tuple[str, str]]) -> str:
    items = ", ".join(f"<a href='{escape(address)}'>{escape(label)}</a>" for label, address in links)
    return f"<p>See also: {items}</p>" if items else ""


def _table(rows: Sequence[HarmonizedRow]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row.drift))
    heads = ["scan", "source", "target", "verdict", *(name.replace("_", " ") for name in columns), "why"]
    lines = "".join(_line(number, row, columns) for number, row in enumerate(rows))
    head = "".join(f"<th style='cursor:pointer'>{escape(name)}</th>" for name in heads)
    return f"<table class='sortable'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _line(number: int, row: HarmonizedRow, columns: Sequence[str]) -> str:
    figures = "".join(
        f"<td data-value='{row.drift[name]!r}'>{row.drift[name]:.4f}</td>"
        if name in row.drift
        else "<td>–</td>"
        for name in columns
    )
    why = escape(", ".join(row.reasons).replace("_", " "))
    return (
        f"<tr><td><a href='#scan-{number}'>{escape(row.name)}</a></td>"
        f"<td>{escape(row.source or 'unknown')}</td><td>{escape(row.target)}</td>"
        f"<td>{mark(row.verdict, _colour(row.verdict))}</td>{figures}<td>{why}</td></tr>"
    )


def _provenance(rows: Sequence[HarmonizedRow]) -> str:
    tables = []
    for provenance, count in Counter(row.provenance for row in rows).items():
        lines = "".join(f"<tr><td>{escape(k)}</td><td>{escape(text)}</td></tr>" for k, text in provenance)
        tables.append(f"<p>{count} scan{'s' * (count > 1)}</p><table>{lines}</table>")
    return "".join(tables)


def _section(number: int, row: HarmonizedRow) -> str:
    picture = f"<img alt='source, output and difference' src='{row.picture}'>" if row.picture else ""
    remark = f"<p>{escape(row.remark)}</p>" if row.remark else ""
    return (
        f"<h3 id='scan-{number}'>{escape(row.name)} {mark(row.verdict, _colour(row.verdict))}</h3>"
        f"<p>{escape(row.source or 'unknown')} → {escape(row.target)}</p>{_links(row.links)}{remark}{picture}"
    )
