"""JSON sidecars of BIDS scans, by the inheritance principle.

A read-only index of the T1w scans in a BIDS folder and the domain (site) of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mrharmony.core.findings import error, warning
from mrharmony.core.volume import Finding, MrharmonyError
from mrharmony.scans.names import scan_stem
from mrharmony.scans.participants import read_participants

Sidecar = dict[str, Any]


def entities(stem: str) -> frozenset[str]:
    """Return the entities of a BIDS file name without its suffix: `sub-01_T1w` has `{sub-01}`."""
    return frozenset(stem.split("_")[:-1])


class SidecarReader:
    """Reads each sidecar of a folder once, however many scans inherit from it.

    Sidecars apply to a scan where they lie in a folder above it (or beside it), end in `T1w`, and name no
    entity that the scan has not. The deeper one, and the more specific one, wins.
    """

    def __init__(self, root: Path) -> None:
        """Take the BIDS folder, above which nothing is inherited."""
        self._root = root
        self._folders: dict[Path, list[tuple[frozenset[str], Sidecar]]] = {}
        self.findings: list[Finding] = []

    def read(self, scan: Path, stem: str) -> Sidecar:
        """Return all that the sidecars say of a scan, merged.

        Parameters
        ----------
        scan
            The scan, somewhere below the BIDS folder.
        stem
            Its file name without `.nii` or `.nii.gz`.
        """
        merged: Sidecar = {}
        above = [folder for folder in scan.parents if folder.is_relative_to(self._root)]
        for folder in reversed(above):
            for names, content in self._sidecars(folder):
                if names <= entities(stem):
                    merged |= content
        return merged

    def _sidecars(self, folder: Path) -> list[tuple[frozenset[str], Sidecar]]:
        """Return entities and content of a folder's T1w sidecars, the most specific last."""
        if folder not in self._folders:
            paths = [path for path in sorted(folder.glob("*T1w.json")) if not path.name.startswith(".")]
            pairs = [(entities(path.stem), self._load(path)) for path in paths]
            self._folders[folder] = sorted(pairs, key=lambda pair: len(pair[0]))
        return self._folders[folder]

    def _load(self, path: Path) -> Sidecar:
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            return content
        self.findings.append(
            warning(
                "bids-bad-sidecar",
                f"{path.relative_to(self._root)} is not a JSON object and is ignored.",
                "Repair or remove it.",
            )
        )
        return {}


SESSION = "session"
"""The domain column that stands for the label of the scan's `ses-` folder."""

OWN_MAPS = frozenset({"desc-uncertainty", "desc-canonical", "desc-volumecorrected"})
"""Entities of T1w images that are written beside scans and are none themselves."""

_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class BidsScan:
    """One T1w scan of a BIDS folder; the image itself is not opened.

    Parameters
    ----------
    path
        The image.
    subject, session
        Labels without `sub-` and `ses-`; the session is None where the folder has none.
    domain
        The site, scanner or protocol; None where the table does not say.
    sidecar
        What the JSON sidecars say, merged by BIDS inheritance.
    participant
        The subject's row of `participants.tsv`, without what is not available (`n/a`).
    """

    path: Path
    subject: str
    session: str | None
    domain: str | None
    sidecar: dict[str, Any]
    participant: dict[str, str]


@dataclass(frozen=True)
class BidsIndex:
    """The T1w scans of a BIDS folder.

    Parameters
    ----------
    root
        The folder.
    domain_column
        The column of `participants.tsv` that names the domain, or `session`.
    scans
        All scans, sorted by path.
    findings
        What is odd about the folder; an error among it concerns single scans, not the whole.
    """

    root: Path
    domain_column: str
    scans: tuple[BidsScan, ...]
    findings: tuple[Finding, ...]

    @classmethod
    def open(cls, root: Path | str, domain_column: str = "site") -> Self:
        """Index a BIDS folder.

        Parameters
        ----------
        root
            The folder with `participants.tsv` and `sub-*/[ses-*/]anat/*_T1w.nii[.gz]`.
        domain_column
            The column of the table that names the domain; `session` takes the label of the `ses-` folder
            instead, and needs no table.

        Raises
        ------
        MrharmonyError
            There is no such folder, table, column or scan, or the table cannot be used.
        """
        root = Path(root)
        if not root.is_dir():
            raise MrharmonyError(f"{root}: not a folder. Give the folder that holds the sub-* folders.")
        participants = _participants(root, domain_column)
        paths = list(_find_scans(root))
        if not paths:
            raise MrharmonyError(f"{root}: no scans sub-*/[ses-*/]anat/*_T1w.nii[.gz]. Check the folder.")
        reader = SidecarReader(root)
        scans = tuple(_scan(path, domain_column, participants, reader) for path in paths)
        findings = (*reader.findings, *_check_scans(root, scans), *_check_domains(scans, participants))
        return cls(root, domain_column, scans, findings)

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of all domains that scans are from, sorted."""
        return tuple(sorted({scan.domain for scan in self.scans if scan.domain is not None}))


def usual_column(root: Path) -> str:
    """Return `site` if the table of a data set has that column, else `session`: some work needs no domain."""
    table = root / "participants.tsv"
    return "site" if table.is_file() and "site" in read_participants(table)[0] else SESSION


def _participants(root: Path, domain_column: str) -> dict[str, dict[str, str]]:
    table = root / "participants.tsv"
    if domain_column == SESSION and not table.exists():
        return {}
    columns, rows = read_participants(table)
    if domain_column not in (SESSION, *columns):
        known = ", ".join(columns) or "none beside participant_id"
        raise MrharmonyError(
            f"{table}: no column {domain_column!r}. Choose the domain column from: {known}; or {SESSION}."
        )
    return rows


def _find_scans(root: Path) -> Iterator[Path]:
    folders = [*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")]
    paths = [path for folder in folders for path in folder.glob("*_T1w.nii*")]
    for path in sorted(paths):
        named = path.name.endswith(("_T1w.nii", "_T1w.nii.gz")) and not path.name.startswith(".")
        if named and not OWN_MAPS & entities(scan_stem(path)):
            yield path


def _scan(
    path: Path, domain_column: str, participants: dict[str, dict[str, str]], reader: SidecarReader
) -> BidsScan:
    holder = path.parent.parent
    session = holder.name.removeprefix("ses-") if holder.name.startswith("ses-") else None
    subject = (holder if session is None else holder.parent).name.removeprefix("sub-")
    row = participants.get(subject, {})
    domain = session if domain_column == SESSION else row.get(domain_column)
    return BidsScan(path, subject, session, domain, reader.read(path, scan_stem(path)), row)


def _check_scans(root: Path, scans: Iterable[BidsScan]) -> Iterator[Finding]:
    """Find links without content, misnamed files, and scans that are there twice."""
    stems: set[Path] = set()
    for scan in scans:
        name = scan.path.relative_to(root)
        if not scan.path.exists():
            yield error("bids-broken-link", f"The content of {name} is not here.", "Run `datalad get` on it.")
        if f"sub-{scan.subject}" not in entities(scan_stem(scan.path)):
            yield warning(
                "bids-misnamed", f"{name} lies in the folder of another subject.", "Move or rename it."
            )
        stem = scan.path.with_name(scan_stem(scan.path))
        if stem in stems:
            yield warning(
                "bids-duplicate", f"{name} is there both compressed and not.", "Remove one of the two."
            )
        stems.add(stem)


def _check_domains(scans: tuple[BidsScan, ...], participants: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Find scans whose domain is not known, in a folder where that of others is."""
    lost = [scan for scan in scans if scan.domain is None]
    if len(lost) == len(scans):
        return
    unlisted = sorted({scan.subject for scan in lost if participants and scan.subject not in participants})
    unnamed = sorted({scan.subject for scan in lost} - set(unlisted))
    if unlisted:
        yield warning(
            "bids-unlisted",
            f"participants.tsv does not list {_some(unlisted)}: their domain is not known.",
            "Add them to the table; labels there are those of the folders.",
        )
    if unnamed:
        yield warning(
            "bids-no-domain",
            f"No domain is given for {_some(unnamed)}.",
            "Fill in the domain column, or give the session a ses- folder.",
        )


def _some(subjects: list[str]) -> str:
    named = ", ".join(f"sub-{subject}" for subject in subjects[:_NAMED_AT_MOST])
    more = len(subjects) - _NAMED_AT_MOST
    return f"{named} and {more} more" if more > 0 else named
