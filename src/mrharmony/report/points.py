"""Charts of points as numbers that templates draw: a lane for each site, or a map; a point for each scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from mrharmony.core.volume import Matrix
from mrharmony.evidence.verdict import Limit

WIDTH = 310  # of a chart's plane, SVG units
STYLES = 8  # shapes and colours of sites, repeated beyond
LANE = 26
_EDGE = 8  # free on both sides
_ROBUST = 3.5  # robust standard deviations from the median of the site: Iglewicz and Hoaglin (1993)
_FEWEST = 6  # scans of a site that have a spread
_LEAST = 0.1  # of the way from perfect to the warning: less is not apart, however alike the others are
_NO_LIMIT = 0.01  # the same, canonical units, for figures without a limit


@dataclass(frozen=True)
class Point:
    """A scan in a chart: its place, the numbers of its row and its site's style; a `label` if it is odd."""

    x: float
    y: float
    row: int
    style: int
    label: str = ""


@dataclass(frozen=True)
class PointChart:
    """Points in one plane; lanes, ticks and limits are places in SVG units and their texts."""

    title: str
    meaning: str
    height: float
    ticks: tuple[tuple[float, str], ...]
    lanes: tuple[tuple[float, str], ...]
    limits: tuple[tuple[float, str], ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Dot:
    """What a chart needs to know of a scan."""

    row: int
    name: str
    site: str
    value: float


def style_of(site: str, sites: Sequence[str]) -> int:
    """Return the number of a site's shape and colour."""
    return list(sites).index(site) % STYLES


def odd_rows(dots: Sequence[Dot], limit: Limit | None) -> dict[int, str]:
    """Return the rows whose figure passes its limit or lies apart from the scans of its site, and why."""
    odd = {}
    least = _LEAST * abs((1.0 if limit.least else 0.0) - limit.warn) if limit else _NO_LIMIT
    for site in {dot.site for dot in dots}:
        own = [dot for dot in dots if dot.site == site]
        values = np.array([dot.value for dot in own])
        middle = np.median(values)
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        for dot in own:
            if limit and limit.warns(dot.value):
                odd[dot.row] = "fails" if limit.fails(dot.value) else "warns"
            elif len(own) >= _FEWEST and abs(dot.value - middle) > max(_ROBUST * spread, least):
                odd[dot.row] = f"apart from the other scans of {site}"
    return odd


def strip(
    title: str, meaning: str, dots: Sequence[Dot], sites: Sequence[str], limit: Limit | None
) -> PointChart:
    """Return a figure of all scans, a lane for each site; odd scans have a label."""
    odd = odd_rows(dots, limit)
    edges = [edge for edge in (limit.warn, limit.fail) if edge is not None] if limit else []
    values = [dot.value for dot in dots]
    low, high = min([*values, 1.0 if limit and limit.least else 0.0]), max([*values, *edges])
    signed = [edge * sign for edge in edges for sign in (1, -1) if low <= edge * sign <= high]
    reach = (high - low) or 1.0

    def x(value: float) -> float:
        return _EDGE + (WIDTH - 2 * _EDGE) * (value - low) / reach

    points = [
        Point(
            round(x(dot.value), 1),
            round(LANE * (list(sites).index(dot.site) + 0.5 + 0.6 * _shaken(dot.row)), 1),
            dot.row,
            style_of(dot.site, sites),
            f"{dot.name}: {dot.value:.3f}, {odd[dot.row]}" if dot.row in odd else "",
        )
        for dot in dots
    ]
    names = {abs(edge): name for edge, name in zip(edges, ("warns", "fails"), strict=False)}
    return PointChart(
        title,
        meaning,
        LANE * len(sites),
        tuple((x(tick), f"{tick:g}") for tick in _ticks(low, high)),
        tuple((LANE * (number + 0.5), site) for number, site in enumerate(sites)),
        tuple((x(edge), names[abs(edge)]) for edge in signed),
        tuple(sorted(points, key=lambda point: bool(point.label))),
    )


def embedding(
    title: str, places: Matrix, everywhere: Matrix, scans: Sequence[tuple[int, str]], sites: Sequence[str]
) -> PointChart:
    """Return a map of scans, given with rows and sites; `everywhere` are the places of all maps."""
    low, reach = everywhere.min(axis=0), np.maximum(np.ptp(everywhere, axis=0), 1e-9)
    shares = (places - low) / reach
    points = tuple(
        Point(
            round(_EDGE + (WIDTH - 2 * _EDGE) * float(x), 1),
            round(_EDGE + (WIDTH - 2 * _EDGE) * float(1 - y), 1),
            row,
            style_of(site, sites),
        )
        for (x, y), (row, site) in zip(shares, scans, strict=True)
    )
    return PointChart(title, "a symbol for each scan; the axes have no unit", WIDTH, (), (), (), points)


def site_styles(sites: Sequence[str]) -> list[tuple[str, int]]:
    """Return the sites with their shapes and colours."""
    return [(site, style_of(site, sites)) for site in sites]


def _shaken(row: int) -> float:
    """Return a number from -0.5 to 0.5 that parts scans of equal value: the golden ratio's multiples."""
    return (row * 0.6180339887) % 1 - 0.5


def _ticks(low: float, high: float) -> list[float]:
    ticks = MaxNLocator(4).tick_values(low, high)
    return [float(round(tick, 6)) + 0 for tick in ticks if low <= tick <= high]
