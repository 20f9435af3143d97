"""Which scans of a data set are worked on: by participant, by session, by other entities of BIDS."""

from __future__ import annotations

import codecs
import os
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mrharmony.core.findings import MrharmonyError, ScanRefused
from mrharmony.core.records import NOT_UTF8, parse_record, read_text
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.names import scan_stem

# Names of entities in filter files (those of PyBIDS), and their keys in file names.
ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "run": "run",
    "echo": "echo",
    "part": "part",
    "inv": "inv",
    "inversion": "inv",
    "chunk": "chunk",
}
_INDICES = frozenset({"run", "echo", "inv", "chunk"})  # keys that BIDS counts; the others have labels
_ABSENT, _ANY = "Query.NONE", "Query.ANY"
_WITHOUT_CHOICE = {"datatype": "anat", "suffix": "T1w"}  # what else a filter may say of a T1w scan


@dataclass(frozen=True)
class Selection:
    """What is chosen of a data set; by default all of it.

    Parameters
    ----------
    participants, sessions
        Labels, with or without `sub-` and `ses-`; all if empty.
    entities
        For the key of an entity, the labels that are taken; None among them takes names without the entity,
        and an empty tuple any name with it.
    listed
        Paths in the data set, with `/`, of the only scans that are taken; all if None.
    elsewhere
        Listed paths that other parts of the list take.
    """

    participants: Sequence[str] = ()
    sessions: Sequence[str] = ()
    entities: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    listed: frozenset[str] | None = None
    elsewhere: frozenset[str] = frozenset()

    def of(self, index: BidsIndex) -> list[BidsScan]:
        """Return the chosen scans, in the order of the index.

        Raises `MrharmonyError` where a participant or a session has no scan, or nothing is left.
        """
        closed = {index.subject_of(folder.path) for folder in index.closed}
        scans = _labelled(list(index.scans), "subject", self.participants, closed)
        scans = _labelled(scans, "session", self.sessions)
        chosen = [scan for scan in scans if self._takes(scan) and self._lists(index, scan)]
        if not chosen and not self.closed(index):
            named = next(iter(self.gone(index)), "")
            example = f" {named!r} is no scan here; one is {_way(index, index.scans[0])}." if named else ""
            raise MrharmonyError(
                f"{index.root}: the filter or list leaves no scan. Check what it names.{example}"
            )
        return chosen

    def closed(self, index: BidsIndex) -> tuple[ScanRefused, ...]:
        """Return the folders of the chosen participants that cannot be listed; a list names scans alone."""
        if self.listed is not None:
            return ()
        return index.of_subjects(label.removeprefix("sub-") for label in self.participants).closed

    def gone(self, index: BidsIndex) -> list[str]:
        """Return the listed scans that the data set no longer has."""
        return sorted((self.listed or frozenset()) - {_way(index, scan) for scan in index.scans})

    def left_out(self, index: BidsIndex) -> list[BidsScan]:
        """Return the scans of the data set that are not chosen, nor in another part of the list."""
        chosen = {scan.path for scan in self.of(index)}
        others = (scan for scan in index.scans if scan.path not in chosen)
        return [scan for scan in others if _way(index, scan) not in self.elsewhere]

    def _lists(self, index: BidsIndex, scan: BidsScan) -> bool:
        return self.listed is None or _way(index, scan) in self.listed

    def _takes(self, scan: BidsScan) -> bool:
        named = dict(pair.split("-", 1) for pair in scan_stem(scan.path).split("_") if "-" in pair)
        return all(
            any(_same(key, named.get(key), label) for label in labels) if labels else key in named
            for key, labels in self.entities.items()
        )


def _labelled(
    scans: list[BidsScan], kind: str, labels: Sequence[str], unknown: Collection[str] = ()
) -> list[BidsScan]:
    """Return the scans of subjects or sessions with these labels, or all scans if there are none.

    Labels in `unknown` need no scan.
    """
    prefix = kind[:3] + "-"
    wanted = {label.removeprefix(prefix) for label in labels}
    if missing := wanted - {getattr(scan, kind) for scan in scans} - set(unknown):
        who = "participant" if kind == "subject" else "session"
        first = min(missing)
        remedy = "Separate labels by blanks, not by commas." if "," in first else "Check the label."
        raise MrharmonyError(f"{prefix}{first}: no T1w scan of this {who}. {remedy}")
    return [scan for scan in scans if not wanted or getattr(scan, kind) in wanted]


def _way(index: BidsIndex, scan: BidsScan) -> str:
    return scan.path.relative_to(index.root).as_posix()


def _same(key: str, label: str | None, wanted: str | None) -> bool:
    """Whether a name has the wanted label, or the wanted index whatever its leading zeros.

    `run-1` and `run-01` are one run; `sub-1` and `sub-01` may be two people.
    """
    if label is None or wanted is None or key not in _INDICES:
        return label == wanted
    numbers = label.isdecimal() and wanted.isdecimal()
    return label.lstrip("0") == wanted.lstrip("0") if numbers else label == wanted


class _Filter(BaseModel):
    """A filter file, which may have parts for other images too."""

    t1w: dict[str, Any]


def read_filter(path: Path) -> Selection:
    """Read the T1w part of a BIDS filter file: `{"t1w": {"session": "02", "acquisition": ["a", "b"]}}`.

    A label is a text, a whole number, null (the name has no such entity), or a list of these; the text may
    begin with a byte-order mark. Raises `MrharmonyError` where it is no such file, or a name stands twice.
    """
    try:
        chosen = parse_record(_Filter, read_text(path, "utf-8-sig")).t1w
    except ValueError as failure:
        raise MrharmonyError(
            f'{path}: is no BIDS filter for T1w scans ({failure}). Write {{"t1w": {{"session": "01"}}}}.'
        ) from failure
    entities: dict[str, tuple[str | None, ...]] = {}
    for name, said in chosen.items():
        if name in _WITHOUT_CHOICE:
            if _WITHOUT_CHOICE[name] not in (said if isinstance(said, list) else [said]):
                raise MrharmonyError(f"{path}: {name} {said!r} is no T1w scan. Leave {name} out.")
        elif name not in ENTITIES:
            raise MrharmonyError(f"{path}: no entity {name!r}. Choose from {', '.join(ENTITIES)}.")
        elif (key := ENTITIES[name]) in entities:
            raise MrharmonyError(f"{path}: {name} names the entity {key} a second time. Leave one out.")
        else:
            entities[key] = _labels(path, name, key, said)
    return Selection(entities=entities)


def _labels(path: Path, name: str, key: str, said: object) -> tuple[str | None, ...]:
    labels: list[str | None] = []
    if said == []:
        raise MrharmonyError(f'{path}: {name} is an empty list. Name labels, or write "*" for any.')
    for one in said if isinstance(said, list) else [said]:
        if one in (None, _ABSENT):
            labels.append(None)
        elif one in (_ANY, "*"):
            return ()
        elif type(one) in (str, int) and re.fullmatch(r"[A-Za-z0-9+]+", str(one).removeprefix(f"{key}-")):
            labels.append(str(one).removeprefix(f"{key}-"))
        else:  # true and false too, which Python counts as integers
            raise MrharmonyError(f"{path}: {name} {one!r} is no label. Labels have letters and digits only.")
    return tuple(labels)


def read_scan_list(path: Path, part: str | None = None) -> frozenset[str]:
    """Read a list of scans, the path of each in its data set a line; `part` 2/5 takes the second of five.

    Lines may begin with `./` and have blanks around them, or end as on Windows, and the text may begin with a
    byte-order mark. Names may hold any byte but 0.

    Raises `MrharmonyError` where it cannot be read, or the part is none or empty.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
        if any(b"\0" in line for line in lines):
            raise ValueError(NOT_UTF8)
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise MrharmonyError(
            f"{path}: cannot be read ({reason}). Give a text file in UTF-8 with the path of a scan a line."
        ) from failure
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", part or "1/1")
    number, count = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= number <= count:
        raise MrharmonyError(f"{path}: {part!r} is no part of it. Write part='2/5' for the second of five.")
    names = [os.fsdecode(posixpath.normpath(line.strip())) for line in lines if line.strip()]
    names = names[number - 1 :: count]
    if not names:
        raise MrharmonyError(f"{path}: no scans in part {number} of {count}. Check the list and the number.")
    return frozenset(names)
