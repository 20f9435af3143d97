"""Charts of a page as numbers that templates draw: lines in SVG, and figures on a scale with their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mrharmony.evidence.verdict import Limit

WIDTH, HEIGHT = 420, 240  # of a chart's plane, SVG units
_BEYOND = 1.25  # a scale ends at so many times its last limit

State = Literal["within", "warns", "fails", "below usual"]


@dataclass(frozen=True)
class Line:
    """One curve: `style` is its class in the style sheet, `points` are as SVG takes them."""

    label: str
    style: str
    points: str
    filled: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves in one plane; ticks are places in SVG units and their texts."""

    title: str
    across: str
    up: str
    across_ticks: tuple[tuple[float, str], ...]
    up_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Plane:
    """From values to SVG units; both ranges are (least, greatest)."""

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, values: ArrayLike) -> np.ndarray:
        """Return places across."""
        least, greatest = self.across
        return np.clip((np.asarray(values, float) - least) / (greatest - least), 0, 1) * WIDTH

    def y(self, values: ArrayLike) -> np.ndarray:
        """Return places from the top."""
        least, greatest = self.up
        return HEIGHT * (1 - np.clip((np.asarray(values, float) - least) / (greatest - least), 0, 1))

    def line(
        self, label: str, style: str, xs: ArrayLike, ys: ArrayLike, floor: ArrayLike | None = None
    ) -> Line:
        """Return the curve through points; with a `floor`, of the same length, the band above that."""
        ends = zip(self.x(xs), self.y(ys), strict=True)
        points = [f"{x:.1f},{y:.1f}" for x, y in ends]
        if floor is not None:
            below = zip(self.x(xs)[::-1], self.y(floor)[::-1], strict=True)
            points += [f"{x:.1f},{y:.1f}" for x, y in below]
        return Line(label, style, " ".join(points), filled=floor is not None)

    def chart(
        self,
        title: str,
        names: tuple[str, str],
        ticks: tuple[Sequence[float], Sequence[float]],
        lines: Sequence[Line],
    ) -> Chart:
        """Return a chart; names and ticks are of the axes across and up."""
        across, up = ticks
        return Chart(
            title,
            *names,
            tuple((float(self.x(tick)), f"{tick:g}") for tick in across),
            tuple((float(self.y(tick)), f"{tick:g}") for tick in up),
            tuple(lines),
        )


@dataclass(frozen=True)
class Gauge:
    """A figure on a scale from best, on the left, to worst; places are per cent of the scale's length.

    Parameters
    ----------
    name, meaning
        What the figure is, in plain words.
    value
        As text.
    limits
        As text: where it warns and fails.
    place, warn, fail
        Of the figure and its limits; `fail` is None where the figure alone refuses no scan.
    state
        What the figure does.
    """

    name: str
    meaning: str
    value: str
    limits: str
    place: float
    warn: float
    fail: float | None
    state: State


def gauge(name: str, meaning: str, figure: float, limit: Limit) -> Gauge:
    """Return a figure of drift on the scale of its limits."""
    best, size = (1.0, 1 - figure) if limit.least else (0.0, abs(figure))
    warn, fail = abs(best - limit.warn), None if limit.fail is None else abs(best - limit.fail)
    end = _BEYOND * (fail or 1.6 * warn)
    side = "below" if limit.least else "beyond"
    limits = f"warns {side} {limit.warn:g}" + (f", fails {side} {limit.fail:g}" if limit.fail else "")
    state: State = "fails" if limit.fails(figure) else "warns" if limit.warns(figure) else "within"
    place = min(100.0, 100 * max(0.0, size) / end) if np.isfinite(figure) else 100.0
    return Gauge(
        name,
        meaning,
        f"{round(figure, 3) + 0:.3f}",  # no minus before 0
        limits,
        place,
        100 * warn / end,
        None if fail is None else 100 * fail / end,
        state,
    )
