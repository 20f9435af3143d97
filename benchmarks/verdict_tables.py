"""Thresholds from the figures of sound and faulty harmonizations, and the tables that show what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from development_heads import SIDES
from mrharmony.evidence.verdict import Limit

Case = dict[str, Any]
LEAST = ("edge_correlation", "rank_correlation")  # 1 at their best; all others are 0 at their best
# Distances from the best below which no figure warns, or fails. By hand: the heads that calibrate are few.
FLOORS: dict[str, tuple[float, float | None]] = {
    "edge_correlation": (0.15, 0.3),
    "rank_correlation": (0.05, 0.1),
    "new_edge_share": (0.03, 0.06),
    "clipped_share": (0.005, 0.02),
    "csf_drift": (0.05, 0.15),
    "grey_drift": (0.05, 0.15),
    "white_drift": (0.05, 0.15),
    "new_structure": (0.06, 0.1),
    "lost_structure": (0.06, 0.1),
    "target_distance": (0.06, None),  # whether the look was reached, not whether anatomy was kept
}
PERCENTILE, MARGIN = 99, 2
RULE = (
    f"Rule. *warn*: the {PERCENTILE}th percentile of the sound harmonizations that calibrate. *fail*: "
    f"{MARGIN:g} times the worst of them. Distances from the best value (1 of the correlations, else 0), "
    "rounded up to two digits, and never below a floor that was set by hand, because the heads are few: the "
    "rule only loosens it. The distance to the target warns and never fails: it tells whether the look was "
    "reached, not whether anatomy was kept."
)


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """Return thresholds, false alarms and sensitivity."""
    sound = [case for case in cases if not case["fault"]]
    calibrating = [case for case in sound if case["side"] == SIDES[0]]
    limits = {name: limit_of(name, calibrating) for name in FLOORS}
    checked = [case for case in cases if case["side"] == SIDES[1]]
    faults = dict.fromkeys(case["fault"] for case in cases if case["fault"])
    return {
        "heads": {
            kind: len({case["head"] for case in cases if case["real"] == (kind == "real")})
            for kind in ("virtual", "real")
        },
        "limits": {name: list(limit) for name, limit in limits.items()},
        "sound": {name: spread(name, calibrating) for name in limits},
        "false alarms": {
            title: rates(limits, [case for case in sound if belongs(case)])
            for title, belongs in groups(sound).items()
        },
        "sensitivity": {
            fault: rates(limits, [case for case in checked if case["fault"] == fault]) for fault in faults
        },
    }


def limit_of(name: str, sound: Sequence[Case]) -> Limit:
    """Return a figure's thresholds by the rule."""
    far, (least_warn, least_fail) = distances(name, sound), FLOORS[name]
    warn = max(least_warn, rounded_up(float(np.percentile(far, PERCENTILE))))
    fail = None if least_fail is None else max(least_fail, rounded_up(MARGIN * float(far.max())))
    if name in LEAST:
        return Limit(round(1 - warn, 4), None if fail is None else round(1 - fail, 4), least=True)
    return Limit(warn, fail)


def distances(name: str, cases: Iterable[Case]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return how far a figure is from its best."""
    values = np.array([case["figures"][name] for case in cases])
    return 1 - values if name in LEAST else np.abs(values)


def rounded_up(value: float) -> float:
    """Return a number with two digits that is not smaller; at least 0.001."""
    value = max(value, 1e-3)
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / step - 1e-9) * step:.2g}")


def spread(name: str, cases: Sequence[Case]) -> list[float]:
    """Return a figure's median, percentile of the rule and worst value, as distances from its best."""
    far = distances(name, cases)
    return [float(np.median(far)), float(np.percentile(far, PERCENTILE)), float(far.max())]


def groups(sound: Sequence[Case]) -> dict[str, Callable[[Case], bool]]:
    """Return the groups of sound cases that false alarms are counted in."""
    found: dict[str, Callable[[Case], bool]] = {}
    for side in SIDES:
        for real in (False, True):
            title = f"{'real' if real else 'virtual'}, {side}"
            found[title] = lambda case, side=side, real=real: (case["side"], case["real"]) == (side, real)
    for site in dict.fromkeys(case["source"] for case in sound if case["real"]):
        found[f"real, {site}"] = lambda case, site=site: case["real"] and case["source"] == site
    for method in dict.fromkeys(case["method"] for case in sound):
        found[f"{method}, check"] = lambda case, method=method: (
            case["side"] == SIDES[1] and case["method"] == method
        )
    return found


def rates(limits: Mapping[str, Limit], cases: Sequence[Case]) -> dict[str, Any]:
    """Return the share of cases with each verdict, and the figures that decided most often."""
    verdicts = [verdict(limits, case) for case in cases]
    counts = Counter(reason for _, reasons in verdicts for reason in reasons)
    return {
        "cases": len(cases),
        "scans": len({(case["head"], case["source"]) for case in cases}),
        **{
            name: sum(found == name for found, _ in verdicts) / max(len(cases), 1)
            for name in ("pass", "warn", "fail", "refused")
        },
        "strange source": sum("strange-source" in case["codes"] for case in cases) / max(len(cases), 1),
        "reasons": [name for name, _ in counts.most_common(3)],
    }


def verdict(limits: Mapping[str, Limit], case: Case) -> tuple[str, list[str]]:
    """Return a case's verdict and reasons; a finding warns in faulty cases, as it does for users."""
    if case["refused"]:
        return "refused", ["preparation"]
    figures = case["figures"]
    failed = [name for name, limit in limits.items() if limit.is_failed(figures[name])]
    passed = [name for name, limit in limits.items() if limit.is_passed(figures[name])]
    passed += case["codes"] if case["fault"] else []
    return ("fail", failed) if failed else ("warn", passed) if passed else ("pass", [])


def markdown(table: dict[str, Any]) -> str:
    """Return the report."""
    lines = [
        "# Verdicts: thresholds, false alarms, sensitivity",
        "",
        "- Command: `python benchmarks/verdicts.py BIDS_DIR WORK --domain HH --heads "
        + f"{table['heads']['virtual']} --output FOLDER`",
        f"- {table['heads']['virtual']} virtual heads, {table['heads']['real']} real; half calibrate",
        "- Figures of every case: [verdicts.json](verdicts.json)",
        "",
        RULE,
        "",
        "| figure | sound: median | 99th percentile | worst | warn | fail |",
        "|---|---:|---:|---:|---:|---:|",
        *(_limit_row(name, limit, table["sound"][name]) for name, limit in table["limits"].items()),
        "",
        "## Sound harmonizations",
        "",
        "By figures alone; that the source is strange to the model is told apart.",
        "",
        "| | scans | harmonizations | pass | warn | fail | strange source | most frequent reasons |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        *(_rate_row(title, row, True) for title, row in table["false alarms"].items()),
        "",
        "## Planted faults, on the heads, scanners and targets that did not calibrate",
        "",
        "| fault | harmonizations | found | pass | warn | fail | refused before | most frequent reasons |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        *(_rate_row(title, row, False) for title, row in table["sensitivity"].items()),
    ]
    return "\n".join(lines) + "\n"


def _limit_row(name: str, limit: Sequence[Any], sound: Sequence[float]) -> str:
    cells = [f"{value:.3g}" for value in sound] + [f"{limit[0]:g}"]
    return f"| {name} | {' | '.join(cells)} | {'–' if limit[1] is None else format(limit[1], 'g')} |"


def _rate_row(title: str, row: dict[str, Any], is_sound: bool) -> str:
    shares = [f"{row[name]:.0%}" for name in ("pass", "warn", "fail")]
    if is_sound:
        cells = [str(row["scans"]), str(row["cases"]), *shares, f"{row['strange source']:.0%}"]
    else:
        cells = [str(row["cases"]), f"{1 - row['pass']:.0%}", *shares, f"{row['refused']:.0%}"]
    return f"| {title} | {' | '.join(cells)} | {', '.join(row['reasons'])} |"
