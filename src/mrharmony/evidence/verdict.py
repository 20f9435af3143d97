"""Verdicts on drift figures: thresholds that sound harmonizations keep and planted faults break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Verdict = Literal["pass", "warn", "fail"]


class Limit(NamedTuple):
    """Where a figure brings a warning, and where it refuses the scan.

    Parameters
    ----------
    warn, fail
        Thresholds; `fail` is None where the figure alone refuses no scan.
    least
        Whether the figure must not fall below them; else its size must not rise above them.
    """

    warn: float
    fail: float | None
    least: bool = False

    def warns(self, figure: float) -> bool:
        """Whether the figure brings a warning; NaN does."""
        return not self._keeps(figure, self.warn)

    def fails(self, figure: float) -> bool:
        """Whether the figure refuses the scan; NaN does."""
        return self.fail is not None and not self._keeps(figure, self.fail)

    def fault(self, name: str, figure: float) -> str:
        """Return what is wrong with a figure that has failed, for a sentence."""
        return f"{name} is {figure:.3g}, {'below' if self.least else 'beyond'} {self.fail:g}"

    def _keeps(self, figure: float, threshold: float) -> bool:
        return figure >= threshold if self.least else abs(figure) <= threshold


# From benchmarks.calibration.verdicts; benchmarks/results/calibration/verdicts.md has the rule, and how
# often the thresholds find planted faults and fail sound harmonizations. Floors that were set by hand decide
# most of them (docs/concepts/evidence.md).
LIMITS = {
    "edge_correlation": Limit(0.85, 0.68, least=True),
    "rank_correlation": Limit(0.95, 0.9, least=True),
    "new_edge_share": Limit(0.03, 0.06),
    "clipped_share": Limit(0.005, 0.02),
    "csf_drift": Limit(0.05, 0.15),
    "grey_drift": Limit(0.051, 0.15),
    "white_drift": Limit(0.064, 0.16),
    "new_structure": Limit(0.06, 0.11),
    "lost_structure": Limit(0.06, 0.11),
    "target_distance": Limit(0.06, None),
}


def judge(figures: Mapping[str, float]) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on drift figures by `LIMITS`, and the figures at fault; others do not count."""
    known = {name: limit for name, limit in LIMITS.items() if name in figures}
    failed = tuple(name for name, limit in known.items() if limit.fails(figures[name]))
    if failed:
        return "fail", failed
    doubtful = tuple(name for name, limit in known.items() if limit.warns(figures[name]))
    return ("warn", doubtful) if doubtful else ("pass", ())
