"""Thresholds from the figures of sound and faulty harmonizations, and the tables that show what they do."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._shared.heads import SIDES, spread
from benchmarks._shared.reports import Report
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
    "target_distance": (0.06, None),  # whether the contrast was reached, not whether anatomy was kept
}
PERCENTILE, MARGIN = 99, 2
RULE = (
    f"Rule. *warn*: the {PERCENTILE}th percentile of the sound harmonizations that calibrate. *fail*: "
    f"{MARGIN:g} times the worst of them. Distances from the best value (1 of the correlations, else 0), "
    "rounded up to two digits, and never below a floor that was set by hand, because the heads are few: the "
    "rule only loosens it. The distance to the target warns and never fails: it tells whether the contrast "
    "was reached, not whether anatomy was kept."
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
        "sound": {name: spread(distances(name, calibrating), PERCENTILE, 100) for name in limits},
        "false alarms": {title: rates(limits, found) for title, found in groups(sound).items()},
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


def distances(name: str, cases: Iterable[Case]) -> NDArray[np.float64]:
    """Return how far a figure is from its best."""
    values = np.array([case["figures"][name] for case in cases])
    return 1 - values if name in LEAST else np.abs(values)


def rounded_up(value: float) -> float:
    """Return a number with two digits that is not smaller; at least 0.001."""
    value = max(value, 1e-3)
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / step - 1e-9) * step:.2g}")


def groups(sound: Sequence[Case]) -> dict[str, list[Case]]:
    """Return the groups of sound cases that false alarms are counted in."""
    found = {
        f"{'real' if real else 'virtual'}, {side}": [
            case for case in sound if (case["side"], case["real"]) == (side, real)
        ]
        for side, real in product(SIDES, (False, True))
    }
    for case in sound:
        if case["real"]:
            found.setdefault(f"real, {case['source']}", []).append(case)
    for method in dict.fromkeys(case["method"] for case in sound):
        own = (case for case in sound if (case["side"], case["method"]) == (SIDES[1], method))
        found[f"{method}, check"] = list(own)
    return found


def rates(limits: Mapping[str, Limit], cases: Sequence[Case]) -> dict[str, Any]:
    """Return the share of cases with each verdict, and the figures that decided most often."""
    verdicts = [verdict(limits, case) for case in cases]
    counts = Counter(reason for _, reasons in verdicts for reason in reasons)
    shares = {
        name: sum(found == name for found, _ in verdicts) / max(len(cases), 1)
        for name in ("pass", "warn", "fail", "refused")
    }
    return shares | {
        "cases": len(cases),
        "scans": len({(case["head"], case["source"]) for case in cases}),
        "strange source": sum("strange-source" in case["codes"] for case in cases) / max(len(cases), 1),
        "reasons": [name for name, _ in counts.most_common(3)],
    }


def verdict(limits: Mapping[str, Limit], case: Case) -> tuple[str, list[str]]:
    """Return a case's verdict and reasons; a finding warns in faulty cases, as it does for users."""
    if case["refused"]:
        return "refused", ["preparation"]
    figures = case["figures"]
    failed = [name for name, limit in limits.items() if limit.fails(figures[name])]
    doubtful = [name for name, limit in limits.items() if limit.warns(figures[name])]
    doubtful += case["codes"] if case["fault"] else []
    return ("fail", failed) if failed else ("warn", doubtful) if doubtful else ("pass", [])


def report(record: dict[str, Any], command: str) -> Report:
    heads = record["heads"]
    about = f"{heads['virtual']} virtual heads, {heads['real']} real; half calibrate"
    shown = Report("Verdicts: thresholds, false alarms, sensitivity", f"Command: `{command}`", about)
    shown.text(RULE)
    limits = [
        {"name": name, "far": record["sound"][name], "warn": limit[0], "fail": limit[1]}
        for name, limit in record["limits"].items()
    ]
    head = f"figure: {{name}} | sound: median: {{far[0]:.3g}} | {PERCENTILE}th percentile: {{far[1]:.3g}}"
    shown.table(limits, head + " | worst: {far[2]:.3g} | warn: {warn:g} | fail: {fail:g}", "limits")
    shares = "pass: {pass:.0%} | warn: {warn:.0%} | fail: {fail:.0%}"
    shown.text("## Sound harmonizations", "By figures alone; a source strange to the model is counted apart.")
    shown.table(
        named(record["false alarms"]),
        f"cases: {{name}} | scans: {{scans}} | harmonizations: {{cases}} | {shares} | "
        "strange source: {strange source:.0%} | most frequent reasons: {reasons}",
        "false-alarms",
    )
    shown.text("## Planted faults, on the heads, scanners and targets that did not calibrate")
    shown.table(
        named(record["sensitivity"]),
        f"fault: {{name}} | harmonizations: {{cases}} | found: {{found:.0%}} | {shares} | "
        "refused before: {refused:.0%} | most frequent reasons: {reasons}",
        "faults",
    )
    return shown


def named(rows: Mapping[str, Case]) -> list[Case]:
    """Return rows with their names and the share of cases that did not pass."""
    return [
        {**row, "name": name, "found": 1 - row["pass"], "reasons": ", ".join(row["reasons"])}
        for name, row in rows.items()
    ]
