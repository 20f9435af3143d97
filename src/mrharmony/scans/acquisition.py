"""How a scan was made, as its sidecar and its file name tell it: its weighting, agent, earlier processing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import Finding, MrharmonyError, finding_record, warning
from mrharmony.core.pointers import FETCH, content_missing
from mrharmony.scans.names import scan_stem, sidecar_path
from mrharmony.scans.sidecar import read_harmonized

NOT_PLAIN_T1W = frozenset({"not-t1w", "contrast-agent"})  # codes of findings that lower a verdict
REMARKS = "ConversionFindings"  # key of a converted scan's sidecar: what was noticed of its DICOM files

NAMED_T1 = re.compile(r"t1(?!rho|.?map)|mp.?rage|mp2rage|spgr|bravo|tfl|3d.?tfe|fspgr", re.IGNORECASE)
_WITHOUT_AGENT = re.compile(
    r"\b(pre|non?|w\s?/?\s?o|without|before|sans|ohne|sin)[\s-]?(iv[\s-]?)?"
    r"(contrast|contraste|kontrast(mittel)?|km|gad\w*|gd|agent|\+?c)\b|\bun-?enhanced\b",
    re.IGNORECASE,
)
_WITH_AGENT = re.compile(r"\bpost\b|contrast|\bgad|\bgd\b|\+c\b", re.IGNORECASE)
_NO_AGENT = frozenset({"", "no", "none", "n/a", "na", "0", "without"})  # what is entered where none was given
_NAMED_WEIGHTINGS = {
    "FLAIR": re.compile(r"flair|dark.?fluid", re.IGNORECASE),
    "T2-weighted": re.compile(r"\bt2", re.IGNORECASE),
    "proton-density-weighted": re.compile(r"\bpdw?\b|proton.?dens", re.IGNORECASE),
}
_SUFFIXES = {  # of BIDS, for images that could be taken for a T1w scan
    "T2w": "T2-weighted",
    "T2starw": "T2*-weighted",
    "PDw": "proton-density-weighted",
    "PDT2": "proton-density- and T2-weighted",
    "FLAIR": "FLAIR",
    "T1map": "a T1 map",
    "T2map": "a T2 map",
}
_LONG_ECHO, _SHORT_ECHO = 0.060, 0.040  # s, of a spin echo: T2-weighted above, not below
_LONG_REPETITION = 1.8  # s; a spin echo without inversion has no T1 weighting beyond
_LONG_INVERSION = 1.5  # s; beyond it the inversion suppresses fluid
_MOST_SECONDS = {"EchoTime": 1.0, "RepetitionTime": 30.0, "InversionTime": 10.0}  # more is milliseconds


_Line = Annotated[str, Field(max_length=300, pattern=r"^[^\n\r]*$")]


class _Remark(BaseModel, frozen=True):
    level: Literal["info", "warning"]
    code: _Line
    message: _Line
    fix: _Line


def acquisition_findings(path: Path) -> Iterator[Finding]:
    """Say what a scan's file name and the JSON beside it tell of how it was made."""
    stem = scan_stem(path)
    sidecar = read_json(sidecar_path(path)) or {}
    if content_missing(sidecar_path(path)):
        unknown = "so that weighting and contrast agent are not known from it"
        name = sidecar_path(path).name
        yield warning("sidecar-missing", f"The content of {name} is not here, {unknown}.", FETCH)
    said = _SUFFIXES.get(stem.split("_")[-1]) or weighting(sidecar)
    if said:
        yield _not_t1w(said)
    agent = any(part.startswith("ce-") for part in stem.split("_")) or contrast_agent(sidecar)
    remarks = tuple(_remarks(sidecar))
    if agent and not any(finding.code == "contrast-agent" for finding in remarks):
        yield from agent_findings()
    yield from remarks
    yield from harmonized_findings(path)


def harmonized_findings(path: Path) -> Iterator[Finding]:
    """Say that a scan is a result of mrharmony, by the JSON beside it or else by its name."""
    named = any(part.startswith("desc-harmonized") for part in scan_stem(path).split("_"))
    try:
        note = read_harmonized(sidecar_path(path))
    except MrharmonyError:  # damaged, but one of ours
        named, note = True, None
    if note or named:
        origin = Path(note.sources[0]).name if note and note.sources else "another scan"
        target = f"to {note.target}" if note else "before"
        yield warning(
            "harmonized-before",
            f"The scan is a result of mrharmony: {origin:.80}, harmonized {target:.80}.",
            "Give the original scan instead: what is made of a result has the errors of both steps.",
        )


def remark_records(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings on a conversion, none an error, as the sidecar's `REMARKS`."""
    return [finding_record(finding) for finding in findings]


def agent_findings() -> Iterator[Finding]:
    """Say that a scan was taken with contrast agent."""
    yield warning(
        "contrast-agent",
        "The scan was taken with contrast agent, as its name or sidecar says; the domains are without.",
        "Use the scan from before the agent if there is one, and look at vessels and lesions in the result.",
    )


def weighting(sidecar: Mapping[str, Any]) -> str | None:
    """Return the weighting that a sidecar (BIDS's keys and units) tells, None for T1w or where it is unclear.

    The series' name decides; without one, long echoes or long repetitions of spin echoes do.
    """
    name = _words(sidecar, "SeriesDescription") or _words(sidecar, "ProtocolName")
    if NAMED_T1.search(name):
        return None
    named = next((said for said, pattern in _NAMED_WEIGHTINGS.items() if pattern.search(name)), None)
    return named or _weighting_of_spin_echo(sidecar)


def contrast_agent(sidecar: Mapping[str, Any]) -> bool:
    """Say whether a scan was taken with contrast agent: by the series' name, else by the agent entered.

    Scanners keep the agent of an examination for series before it: the words `pre`, `w/o` or `non contrast`
    in the series' own name count more.
    """
    if _WITHOUT_AGENT.search(_words(sidecar, "SeriesDescription")):
        return named_with_agent(sidecar, "SeriesDescription")
    entered = (sidecar.get(key) for key in ("ContrastBolusIngredient", "ContrastBolusAgent"))
    agents = (agent for value in entered for agent in (value if isinstance(value, list) else [value]))
    given = any(str(agent or "").strip().lower() not in _NO_AGENT for agent in agents)
    return given or named_with_agent(sidecar, "SeriesDescription", "ProtocolName")


def named_with_agent(sidecar: Mapping[str, Any], *keys: str) -> bool:
    """Say whether names tell of a contrast agent; `pre contrast`, `w/o` and `non contrast` do not."""
    return any(_WITH_AGENT.search(_WITHOUT_AGENT.sub(" ", _words(sidecar, key))) for key in keys)


def number_of(sidecar: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number of a sidecar, times in seconds, or None; milliseconds are recognised."""
    try:
        value = float(sidecar[key])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(value):
        return None
    return value / 1000 if value > _MOST_SECONDS.get(key, math.inf) else value


def _not_t1w(said: str) -> Finding:
    return warning(
        "not-t1w",
        f"The scan is {said}, as its name or sidecar says; mrharmony is made for T1-weighted scans.",
        "Give the T1w scan; where name or sidecar are wrong, a copy of it with right ones.",
    )


def _weighting_of_spin_echo(sidecar: Mapping[str, Any]) -> str | None:
    sequence = str(sidecar.get("ScanningSequence", "")).upper()
    echo, inversion = number_of(sidecar, "EchoTime"), number_of(sidecar, "InversionTime")
    if "SE" not in sequence or "EP" in sequence or echo is None:
        return None
    if echo >= _LONG_ECHO:
        return "FLAIR" if (inversion or 0) >= _LONG_INVERSION else "T2-weighted"
    inverted = "IR" in sequence or inversion is not None
    long = (number_of(sidecar, "RepetitionTime") or 0) >= _LONG_REPETITION
    return "proton-density-weighted" if long and echo < _SHORT_ECHO and not inverted else None


def _words(sidecar: Mapping[str, Any], key: str) -> str:
    # Underscores are letters to \b, but t1_mprage_post has to match as three words.
    return str(sidecar.get(key) or "").replace("_", " ")


def _remarks(sidecar: Mapping[str, Any]) -> Iterator[Finding]:
    """Return the remarks of a conversion; what is no remark is left out, as anybody may write a sidecar."""
    kept = sidecar.get(REMARKS)
    for record in kept if isinstance(kept, list) else ():
        try:
            yield Finding(**_Remark.model_validate(record).model_dump())
        except ValidationError:
            continue
