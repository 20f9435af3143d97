"""The table of a robustness run: masks, alignments and gates by kind of variant, and the gates on new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mrharmony.core.volume import MrharmonyError
from mrharmony.prepare.quality import MaskQuality, quality_findings
from scan_variants import KINDS, REFUSED_KINDS, VOXEL_SIZES

Record = dict[str, Any]
GOOD_DICE, GOOD_DEGREES, GOOD_MM = 0.94, 2.0, 2.0
PARTS = ("looked at", "made afterwards")  # variants on which the gates were set, and all others
COLUMNS = (
    *("variants of heads", "n", "Dice median", "5th", "degrees median", "95th", "mm median", "95th"),
    *("passed", "warned", "refused", "silent", "CPU s"),
)


def verdict(record: Record) -> str:
    """Judge the figures of a variant with the gates as they are now."""
    if "quality" not in record:
        return "refused"
    try:
        findings = quality_findings(MaskQuality(**record["quality"]))
    except MrharmonyError:
        return "refused"
    return "warned" if findings or record["findings"] else "passed"


def is_bad(record: Record) -> bool:
    """Tell whether what came out is not to be trusted, or what went in was no T1w head as its header says."""
    if record["kind"] in REFUSED_KINDS:
        return True
    if "dice" not in record:
        return False
    off = record["degrees"] > GOOD_DEGREES or record["mm"] > GOOD_MM
    return bool(record["dice"] < GOOD_DICE or off)


def wants_flag(record: Record) -> bool:
    """Tell whether a user wants to be told: a bad result, or a part of the brain that is not in the scan."""
    return is_bad(record) or record["details"].get("cut") == "brain"


def is_silent(record: Record) -> bool:
    """Tell whether a bad result passes every gate."""
    return is_bad(record) and verdict(record) == "passed"


def summary(records: Sequence[Record]) -> Record:
    """Return all figures of the table."""
    sound = [record for record in records if record["kind"] not in REFUSED_KINDS]
    kinds = {kind: [record for record in records if record["kind"] == kind] for kind in KINDS | VOXEL_SIZES}
    parts = {part: [record for record in records if record["part"] == part] for part in PARTS}
    return {
        "variants": len(records),
        "kinds": {kind: figures(found) for kind, found in kinds.items() if found}
        | {"all but inverted and overturned": figures(sound)},
        "gates": {part: gates(found) for part, found in parts.items()},
        "silent": [_told(record) for record in records if is_silent(record)],
        "refused without need": [
            {**_told(record), "reason": record.get("reason", "gates")}
            for record in records
            if verdict(record) == "refused" and not wants_flag(record)
        ],
    }


def figures(records: Sequence[Record]) -> Record:
    """Return the figures of a row."""
    found = {"n": len(records)}
    for name, worst in (("dice", 5), ("degrees", 95), ("mm", 95)):
        values = [record[name] for record in records if name in record]
        found[name] = [float(np.percentile(values, share)) for share in (50, worst)] if values else None
    verdicts = [verdict(record) for record in records]
    for name in ("passed", "warned", "refused"):
        found[name] = verdicts.count(name)
    found["silent"] = sum(is_silent(record) for record in records)
    found["cpu_seconds"] = float(np.median([record["cpu_seconds"] for record in records]))
    return found


def gates(records: Sequence[Record]) -> Record:
    """Return how many of the wanted flags were raised, and how many unwanted ones."""

    def flagged(choice: Callable[[Record], bool]) -> list[int]:
        chosen = [record for record in records if choice(record)]
        return [sum(verdict(record) != "passed" for record in chosen), len(chosen)]

    return {
        "bad flagged": flagged(is_bad),
        "wanted flagged": flagged(wants_flag),
        "false alarms": flagged(lambda record: not wants_flag(record)),
    }


def markdown(table: Record, about: Sequence[str]) -> str:
    """Return the report."""
    lines = ["# Robustness of preparation", "", *(f"- {line}" for line in about), "", _line(COLUMNS)]
    lines.append("|---|" + "---:|" * (len(COLUMNS) - 1))
    lines += [_line(_cells(kind, row)) for kind, row in table["kinds"].items()]
    lines += ["", "| gates | bad flagged | wanted flagged | false alarms |", "|---|---:|---:|---:|"]
    lines += [
        _line([part, *(f"{some} of {whole}" for some, whole in row.values())])
        for part, row in table["gates"].items()
    ]
    lines += ["", _EXPLANATION, "", f"Silent: {_list(table['silent'])}"]
    lines += ["", f"Refused without need: {_list(table['refused without need'])}", ""]
    return "\n".join(lines)


_EXPLANATION = (
    "Dice: mask of the variant against that of the head as it is, on the head's own grid, where the variant "
    "has voxels. Degrees and mm: alignment of the variant against that of the head as it is, the known motion "
    "taken out; mm at the centre of the brain. Variants refused for their volume count by verdict only. "
    f"Bad: Dice below {GOOD_DICE}, more than {GOOD_DEGREES:.0f}° or {GOOD_MM:.0f} mm, or any inverted or "
    "overturned head. Wanted: bad, or a brain that the field of view cuts. Silent: bad, and no gate warned."
)


def _cells(kind: str, row: Record) -> list[str]:
    cells = [kind, str(row["n"])]
    for name, places in (("dice", 3), ("degrees", 1), ("mm", 1)):
        cells += [f"{value:.{places}f}" for value in row[name]] if row[name] else ["–", "–"]
    cells += [str(row[name]) for name in ("passed", "warned", "refused", "silent")]
    return [*cells, f"{row['cpu_seconds']:.0f}"]


def _told(record: Record) -> Record:
    return {
        key: record[key]
        for key in ("number", "head", "kind", "details", "dice", "degrees", "mm")
        if key in record
    }


def _list(records: Sequence[Record]) -> str:
    if not records:
        return "none."
    return "".join(
        f"\n- {record['head']}, {record['kind']} {record['details']}"
        + (
            f": Dice {record['dice']:.3f}, {record['degrees']:.1f}°, {record['mm']:.1f} mm"
            if "dice" in record
            else ""
        )
        + (f" ({record['reason']})" if "reason" in record else "")
        for record in records
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
