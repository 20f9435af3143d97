"""Protocols as users tell them: a BIDS sidecar, or a sentence like `mprage 3T TR=2300 TI=900 TE=3 FA=9`.

What is missing and can be assumed is assumed, a sentence each; what decides the contrast must be there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding, MrharmonyError, info
from mrharmony.core.pointers import FETCH, content_missing
from mrharmony.core.records import first_fault, read_text
from mrharmony.scans.acquisition import contrast_agent
from mrharmony.simulate.signal import (
    TISSUE_PARAMETERS,
    FieldStrength,
    Mprage,
    SpoiledGradientEcho,
    tissue_signal,
)

EXAMPLE = "mprage 3T TR=2300 TI=900 TE=3 FA=9"
ECHO_TIME = 3.0  # ms; that of most T1w protocols at 3 T
ECHO_SPACING = 7.0  # ms; these two are those of the scanner `mprage-3t`
EXCITATIONS = 176
FEWEST = 32  # excitations of a train; a smaller number in a sidecar counts something else
EFFICIENCY = 0.96  # of the inversion: Marques et al. 2010, NeuroImage 49:1271
SHORTEST_CYCLE = 100.0  # ms; with an inversion, a shorter TR is that of the excitations
LONGEST_ECHO = 20.0  # ms; beyond, T2* weights a gradient echo
FIELD_TOLERANCE = 0.15  # tesla: scanners sold as 3 T have 2.89 and more, those as 1.5 T 1.49


class Protocol(BaseModel, frozen=True, extra="forbid"):
    """A T1w protocol: all that decides the contrast of a scan but the head.

    Parameters
    ----------
    field_strength
        1.5 or 3 tesla.
    sequence
        `Mprage` or `SpoiledGradientEcho`.
    assumed
        A sentence on each value that was not given.

    Raises
    ------
    ValidationError
        If WM > GM > CSF does not hold of its images, or the field strength is another.
    """

    field_strength: FieldStrength
    sequence: Annotated[Mprage | SpoiledGradientEcho, Field(discriminator="kind")]
    assumed: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_t1_weighted(self) -> Protocol:
        tissues = TISSUE_PARAMETERS[self.field_strength]
        signals = [float(tissue_signal(self.sequence, tissue, np.array(tissue.t1_ms))) for tissue in tissues]
        csf, cortex, white, deep = signals
        if not white > deep >= cortex > abs(csf):
            shown = ", ".join(f"{name} {x / white:.2f}" for name, x in (("GM", cortex), ("CSF", abs(csf))))
            raise ValueError(f"gives no T1w contrast: relative to WM, {shown}")
        return self

    @property
    def name(self) -> str:
        """A name that `read_protocol` reads as this protocol; what it would assume is left out."""
        values = _values(self.sequence)
        if isinstance(self.sequence, Mprage):
            values |= _unusual(self.sequence)
        said = [f"{key}{_number(value)}" for key, value in values.items()]
        return "-".join([self.sequence.kind, f"{self.field_strength:g}T", *said])

    @property
    def domain(self) -> Domain:
        """The protocol as the domain that scans come from or go to."""
        return Domain(self.name, self.describe(), self)

    def describe(self) -> str:
        """Return the protocol in words: `MPRAGE at 3 T: TR 2300 ms, TI 900 ms, …`."""
        values = _values(self.sequence)
        if isinstance(self.sequence, Mprage):
            values |= {"ES": self.sequence.echo_spacing_ms, "N": self.sequence.excitations}
        named = {"mprage": "MPRAGE", "spgr": "Spoiled gradient echo"}[self.sequence.kind]
        said = (f"{key} {_number(value)}{_spaced(_QUANTITIES[key].unit)}" for key, value in values.items())
        return f"{named} at {self.field_strength:g} T: {', '.join(said)}"


def is_protocol(text: str) -> bool:
    """Whether a target is meant as a protocol: a `.json` file, or it has a `=` or a field strength."""
    return text.lower().endswith(".json") or "=" in text or _FIELD.search(text) is not None


def read_protocol(text: str | Path) -> Protocol:
    """Return the protocol of a JSON file in BIDS's keys and units, or of a sentence (ms, degrees, tesla).

    Raises `MrharmonyError` where it is neither, or something that decides the contrast is missing,
    impossible, in other units, or of a sequence or field strength for which the contrast cannot be told.

    >>> read_protocol("mprage 3T TR=2.3s TI=900 TE=3 FA=9").name
    'mprage-3T-TR2300-TI900-TE3-FA9'
    """
    if not isinstance(text, str | Path):
        raise MrharmonyError(
            f"text: a value of type {type(text).__name__} cannot be read as a protocol. Give the path of a "
            f"sidecar, or a sentence like `{EXAMPLE}`."
        )
    text = str(text)
    if not text.lower().endswith(".json"):
        return _protocol(_read_sentence(text))
    if content_missing(Path(text)):
        raise MrharmonyError(f"{text}: the content of this file is not here. {FETCH}")
    try:
        content = json.loads(read_text(Path(text), "utf-8-sig"), object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError) as failure:
        reason = "nested too deeply" if isinstance(failure, RecursionError) else failure
        raise MrharmonyError(
            f"{text}: cannot be read ({reason}). Give the sidecar of a scan, or a sentence."
        ) from failure
    if not isinstance(content, dict):
        raise MrharmonyError(f"{text}: not a JSON object. Give the sidecar of a scan, or a sentence.")
    return protocol_of_sidecar(content, text)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values; `ValueError` where a name has two different values."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, value) is not value and found[name] != value:  # NaN is not equal to itself
            raise ValueError(f"{name} stands twice, with different values")
    return found


def protocol_of_sidecar(sidecar: Mapping[str, Any], origin: str) -> Protocol:
    """Return the protocol of a BIDS sidecar; raises as `read_protocol`, with `origin` for the file's name."""
    return _protocol(_read_sidecar(sidecar, origin))


def protocol_findings(*domains: Domain | None) -> tuple[Finding, ...]:
    """Return what was assumed of domains that are protocols, once of each."""
    return tuple(
        info("assumed-protocol", f"{domain.name}: {sentence}", "Give it in the protocol if it is known.")
        for domain in dict.fromkeys(domains)
        if domain is not None and isinstance(domain.protocol, Protocol)
        for sentence in domain.protocol.assumed
    )


def protocol_record(domain: Domain | None) -> dict[str, Any] | None:
    """Return what sidecars say of a domain that is a protocol, as JSON; None for any other."""
    known = domain.protocol if domain else None
    return known.model_dump(mode="json", exclude={"assumed"}) if isinstance(known, Protocol) else None


class _Quantity(NamedTuple):
    """A value's plausible range in its unit, and the keys of sidecars that have it, the best first."""

    lowest: float
    highest: float
    unit: str
    keys: tuple[str, ...]


_QUANTITIES = {
    "TR": _Quantity(
        3, 10_000, "ms", ("RepetitionTimePreparation", "RepetitionTimeInversion", "RepetitionTime")
    ),
    "TI": _Quantity(50, 5_000, "ms", ("InversionTime",)),
    "TE": _Quantity(0.5, 500, "ms", ("EchoTime",)),
    "FA": _Quantity(1, 180, "°", ("FlipAngle",)),
    "ES": _Quantity(2, 100, "ms", ("RepetitionTimeExcitation",)),
    "N": _Quantity(2, 2_000, "", ("NumberShots", "EchoTrainLength")),
    "EFF": _Quantity(0.5, 1, "", ()),
    "B0": _Quantity(0.01, 20, "T", ("MagneticFieldStrength",)),
}
_UNITS = {"ms": ("ms", "s"), "°": ("deg", "°"), "T": ("t",), "": ()}  # as sentences may have them
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_FIELD = re.compile(rf"(?<![\w.])({_NUMBER})\s*T(?:esla)?(?![a-z0-9])", re.IGNORECASE)
_VALUE = re.compile(
    rf"(TR|TI|TE|FA|ES|EFF|N|B0)\s*[=:]?\s*({_NUMBER})\s*(ms|s|deg|°|T)?(?![\w.])", re.IGNORECASE
)
_COMMA = re.compile(r"(?:(?:B0|[a-z]+)[\s=:]*)?\d+,(?=\d)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;-]*")
_INVERTED = r"mp-?rage|bravo|ir-?f?spgr|turbo-?flash|tfl"
_SPOILED = r"f?spgr|flash|(?:t1-?)?ffe|(?:t1-?)?tfe|gre|fl3d"
_NOT_T1W = {
    "MP2RAGE": r"mp2rage",
    "FLAIR": r"flair",
    "EPI": r"(?<![a-z])(?:epi?|ep2d|epfid|bold|dwi|dti)(?![a-z])",
    "SSFP": r"ssfp|fiesta|trufi|ciss|b-?ffe",
    "T2": r"(?<![a-z0-9])t2(?:w|star|\*)?(?![a-z0-9])",
    "PD": r"(?<![a-z0-9])pdw?(?![a-z0-9])",
    "Spin echo": r"(?<![a-z])(?:se|tse|fse|spc|space|cube|vista)(?![a-z])",
}
_WORD = re.compile("|".join([*_NOT_T1W.values(), _INVERTED, _SPOILED, "t1w?|3d"]), re.IGNORECASE)
_NAMES = (
    *("ScanningSequence", "SequenceName", "PulseSequenceName", "InternalPulseSequenceName"),
    *("PulseSequenceType", "PulseSequenceDetails", "SeriesDescription"),
)


class _Said(NamedTuple):
    """What a sidecar or a sentence says: words on the sequence, and values in the units of `_QUANTITIES`."""

    origin: str
    words: str
    values: dict[str, float]
    in_seconds: bool = False  # a sidecar, whose times are in seconds

    def refusal(self, fault: str, remedy: str) -> MrharmonyError:
        """Return the error that names file or sentence, fault and remedy."""
        return MrharmonyError(f"{self.origin}: {fault}. {remedy}")

    def need(self, key: str, what: str) -> float:
        """Return a value that cannot be assumed."""
        if key not in self.values:
            raise self.refusal(f"{what} is missing", f"Add {self.wanted(key)}.")
        return self.values[key]

    def wanted(self, key: str) -> str:
        """Return how a value is given here."""
        if not self.in_seconds:
            return "3T or 1.5T" if key == "B0" else f"{key}=, as in `{EXAMPLE}`"
        unit = {"ms": " (seconds)", "T": " (tesla)"}.get(_QUANTITIES[key].unit, "")
        return f"{_QUANTITIES[key].keys[0]}{unit}"

    def add(self, key: str, name: str, value: float, in_seconds: bool) -> None:
        """Take a value in, where it is plausible in its unit."""
        lowest, highest, unit, _ = _QUANTITIES[key]
        per = 1e3 if in_seconds and unit == "ms" else 1
        if not lowest <= value * per <= highest:
            own = "s" if per > 1 else unit
            times = "Times are in seconds here" if self.in_seconds else "Times are in ms, or like 2.3s"
            raise self.refusal(
                f"{name} {value:g}{_spaced(own)} is not between {lowest / per:g} and {highest / per:g}",
                f"{times}; correct it." if unit == "ms" else "Correct it.",
            )
        if key == "N" and value % 1:
            raise self.refusal(f"{name} {value:g} is no whole number", "Correct it.")
        self.values[key] = round(value * per, 9)


def _read_sentence(text: str) -> _Said:
    words, at = [], 0
    said = _Said(f"'{text}'", "", {})
    while at < len(text := text.rstrip(" \t\n,;-")):
        at = _SEPARATORS.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere
        found = _VALUE.match(text, at) or _FIELD.match(text, at) or _WORD.match(text, at)
        comma = _COMMA.match(text, at)
        if comma and not (found and (_FIELD.match(text, comma.end()) or _WORD.match(text, comma.end()))):
            raise said.refusal(
                f"'{comma[0]}{text[comma.end()]}' has a decimal comma", "Write a decimal point."
            )
        if found is None or (found.re is _WORD and text[found.end() : found.end() + 1].isalpha()):
            unread = re.split(r"[\s,;]", text[at:])[0]
            remedy = f"Write it like `{EXAMPLE}`, or name a domain that the model knows."
            raise said.refusal(f"'{unread}' cannot be read as part of a protocol", remedy)
        at = found.end()
        if found.re is _WORD:
            words.append(found[0].lower())
        else:
            _add_said(said, found)
    said = said._replace(words=" ".join(words))
    _require_t1w(said)
    return said


def _add_said(said: _Said, found: re.Match[str]) -> None:
    """Take in the value that a part of a sentence gives."""
    key, number, unit = (
        ("B0", found[1], "T") if found.re is _FIELD else (found[1].upper(), found[2], found[3])
    )
    if unit and unit.lower() not in _UNITS[_QUANTITIES[key].unit]:
        raise said.refusal(f"{key} is not measured in {unit}", f"Write it like `{EXAMPLE}`.")
    if key in said.values:
        raise said.refusal(f"{key} is given twice", "Leave one out.")
    said.add(key, key, float(number), in_seconds=unit in ("s", "S"))


def _read_sidecar(sidecar: Mapping[str, Any], origin: str) -> _Said:
    said = _Said(origin, _words(sidecar), {}, in_seconds=True)
    _require_t1w(said)
    if contrast_agent(sidecar):
        remedy = "Give the sidecar of a scan without it, or a domain that has scans."
        raise said.refusal("tells of a contrast agent, and the signal equations hold without one", remedy)
    if str(sidecar.get("MRAcquisitionType", "3D")).upper() != "3D":
        raise said.refusal("MRAcquisitionType is not 3D", "The signal equations hold for 3D sequences only.")
    for key, quantity in _QUANTITIES.items():
        for name in quantity.keys:
            value = sidecar.get(name)
            if key in said.values or value in (None, 0, "n/a") or (key == "N" and value in range(FEWEST)):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
                raise said.refusal(f"{name} is {value!r:.60}, no plausible number", "Correct it.")
            said.add(key, name, value, in_seconds=True)
    return said


def _words(sidecar: Mapping[str, Any]) -> str:
    """Return what a sidecar says of the sequence, lower case, with `prepared` and `ge` where these hold."""
    words = [part for name in _NAMES for part in _texts(sidecar.get(name))]
    codes = {*_texts(sidecar.get("ScanningSequence")), *_texts(sidecar.get("SequenceVariant"))}
    words += ["prepared"] if codes & {"ir", "mp"} else []
    words += ["ge"] if str(sidecar.get("Manufacturer", "")).upper().startswith("GE") else []
    words += ["mp2rage"] if isinstance(sidecar.get("InversionTime"), list) else []
    return " ".join(words)


def _texts(value: object) -> list[str]:
    """Return the parts of a text or of a list of texts: DICOM has a backslash between them."""
    parts = value if isinstance(value, list) else [value]
    return [text for part in parts if isinstance(part, str) for text in re.split(r"[\\\s/_]+", part.lower())]


def _require_t1w(said: _Said) -> None:
    """Refuse words that name a sequence whose contrast does not follow from the model's."""
    for kind, pattern in _NOT_T1W.items():
        if re.search(pattern, said.words):
            why = "is no mixture of the contrasts that the model has" if kind == "MP2RAGE" else "is not T1w"
            remedy = "Give a T1w MPRAGE or spoiled gradient echo, or a domain that has scans."
            raise said.refusal(f"{kind} {why}", remedy)


def _protocol(said: _Said) -> Protocol:
    """Return the protocol of what was said, with all assumptions."""
    assumed: list[str] = []
    try:
        return Protocol(
            field_strength=_field_strength(said, assumed),
            sequence=_sequence(said, assumed),
            assumed=tuple(assumed),
        )
    except ValidationError as failure:
        raise said.refusal(first_fault(failure), "Correct its values.") from failure


def _field_strength(said: _Said, assumed: list[str]) -> float:
    given = said.need("B0", "the field strength")
    nearest = min(TISSUE_PARAMETERS, key=lambda known: abs(known - given))
    if abs(nearest - given) > FIELD_TOLERANCE:
        remedy = "Choose one of these, or a domain that has scans."
        raise said.refusal(f"the contrast at {given:g} T is not known, only at 1.5 and 3 T", remedy)
    if nearest != given:
        assumed.append(f"The field strength {given:g} T is taken for {nearest:g} T.")
    return nearest


def _sequence(said: _Said, assumed: list[str]) -> Mprage | SpoiledGradientEcho:
    inverted = "TI" in said.values or re.search(rf"{_INVERTED}|\bprepared\b", said.words)
    if inverted:
        return _mprage(said, assumed)
    if not re.search(rf"{_SPOILED}|\bgr\b", said.words):
        if said.need("TR", "the repetition time") >= SHORTEST_CYCLE:
            raise said.refusal("sequence and inversion time are missing", f"Write it like `{EXAMPLE}`.")
        assumed.append("No sequence is named: a spoiled gradient echo without inversion is assumed.")
    of_train = {"ES", "N", "EFF"} & said.values.keys()
    if of_train and not said.in_seconds:
        raise said.refusal(f"{min(of_train)} is of a train after an inversion", f"Add {said.wanted('TI')}.")
    excitation = "ES" if said.in_seconds and "TR" not in said.values else "TR"
    repetition_time = said.need(excitation, "the repetition time")
    return SpoiledGradientEcho(
        repetition_time_ms=repetition_time,
        echo_time_ms=_echo_time(said, "TR", repetition_time, assumed),
        flip_angle_deg=said.need("FA", "the flip angle"),
    )


def _mprage(said: _Said, assumed: list[str]) -> Mprage:
    flip_angle, inversion_time = said.need("FA", "the flip angle"), said.need("TI", "the inversion time")
    spacing, excitations = said.values.get("ES"), said.values.get("N")
    cycle = said.values.get("TR", 0) if spacing else said.need("TR", "the repetition time")
    if cycle < SHORTEST_CYCLE:
        spacing = spacing or cycle
        inversion_time, cycle = _of_excitations(said, inversion_time, spacing, assumed)
    if inversion_time >= cycle:
        raise said.refusal(f"TI {inversion_time:g} ms does not fit within TR {cycle:g} ms", "Correct them.")
    echo_time = _echo_time(said, "ES", spacing or inversion_time, assumed)
    train = _train(cycle, inversion_time, echo_time, spacing, excitations)
    if (excitations is None and train[1] < FEWEST) or train[0] <= echo_time:
        raise said.refusal(
            f"no train of excitations fits around TI {inversion_time:g} within TR {cycle:g} ms",
            "Correct them.",
        )
    if spacing is None:
        assumed.append(f"No echo spacing is given: {train[0]:g} ms is assumed.")
    if excitations is None:
        assumed.append(f"The number of excitations per inversion is not given: {train[1]} is assumed.")
    if "EFF" not in said.values:
        assumed.append(f"The inversion is assumed to turn over {EFFICIENCY:g} of the magnetization.")
    return Mprage(
        repetition_time_ms=cycle,
        inversion_time_ms=inversion_time,
        echo_spacing_ms=train[0],
        excitations=train[1],
        flip_angle_deg=flip_angle,
        echo_time_ms=echo_time,
        inversion_efficiency=said.values.get("EFF", EFFICIENCY),
    )


def _of_excitations(
    said: _Said, inversion_time: float, spacing: float, assumed: list[str]
) -> tuple[float, float]:
    """Return TI and TR (ms) of an MPRAGE whose repetition time is that of its excitations.

    On GE scanners TI ends where the train begins, and the next inversion follows the train at once; that of
    others cannot be told.
    """
    if not re.search(r"bravo|spgr|\bge\b", said.words):
        fault = (
            f"TR {spacing:g} ms is that of the excitations; the time from inversion to inversion is missing"
        )
        raise said.refusal(fault, f"Add {said.wanted('TR')}.")
    excitations = said.values.get("N", EXCITATIONS)
    centre = inversion_time + excitations // 2 * spacing
    cycle = inversion_time + (excitations + 1) * spacing
    assumed.append(
        f"TI {inversion_time:g} ms is taken to end at the first excitation, as on GE scanners, and the next "
        f"inversion to follow the train at once: TI {centre:g} ms to its centre, TR {cycle:g} ms."
    )
    return centre, cycle


def _echo_time(said: _Said, outer: str, longest: float, assumed: list[str]) -> float:
    """Return the echo time, which `outer` (TR or ES) must hold."""
    given = said.values.get("TE")
    if given is None:
        given = min(ECHO_TIME, longest / 2)
        assumed.append(f"No echo time is given: TE {given:g} ms is assumed.")
    if given > LONGEST_ECHO:
        raise said.refusal(f"TE {given:g} ms weights by T2 or T2*, not by T1", "Give a T1w protocol.")
    if given >= longest:
        raise said.refusal(f"TE {given:g} ms does not fit within {outer} {longest:g} ms", "Correct them.")
    return given


def _train(
    cycle: float,
    inversion_time: float,
    echo_time: float,
    spacing: float | None = None,
    excitations: float | None = None,
) -> tuple[float, int]:
    """Return echo spacing (ms) and number of excitations; None is as usual, or less to fit."""
    before, after = inversion_time, cycle - inversion_time
    if spacing is None:
        spacing = max(ECHO_SPACING, 2 * echo_time)
        if excitations is not None:
            early = excitations // 2
            room = min(before / max(early, 1), after / (excitations - early))
            spacing = min(spacing, math.floor(100 * room) / 100)
    if excitations is None:
        excitations = min(EXCITATIONS, 2 * math.floor(min(before, after) / spacing - 1e-9))
    return spacing, int(excitations)


def _values(sequence: Mprage | SpoiledGradientEcho) -> dict[str, float]:
    """Return the values that are always given, by the keys of sentences."""
    inversion = {"TI": sequence.inversion_time_ms} if isinstance(sequence, Mprage) else {}
    echo, flip = sequence.echo_time_ms, sequence.flip_angle_deg
    return {"TR": sequence.repetition_time_ms, **inversion, "TE": echo, "FA": flip}


def _unusual(sequence: Mprage) -> dict[str, float]:
    """Return echo spacing, excitations and efficiency where `read_protocol` would assume others."""
    spacing, excitations = sequence.echo_spacing_ms, sequence.excitations
    times = sequence.repetition_time_ms, sequence.inversion_time_ms, sequence.echo_time_ms
    said: dict[str, float] = {}
    if excitations != _train(*times, spacing)[1]:
        said["N"] = excitations
    if spacing != _train(*times, excitations=said.get("N"))[0]:
        said["ES"] = spacing
    if sequence.inversion_efficiency != EFFICIENCY:
        said["EFF"] = sequence.inversion_efficiency
    return said


def _spaced(unit: str) -> str:
    return f" {unit}" if unit.isalpha() else unit


def _number(value: float) -> str:
    return f"{value:.10g}"
