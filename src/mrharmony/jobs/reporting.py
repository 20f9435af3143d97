"""`mrharmony report` and `bids … group`: the harmonized scans of an output folder, on one page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from mrharmony.core.atomic import read_json, write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.wording import some_of
from mrharmony.evaluate.group_biology import Factor, factors
from mrharmony.evaluate.group_measures import Measured
from mrharmony.evaluate.site_effect import site_effect
from mrharmony.jobs.derivatives import labels_in
from mrharmony.jobs.group_images import ImagePair, Look
from mrharmony.jobs.harmonizing import is_own_page, scan_name
from mrharmony.jobs.kept_looks import look_once
from mrharmony.jobs.preparing import INDEX, INDEX_TITLE
from mrharmony.jobs.records import is_kept, read_list
from mrharmony.jobs.result_names import group_file, label_in, page_path, result_stem
from mrharmony.jobs.statuses import ScanStatus, scan_statuses, troubled_first
from mrharmony.preparation.saved import PreparedFiles
from mrharmony.report.group_page import (
    UNKNOWN_SITE,
    GroupRow,
    Judgement,
    group_page,
    renumbered,
    worth_a_look,
    worth_a_picture,
)
from mrharmony.report.methods_text import bibliography, methods_text
from mrharmony.report.scan_page import provenance, reasons_in_words
from mrharmony.scans.names import DESCRIPTION, output_stem, sidecar_path
from mrharmony.scans.participants import PARTICIPANTS, read_participants
from mrharmony.scans.sidecar import HarmonizedSidecar, read_harmonized

REPORT, TABLE = "report.html", "group.tsv"
CITATION, BIBLIOGRAPHY = "CITATION.md", "CITATION.bib"
_TITLE = "Harmonized scans"
_LONE = "has no JSON file beside it, and is left out. Harmonize the scan again."
_STRANGE = (
    "is the result of no scan of the data set, and is left out. Run the participant level again if the scan "
    "is there now; else move it elsewhere."
)
NOT_CHOSEN = "Its images were not looked at for this page: a part of each site stands for all."


@dataclass(frozen=True)
class WrittenReport:
    """The page, how many scans have which verdict, and scans of which something could not be shown."""

    page: Path
    verdicts: dict[str, int]
    remarks: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {"report": str(self.page), "verdicts": self.verdicts, "remarks": self.remarks}


@dataclass(frozen=True)
class Derivatives:
    """What a folder of results holds, read once for its table, its page and its methods text.

    Parameters
    ----------
    folder
        The folder.
    statuses
        What became of each scan of the data set, the troubled ones first.
    notes, faults
        The sidecars of whole results; the names of those that cannot be used, with the reason. A result of no
        listed scan is one of these.
    label
        Of the target, where it is in the names of the results.
    """

    folder: Path
    statuses: tuple[ScanStatus, ...]
    notes: Mapping[Path, HarmonizedSidecar]
    faults: Mapping[str, str]
    label: str = ""

    @classmethod
    def read(cls, folder: Path, label: str = "") -> Self:
        """Read a folder, without the results that have labels of its other targets; as `scan_statuses`."""
        others = {*target_labels(folder)} - {label}
        statuses, (notes, faults) = tuple(scan_statuses(folder, label)), _sidecars(folder)
        gone = {sidecar_path(folder / scan.listed.output) for scan in statuses if scan.status != "done"}
        left_out = gone | {path for path in notes if label_in(path) in others}
        listed = {sidecar_path(folder / scan.output) for scan in read_list(folder, label)}
        strange = [path for path in notes if listed and path not in listed | left_out]
        left_out.update(strange)
        faults |= {str(path.relative_to(folder)): _STRANGE for path in strange}
        return cls(
            folder,
            statuses,
            {path: note for path, note in notes.items() if path not in left_out},
            {name: fault for name, fault in faults.items() if label_in(Path(name)) not in others},
            label,
        )

    def with_damaged(self, found: Mapping[Path, str]) -> Self:
        """Return it with some results, by their sidecars, as damaged, for the reasons that a look found."""
        sidecars = [sidecar_path(self.folder / scan.listed.output) for scan in self.statuses]
        statuses = [
            replace(scan, status="damaged", reason=found[path]) if path in found else scan
            for path, scan in zip(sidecars, self.statuses, strict=True)
        ]
        notes = {path: note for path, note in self.notes.items() if path not in found}
        return replace(self, statuses=tuple(troubled_first(statuses)), notes=notes)

    def file(self, name: str) -> Path:
        """Return where a file on these results goes."""
        return group_file(self.folder, name, self.label)

    @property
    def without_result(self) -> list[ScanStatus]:
        """The scans that have none."""
        return [scan for scan in self.statuses if scan.status != "done"]

    def faults_of(self, scan: ScanStatus) -> set[str]:
        """Return the names of a scan's files that are among the faults."""
        output = Path(scan.listed.output)
        return {str(path) for path in (output, sidecar_path(output))} & self.faults.keys()


@dataclass(frozen=True)
class LookedAt:
    """The results of a folder after their images were looked at.

    Parameters
    ----------
    read
        What the folder holds; results that turned out to be damaged are told as such.
    rows
        A row of the page for each scan, those that had no result before the look first.
    faults
        The files that cannot be used, with the reason.
    lost
        Those of them that are not of a scan of which a row tells.
    without_scan
        The people of the participants' table of whom the data set has no scan.
    """

    read: Derivatives
    rows: tuple[GroupRow, ...]
    faults: Mapping[str, str]
    lost: Mapping[str, str]
    without_scan: tuple[str, ...]


def target_labels(out_dir: Path) -> list[str]:
    """Return the labels of the targets that a folder has results of, as `labels_in`."""
    return labels_in(read_json(out_dir / DESCRIPTION) or {})


def write_report(out_dir: Path) -> WrittenReport:
    """Write `report.html` on the scans anywhere below a folder of `harmonize`, `bids` or `demo`.

    Raises as `look_at`, and `MrharmonyError` if the folder is missing or has results of several targets.
    """
    if not out_dir.is_dir():
        raise MrharmonyError(f"{out_dir}: not a folder. Name the output folder of harmonize, bids or demo.")
    label, *others = target_labels(out_dir)
    if others:
        raise MrharmonyError(
            f"{out_dir}: holds results of several targets, each with a page of its own. "
            "Write them with `mrharmony bids BIDS_DIR OUT_DIR group`."
        )
    return write_page(look_at(Derivatives.read(out_dir, label)))


def look_at(read: Derivatives) -> LookedAt:
    """Look at the images of a folder that has been read.

    Sites are those that the data set named, else of `participants.tsv`, the source domains, the sessions.
    Raises `MrharmonyError` if scans are missing, or another page has the name of the one on them.
    """
    out_dir, notes = read.folder, read.notes
    _require_own_page(read.file(REPORT))
    participants, unread = _participants(out_dir)
    missing = [_empty_row(scan, participants, read) for scan in read.without_result]
    if not notes and not read.faults and not missing:
        raise MrharmonyError(
            f"{out_dir}: no harmonized scans with their JSON files here. "
            "Name the output folder of harmonize, bids or demo."
        )
    listed = read_list(out_dir, read.label)
    sites = {out_dir / scan.output: scan.site for scan in listed if scan.site}
    found = [_row(path, note, out_dir, participants) for path, note in notes.items()]
    placed = [
        replace(row, site=sites.get(path.with_suffix(".nii.gz"), row.site))
        for path, row in zip(notes, found, strict=True)
    ]
    rows = _looked_at(placed, read)
    damaged = {path: row.reason for path, row in zip(notes, rows, strict=True) if row.status == "damaged"}
    faults = {**read.faults, **unread}
    told = {name for scan in read.without_result for name in read.faults_of(scan)}
    lost = {name: fault for name, fault in faults.items() if name not in told}
    scanned = {scan.participant for scan in listed}
    without = sorted(f"sub-{label}" for label in set(participants) - scanned) if listed else []
    return LookedAt(read.with_damaged(damaged), (*missing, *rows), faults, lost, tuple(without))


def write_page(seen: LookedAt) -> WrittenReport:
    """Write the page of a folder; raises `MrharmonyError` if it cannot be written."""
    read, page = seen.read, seen.read.file(REPORT)
    links = [("prepared scans", INDEX)] if is_own_page(read.folder / INDEX, INDEX_TITLE) else []
    links += [("table", read.file(TABLE).name)] if read.file(TABLE).is_file() else []
    title = f"{_TITLE}: {read.folder.resolve().name}{f' to {read.label}' if read.label else ''}"
    write_text(
        page, group_page(title, seen.rows, judge_group(seen.rows), links, seen.lost, seen.without_scan)
    )
    remarks = {row.name: row.remark for row in seen.rows if row.remark not in ("", NOT_CHOSEN)}
    verdicts = Counter(row.verdict for row in seen.rows if row.verdict)
    return WrittenReport(page, dict(sorted(verdicts.items())), {**remarks, **seen.faults})


def _require_own_page(page: Path) -> None:
    """Raise `MrharmonyError` where a page of this name is not one that `write_report` wrote."""
    if os.path.lexists(page) and not is_own_page(page, f"{_TITLE}: "):
        raise MrharmonyError(
            f"{page}: mrharmony did not write it, and would replace it. Move it, then call again."
        )


def write_citation(read: Derivatives) -> None:
    """Write the methods text and its references on the harmonized scans of a folder, if any."""
    if notes := list(read.notes.values()):
        write_text(read.file(CITATION), methods_text(notes, len(read.without_result)))
        write_text(read.file(BIBLIOGRAPHY), bibliography(notes))


def judge_group(rows: Sequence[GroupRow]) -> Judgement:
    """Return whether sites came nearer and what was kept, from the rows measured before and after.

    The numbers in the judgement are those of the rows that have a result. A site of which none was measured
    counts as one without persons.
    """
    done = [row for row in rows if row.status == "done"]
    if several := _several(done):
        return Judgement(None, f"Nothing can be said: {several}. Write a page on a folder of each.", None)
    pairs = [
        (number, row, row.measured.before, row.measured.after)
        for number, row in enumerate(done)
        if row.measured and row.measured.before and row.site != UNKNOWN_SITE
    ]
    if not pairs:
        known = any(row.site != UNKNOWN_SITE for row in done)
        lack = "has both its source and its output here" if known or not done else "has a known site"
        return Judgement(None, f"Nothing can be said: no scan {lack}.", None)
    numbers, measured, before, after = map(list, zip(*pairs, strict=True))
    kept = _kept(measured, before, after)
    sites, subjects = [row.site for row in measured], [row.subject for row in measured]
    every_site = {row.site for row in rows} - {UNKNOWN_SITE}
    try:
        effect = site_effect(before, after, sites, subjects, every_site)
    except MrharmonyError as error:
        return Judgement(None, str(error), kept)
    return Judgement(renumbered(effect, numbers), "", kept)


def _several(rows: Sequence[GroupRow]) -> str:
    """Return in what the scans were harmonized differently, in words; empty where all were alike."""
    made = [dict(row.provenance) for row in rows]
    kinds = {
        "to several targets": {row.target for row in rows},
        "by several methods": {one.get("method", "") for one in made},
        "with several models, SHA-256": {one.get("SHA-256", "") for one in made},
    }
    how = next((how for how, found in kinds.items() if len(found) > 1), None)
    return f"the scans were harmonized {how} ({some_of(sorted(kinds[how]))})" if how else ""


def _kept(
    rows: Sequence[GroupRow], before: Sequence[Measured], after: Sequence[Measured]
) -> tuple[Factor, ...]:
    """Return what age, sex and group explain; of each person counts the first scan that was changed."""
    changed = [bool(row.figures.get("mean_change", row.source != row.target)) for row in rows]
    best_last = sorted(range(len(rows)), key=lambda number: (changed[number], -number))
    some = sorted({rows[number].subject: number for number in best_last}.values())
    return tuple(
        factors(
            [before[number].fluid_ml for number in some],
            [after[number].fluid_ml for number in some],
            [rows[number].participant for number in some],
            [rows[number].site for number in some],
            [changed[number] for number in some],
        )
    )


def _sidecars(out_dir: Path) -> tuple[dict[Path, HarmonizedSidecar], dict[str, str]]:
    """Return the sidecars of harmonized scans, and the names of those that cannot be used with the reason.

    So are results without a sidecar, unless there are no others.
    """
    notes, faults = {}, {}
    for path in sorted(out_dir.rglob("*.json")):
        if is_kept(path.relative_to(out_dir)):
            continue
        name = str(path.relative_to(out_dir))
        try:
            if note := read_harmonized(path):
                notes[path] = note
            elif label_in(path) is not None:
                faults[name] = "cannot be read. Harmonize the scan again."
        except MrharmonyError as error:
            faults[name] = str(error).removeprefix(f"{path}: ")
    if notes or faults:
        images = (path for path in sorted(out_dir.rglob("*_T1w.nii.gz")) if label_in(path) is not None)
        lone = (path for path in images if not os.path.lexists(sidecar_path(path)))
        faults |= {str(path.relative_to(out_dir)): _LONE for path in lone}
    return notes, faults


def _participants(out_dir: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return what the copied table knows of each subject, and why it cannot be used if it is there."""
    table = out_dir / PARTICIPANTS
    if not table.is_file():
        return {}, {}
    try:
        known = read_participants(table)
        return {subject: known.row(subject, None) or {} for subject in known.rows}, {}
    except MrharmonyError as error:
        return {}, {table.name: str(error).removeprefix(f"{table}: ")}


def _empty_row(
    scan: ScanStatus, participants: Mapping[str, Mapping[str, str]], read: Derivatives
) -> GroupRow:
    """Return the row of a scan that has no result; a remark tells of one that is spoilt or gone."""
    name = output_stem(Path(scan.listed.scan))
    site = scan.listed.site or _whose(name, participants)[1] or UNKNOWN_SITE
    reason = scan.reason or "no run was asked for it."
    spoilt = scan.status in ("missing", "damaged") and not read.faults_of(scan)
    return GroupRow(name, scan.listed.participant, site, scan.status, reason, remark=reason if spoilt else "")


def _row(
    path: Path, note: HarmonizedSidecar, out_dir: Path, participants: Mapping[str, Mapping[str, str]]
) -> GroupRow:
    """Return what a sidecar says of its scan."""
    stem = result_stem(path)
    subject, site = _whose(stem, participants)
    image = path.with_suffix(".nii.gz")
    title, own, preparation = scan_name(image, note), page_path(image), PreparedFiles(path.parent, stem).page
    links = [("preparation", _address(preparation, out_dir))] if is_own_page(preparation, title) else []
    return GroupRow(
        name=stem,
        subject=subject,
        site=participants.get(subject, {}).get("site") or note.source or site or UNKNOWN_SITE,
        verdict=note.verdict,
        reasons=reasons_in_words(note),
        target=note.target,
        source=note.source,
        nearest=note.nearest_domain,
        distance=note.source_distance,
        figures={name: figure for name, figure in note.drift.items() if figure is not None},
        provenance=provenance(note),
        page=_address(own, out_dir) if is_own_page(own, title) else None,
        links=tuple(links),
        participant=participants.get(subject, {}),
    )


def _address(page: Path, out_dir: Path) -> str:
    return quote(os.fsencode(page.relative_to(out_dir).as_posix()))


def _whose(name: str, participants: Mapping[str, Mapping[str, str]]) -> tuple[str, str | None]:
    """Return the subject of a scan by its name, or the name itself, and its site by table or session."""
    labels = dict(part.split("-", 1) for part in name.split("_") if "-" in part)
    subject = labels.get("sub", name)
    return subject, participants.get(subject, {}).get("site") or labels.get("ses")


def _looked_at(rows: Sequence[GroupRow], read: Derivatives) -> list[GroupRow]:
    """Return the rows, which are in the order of the sidecars, with what the images of some show."""
    pictured, files = set(worth_a_picture(rows)), list(read.notes.items())
    chosen = worth_a_look(rows)
    pairs = [ImagePair(*files[number], number in pictured) for number in chosen]
    looks = look_once(pairs, read.folder)
    seen = dict(zip(chosen, looks, strict=True))
    return [
        _as_seen(row, look) if (look := seen.get(number)) else replace(row, remark=NOT_CHOSEN)
        for number, row in enumerate(rows)
    ]


def _as_seen(row: GroupRow, look: Look) -> GroupRow:
    """Return a row with what a look has shown; a damaged result has no verdict."""
    if look.damage:
        return replace(row, status="damaged", reason=look.damage, remark=look.damage, verdict=None)
    return replace(row, measured=look.measured, picture=look.picture, remark=look.remark)
