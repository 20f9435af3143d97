"""The table of `benchmarks.robustness.preparation`: masks, alignments and gates by kind of variant."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks._shared.heads import spread
from benchmarks._shared.reports import Report
from benchmarks.robustness.scan_variants import KINDS, REFUSED_KINDS, VOXEL_SIZES
from mrharmony.core.findings import MrharmonyError
from mrharmony.preparation.quality import MaskQuality, quality_findings

Record = dict[str, Any]
GOOD_DICE, GOOD_DEGREES, GOOD_MM = 0.94, 2.0, 2.0
PARTS = ("looked at", "made afterwards")  # variants on which the gates were set, and all others
VERDICTS = ("passed", "warned", "refused")
EXPLANATION = (
    "Dice: mask of the variant against that of the head as it is, on the head's own grid, where the variant "
    "has voxels. Degrees and mm: alignment of the variant against that of the head as it is, the known "
    "motion taken out; mm at the centre of the brain. Variants refused for their volume count by verdict "
    f"only. Bad: Dice below {GOOD_DICE}, more than {GOOD_DEGREES:.0f}° or {GOOD_MM:.0f} mm, or any inverted "
    "or overturned head. Wanted: bad, or a brain that the field of view cuts. Silent: bad, and no gate "
    "warned."
)


def verdict(record: Record) -> str:
    """Return what the gates, as they are now, say of the figures of a variant."""
    if "quality" not in record:
        return "refused"
    try:
        findings = quality_findings(MaskQuality(**record["quality"]))
    except MrharmonyError:
        return "refused"
    return "warned" if findings or record["findings"] else "passed"


def is_bad(record: Record) -> bool:
    """Return whether the result is not to be trusted, or the input was no T1w head as its header says."""
    if record["kind"] in REFUSED_KINDS:
        return True
    if "dice" not in record:
        return False
    off = record["degrees"] > GOOD_DEGREES or record["mm"] > GOOD_MM
    return bool(record["dice"] < GOOD_DICE or off)


def wants_flag(record: Record) -> bool:
    """Return whether a user needs a warning: a bad result, or a part of the brain outside the scan."""
    return is_bad(record) or record["details"].get("cut") == "brain"


def summary(records: Sequence[Record]) -> Record:
    """Return all figures of the table."""
    kinds = {kind: [record for record in records if record["kind"] == kind] for kind in KINDS | VOXEL_SIZES}
    sound = [record for record in records if record["kind"] not in REFUSED_KINDS]
    kinds["all but inverted and overturned"] = sound
    parts = {part: [record for record in records if record["part"] == part] for part in PARTS}
    silent = [record for record in records if is_bad(record) and verdict(record) == "passed"]
    needless = [record for record in records if verdict(record) == "refused" and not wants_flag(record)]
    return {
        "kinds": {kind: figures(found) for kind, found in kinds.items() if found},
        "gates": {part: gates(found) for part, found in parts.items()},
        "silent": [told(record) for record in silent],
        "refused without need": [told(record) for record in needless],
    }


def figures(records: Sequence[Record]) -> Record:
    """Return the figures of a row."""
    found: Record = {"n": len(records)}
    for name, worst in (("dice", 5), ("degrees", 95), ("mm", 95)):
        values = [record[name] for record in records if name in record]
        found[name] = spread(values, worst) if values else [None, None]
    verdicts = [verdict(record) for record in records]
    found |= {name: verdicts.count(name) for name in VERDICTS}
    bad = map(is_bad, records)
    found["silent"] = sum(one and said == "passed" for one, said in zip(bad, verdicts, strict=True))
    return found | {"cpu_seconds": float(np.median([record["cpu_seconds"] for record in records]))}


def gates(records: Sequence[Record]) -> dict[str, list[int]]:
    """Return how many of the wanted flags were raised, and how many unwanted ones."""

    def flagged(choice: Callable[[Record], bool]) -> list[int]:
        chosen = [record for record in records if choice(record)]
        return [sum(verdict(record) != "passed" for record in chosen), len(chosen)]

    alarms = flagged(lambda record: not wants_flag(record))
    return {"bad flagged": flagged(is_bad), "wanted flagged": flagged(wants_flag), "false alarms": alarms}


def told(record: Record) -> str:
    """Return a line on a variant for the report."""
    line = f"{record['head']}, {record['kind']} {record['details']}"
    if "dice" in record:
        line += f": Dice {record['dice']:.3f}, {record['degrees']:.1f}°, {record['mm']:.1f} mm"
    return line + (f" ({record['reason']})" if "reason" in record else "")


def report(record: Record, command: str, about: str) -> Report:
    memory = f"Memory of the process: at most {record['gib']} GiB"
    shown = Report("Robustness of preparation", f"Command: `{command}`", about, memory)
    errors = " | ".join(
        f"{name} median: {{{key}[0]:{form}}} | {name} {worst}: {{{key}[1]:{form}}}"
        for name, key, form, worst in (
            ("Dice", "dice", ".3f", "5th"),
            ("degrees", "degrees", ".1f", "95th"),
            ("mm", "mm", ".1f", "95th"),
        )
    )
    counts = " | ".join(f"{name}: {{{name}}}" for name in (*VERDICTS, "silent"))
    rows = ({"kind": kind, **row} for kind, row in record["kinds"].items())
    columns = f"variants of heads: {{kind}} | n: {{n}} | {errors} | {counts} | CPU s: {{cpu_seconds:.0f}}"
    shown.table(rows, columns, "kinds")
    rows = ({"part": part, **row} for part, row in record["gates"].items())
    names = ("bad flagged", "wanted flagged", "false alarms")
    shares = " | ".join(f"{name}: {{{name}[0]}} of {{{name}[1]}}" for name in names)
    shown.table(rows, f"gates: {{part}} | {shares}", "gates")
    shown.text(EXPLANATION)
    for title, key in (("Silent", "silent"), ("Refused without need", "refused without need")):
        shown.text(f"{title}:" + ("".join(f"\n- {line}" for line in record[key]) or " none."))
    return shown
