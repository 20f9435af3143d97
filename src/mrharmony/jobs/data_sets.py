"""The data set of a command: opened, its scans chosen, and what is odd about them told."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mrharmony.core.domain import find_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.scans.acquisition import harmonized_findings
from mrharmony.scans.bids import SPLIT, BidsIndex, BidsScan
from mrharmony.scans.bids_images import NO_SCAN
from mrharmony.scans.folders import IN_A_COPY
from mrharmony.scans.participants import PARTICIPANTS

Hashed = TypeVar("Hashed")


@dataclass(frozen=True)
class DataSet:
    """A BIDS data set, and which of its scans are used."""

    root: Path  # BIDS folder with `participants.tsv`
    domain_column: str = "site"  # of that table, or `session`
    only: Sequence[str] = ()  # names of the domains to use; all if empty
    prepared: Path | None = None  # folder of `mrharmony prepare` with the scans; None prepares them
    subjects: Sequence[str] = ()  # labels without `sub-` of those to use; all if empty

    def open(self) -> BidsIndex:
        """Index the scans without contrast agent; raises as `open_domains`."""
        return open_domains(self.root, self.domain_column, self.only).of_subjects(self.subjects)


def open_data_set(root: Path, domain_column: str | None, *, chosen: bool = False) -> BidsIndex:
    """Index a BIDS folder, and print its findings on standard error; as `BidsIndex.open`.

    Where people or scans are `chosen` by name, those without a scan are refused as such (`Selection.of`), and
    of others without one nothing is told.
    """
    index = BidsIndex.open(root, domain_column)
    if chosen:
        index = replace(index, findings=tuple(one for one in index.findings if one.code != NO_SCAN))
    for finding in index.findings:
        print(f"{root}: {finding.message} {finding.fix}", file=sys.stderr)
    return index


def open_plain_scans(root: Path, domain_column: str | None) -> BidsIndex:
    """Index the scans of a BIDS folder to learn from or to compare: those with contrast agent are left out.

    Their number is printed on standard error, as are the findings.
    """
    index = open_data_set(root, domain_column)
    plain = tuple(scan for scan in index.scans if not scan.with_agent)
    if left_out := len(index.scans) - len(plain):
        print(f"{root}: {left_out} scans with contrast agent (ce-) are left out.", file=sys.stderr)
    return replace(index, scans=plain)


def open_domains(root: Path, domain_column: str, only: Sequence[str]) -> BidsIndex:
    """Index the scans without contrast agent to take some domains of, or all if `only` is empty.

    Raises as `BidsIndex.open`, and `MrharmonyError` where such a domain has no scan only because a label in
    the table differs from the folder's by zeros.
    """
    index = open_plain_scans(root, domain_column)
    known = (*index.domains, *index.unmatched)
    chosen = {find_name(known, name) for name in only} if only else index.unmatched
    lost = next((name for name in index.unmatched if name in chosen), None)
    if lost is not None:
        listed, folder = index.unmatched[lost]
        raise MrharmonyError(
            f"{root / PARTICIPANTS}: no scan of {lost:.60} is found, because the label {listed:.60} differs "
            f"from the folder sub-{folder:.60} by zeros. Write {folder:.60} {IN_A_COPY}, or choose other "
            "domains."
        )
    return index


def scans_of_domains(index: BidsIndex, only: Sequence[str]) -> list[BidsScan]:
    """Return the scans of some domains, or of all known ones, in the order of the index.

    Raises `MrharmonyError` if there is none, or none of a domain that is named.
    """
    chosen = named_domains(index, only or index.domains)
    scans = [scan for scan in index.scans if scan.domain in chosen]
    if not scans:
        raise MrharmonyError(f"{index.root}: no scans of a known domain.")
    return scans


def named_domains(index: BidsIndex, names: Iterable[str]) -> list[str]:
    """Return the domains of a data set that these names mean, as it spells them; as `find_name`.

    Raises `MrharmonyError` too if it has no scan of one.
    """
    domains = []
    for name in names:
        own = find_name(index.domains, name)
        if own is None:
            known = ", ".join(index.domains) or "none is known here"
            raise MrharmonyError(f"{name}: no such domain here. Choose from: {known}.")
        domains.append(own)
    return domains


def training_scans(index: BidsIndex, only: Sequence[str] | None, most: int | None) -> list[BidsScan]:
    """Return the scans of some domains, or of all known ones, domain by domain.

    The domains are in the order of `only`, or sorted where it names none; each has at most `most` scans, its
    first ones, or all if None. Where the table has a column `split`, only scans of its half `train` are
    taken, and the others are counted on standard error; so are scans that mrharmony has harmonized. Raises
    `MrharmonyError` if a domain of `only` is unknown or has nobody to train on, or no domain has anybody.
    """
    chosen = named_domains(index, only or index.domains)
    if not chosen:
        raise MrharmonyError(
            f"{index.root}: no scan has a domain in the column {index.domain_column} of participants.tsv. "
            "Check that its labels are those of the sub- folders, or name another domain column."
        )
    half = _training_half(index, chosen)
    scans = {name: [scan for scan in half if scan.domain == name][:most] for name in chosen}
    lost = [name for name, found in scans.items() if not found]
    if lost and (only or not half):
        raise MrharmonyError(
            f"{index.root / 'participants.tsv'}: nobody of {lost[0]} is in the split `train`. "
            f"Fill in {SPLIT}, or leave this domain out."
        )
    taken = [scan for domain in scans.values() for scan in domain]
    tell_harmonized(index.root, [scan.path for scan in taken])
    return taken


def tell_harmonized(root: Path, scans: Sequence[Path]) -> None:
    """Say on standard error how many scans to learn from show no scanner's contrast, but mrharmony's."""
    told = [scan.name for scan in scans if any(harmonized_findings(scan))]
    if told:
        print(
            f"{root}: {len(told)} of {len(scans)} scans to learn from are results of mrharmony, such as "
            f"{told[0]}. Learn from the original scans: results show the contrast that they were made for.",
            file=sys.stderr,
        )


def readable_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read now, and is refused when its turn comes."""
    try:
        return file_sha256(path)
    except MrharmonyError:
        return None


def first_copy(
    scans: Iterable[tuple[Hashed, str | None]], of: Iterable[tuple[Hashed, str | None]]
) -> tuple[Hashed, Hashed] | None:
    """Return the first scan that is a copy of one `of` others, and that one; None where none is.

    Each comes with its `readable_sha256`.
    """
    known = {sha256: scan for scan, sha256 in of if sha256}
    return next(((scan, known[sha256]) for scan, sha256 in scans if sha256 and sha256 in known), None)


def tell_copies(root: Path, subjects: Sequence[str], hashes: Sequence[str | None], what: str) -> None:
    """Say on standard error how many scans, by `readable_sha256`, are copies of others; `what` they are."""
    first: dict[str, int] = {}
    copies = [k for k, sha256 in enumerate(hashes) if sha256 and first.setdefault(sha256, k) != k]
    if copies:
        original = first[hashes[copies[0]] or ""]
        pair = f"sub-{subjects[original]} and sub-{subjects[copies[0]]}"
        print(
            f"{root}: {len(copies)} of {len(hashes)} {what} are copies of others, as in {pair}. "
            "Each counts like a scan of its own; leave them out if they are not meant.",
            file=sys.stderr,
        )


def _training_half(index: BidsIndex, domains: Sequence[str]) -> list[BidsScan]:
    """Return the scans of domains; where the table has a split, only those of its half `train`."""
    scans = [scan for scan in index.scans if scan.domain in domains]
    if not {scan.participant.get(SPLIT) for scan in scans} & {"train", "test"}:
        return scans
    training = [scan for scan in scans if scan.participant.get(SPLIT) == "train"]
    if left_out := len(scans) - len(training):
        print(
            f"{index.root}: left out {left_out} of {len(scans)} scans, not in the split `train`.",
            file=sys.stderr,
        )
    return training
