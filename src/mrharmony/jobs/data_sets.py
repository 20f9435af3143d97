"""The data set of a command: opened, its scans chosen, DICOM folders converted, its derivatives described."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mrharmony.core.atomic import begin_json, read_json, write_bytes, write_json, write_text
from mrharmony.core.domain import find_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.pointers import content_missing, real_path
from mrharmony.scans.acquisition import harmonized_findings
from mrharmony.scans.bids import NO_SCAN, SESSION, SPLIT, BidsIndex, BidsScan
from mrharmony.scans.dicom import convert_dicom, is_dicom_folder
from mrharmony.scans.folders import IN_A_COPY, is_kind
from mrharmony.scans.names import BIDS_VERSION, DESCRIPTION, way_to
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.scans.sidecar import GENERATED_BY, RAW

SOURCE_FOLDER = "sourcedata"
HARMONIZATION = "Harmonization"  # its key with the setting that results are made with
NAMED = "HarmonizationTo"  # and with those of results that are named by their targets, by their labels
_NOT_BIDS = (
    "*_biasfield.nii.gz\n*_stdmap.*\n*_xfm.txt\n*_log.json\n"
    "*.html\ngroup*.tsv\nCITATION*\nlogs/\n.mrharmony-*\n"
)
# What derivatives have beside their images, and would replace in a folder that somebody else has begun.
_WRITTEN = (
    *(PARTICIPANTS, "participants.json", ".bidsignore", "descriptions.tsv", "descriptions.json"),
    *("index.html", "group.tsv", "CITATION.md", "CITATION.bib"),
)
_README = """# Derivatives of mrharmony

T1-weighted scans that mrharmony has prepared or harmonized; research use only. Each image lies on the grid
of its scan, and the JSON file beside it says how it was made. `descriptions.tsv` explains the names of the
files, `dataset_description.json` the settings, `logs/` what became of every scan of the data set.
"""
_DESCRIPTIONS = """desc_id\tdescription
desc-harmonized\tscan in the contrast of the target domain, on its own grid
desc-uncertainty\tstandard deviation of the harmonized intensities over several seeds
desc-brain\tmask of the brain, on the grid of the scan
desc-canonical\tbrain without receive field, in canonical units, rigidly aligned with the template
desc-volumecorrected\tthe canonical brain grown to the template's size
desc-receive\tmultiplicative receive field
desc-preparation\thow preparing the scan went
"""
_NAMED_DESCRIPTIONS = """\
desc-harmonizedTo{label}\tas desc-harmonized, with the target in the name
desc-uncertaintyTo{label}\tas desc-uncertainty, with the target in the name
"""
_COLUMNS: dict[str, object] = {
    "Description": "What the labels `desc-` in the names of the files stand for.",
    "desc_id": {"Description": "A label in the names of the files."},
    "description": {"Description": "What these files hold."},
}
Output = TypeVar("Output", bound=Hashable)


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


def open_source(
    source: Path,
    out_dir: Path,
    labels: Sequence[str],
    domain_column: str | None = None,
    series: str | int | None = None,
) -> BidsIndex:
    """Return the data set to prepare: a BIDS folder as it is, a DICOM folder converted to one.

    A DICOM folder is one examination of the participant that `labels` begin with, 01 if there is none; it
    goes to `sourcedata/sub-LABEL/anat` in `out_dir`; `series` names its T1w series where that is
    not clear. `domain_column` is of a BIDS folder, as in `BidsIndex.open`. Raises
    `MrharmonyError` if the data set cannot be opened or converted, or the label is not a BIDS label.
    """
    if not is_dicom_folder(source):
        if series is not None:
            raise MrharmonyError(f"{source}: is not a DICOM folder. Leave the series out.")
        return open_data_set(source, domain_column, chosen=bool(labels))
    label = (labels[0] if labels else "01").removeprefix("sub-")
    if not (label.isascii() and label.isalnum()):
        raise MrharmonyError(f"{label!r}: BIDS labels have letters and digits only. Choose another label.")
    name = f"sub-{label}"
    root = out_dir / SOURCE_FOLDER
    convert_dicom(source, root / name / "anat" / f"{name}_T1w.nii.gz", series)
    return BidsIndex.open(root, SESSION)


def plan_conversions(paths: Sequence[Path], output: Path) -> tuple[list[Path], dict[Path, Path]]:
    """Return the scan files that scans and DICOM folders become, and the DICOM folder of those to convert.

    They go to the folder of the output as `sub-01_T1w.nii.gz`, `sub-02_…`: the names of DICOM folders often
    name the patient. Nothing is done yet.
    """
    folder = output.parent if output.name.endswith(".nii.gz") else output
    examinations = [path for path in paths if is_dicom_folder(path)]
    names = {
        path: folder / f"sub-{number:02d}_T1w.nii.gz" for number, path in enumerate(examinations, start=1)
    }
    return [names.get(path, path) for path in paths], {scan: path for path, scan in names.items()}


def convert_planned(
    conversions: Mapping[Path, Path], series: str | int | None = None
) -> dict[Path, MrharmonyError]:
    """Convert DICOM folders, by the scan file to make; returns why those failed that could not be converted.

    `series` names the T1w series where it is not clear; without DICOM folders it is refused.
    """
    if series is not None and not conversions:
        raise MrharmonyError("A series is chosen, but no DICOM folder is given. Leave the series out.")
    failed = {}
    for scan, folder in conversions.items():
        try:
            convert_dicom(folder, scan, series)
        except MrharmonyError as error:
            failed[scan] = error
    return failed


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


def begin_derivatives(
    index: BidsIndex, out_dir: Path, name: str, details: Mapping[str, object] | None = None
) -> None:
    """Describe a folder of derivatives for BIDS.

    `details` are further keys of its description. The tables that name the domains are copied; a README is
    written where there is none. Raises as `earlier_description`.
    """
    earlier = earlier_description(index, out_dir)
    kept = {key: earlier[key] for key in (HARMONIZATION, NAMED) if key in earlier}
    description = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "License": "n/a",
        "GeneratedBy": [program.record() for program in GENERATED_BY],
        "SourceDatasets": [{"URL": way_to(index.root, out_dir)}],
        "DatasetLinks": {RAW: way_to(index.root, out_dir)},
    }
    authors = (read_json(index.root / DESCRIPTION) or {}).get("Authors")
    if isinstance(authors, list):
        description["Authors"] = authors
    description |= kept | dict(details or {})
    if not earlier:  # runs on other data sets may begin in the same folder: the first of them has it
        begin_json(out_dir / DESCRIPTION, description)
        earlier_description(index, out_dir)
    write_json(out_dir / DESCRIPTION, description)
    write_text(out_dir / ".bidsignore", _NOT_BIDS)
    named = "".join(_NAMED_DESCRIPTIONS.format(label=label) for label in labels_in(description) if label)
    write_text(out_dir / "descriptions.tsv", _DESCRIPTIONS + named)
    write_json(out_dir / "descriptions.json", _COLUMNS)
    if not (out_dir / "README.md").exists():
        write_text(out_dir / "README.md", _README)
    sessions = {f"sub-{scan.subject}/sub-{scan.subject}_sessions.tsv" for scan in index.scans}
    for table in (PARTICIPANTS, "participants.json", *sessions):
        _copy_table(index.root / table, out_dir / table)


def with_outputs(index: BidsIndex, output: Callable[[BidsScan], Output]) -> list[tuple[BidsScan, Output]]:
    """Return the scans of a data set, each with its output; raises `MrharmonyError` if two have the same."""
    pairs = [(scan, output(scan)) for scan in index.scans]
    owners: dict[Output, Path] = {}
    for scan, result in pairs:
        other = owners.setdefault(result, scan.path)
        if other != scan.path:
            raise MrharmonyError(
                f"{scan.path}: has the name of {other}, and so would their results. "
                f"Give each its own name {IN_A_COPY}."
            )
    return pairs


def setting_of(description: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the setting of a folder's results whose names have this label of a target; empty if none."""
    made = _named(description).get(label) if label else description.get(HARMONIZATION)
    return made if isinstance(made, dict) else {}


def with_setting(description: Mapping[str, Any], label: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Return what a folder's description says of results when those of this label and setting are added."""
    return {NAMED: _named(description) | {label: setting}} if label else {HARMONIZATION: setting}


def labels_in(description: Mapping[str, Any]) -> list[str]:
    """Return the labels of a folder's targets; the empty one stands for results without a label.

    It is among them where the folder has such results, and where it has no others.
    """
    named = sorted(_named(description))
    return [*([""] if HARMONIZATION in description or not named else []), *named]


def _named(description: Mapping[str, Any]) -> dict[str, Any]:
    named = description.get(NAMED)
    return named if isinstance(named, dict) else {}


def earlier_description(index: BidsIndex, out_dir: Path) -> dict[str, Any]:
    """Return what describes a folder of derivatives; nothing where it is new.

    Raises `MrharmonyError` where it is the folder of the scans, lies in a subject's or is a file, mrharmony
    did not write its description or other files of these names, or it has derivatives of another data set.
    """
    if real_path(out_dir) == real_path(index.root):
        raise MrharmonyError(
            f"{out_dir}: holds the scans. Name another, such as {out_dir}/derivatives/mrharmony."
        )
    inside = Path(os.path.relpath(real_path(out_dir), real_path(index.root))).parts
    if inside[0].startswith("sub-"):
        raise MrharmonyError(
            f"{out_dir}: lies in the folder of {inside[0]}. Name another, such as "
            f"{index.root}/derivatives/mrharmony."
        )
    if out_dir.exists() and not out_dir.is_dir():
        raise MrharmonyError(f"{out_dir}: is a file. Name a folder for the derivatives.")
    path = out_dir / DESCRIPTION
    content = read_json(path)
    if content is None and not path.exists():
        _require_none_of_ours(out_dir)
        return {}
    programs = content.get("GeneratedBy") if content else None
    programs = programs if isinstance(programs, list) else []
    named = [program.get("Name") for program in programs if isinstance(program, dict)]
    links = content.get("DatasetLinks") if content else None
    link = links.get(RAW) if isinstance(links, dict) else None  # a virtual cohort of mrharmony has none
    if content is None or GENERATED_BY[0].name not in named or not isinstance(link, str):
        raise MrharmonyError(
            f"{path}: is damaged, or describes another data set. Name a folder for mrharmony alone, such as "
            f"{out_dir}/mrharmony."
        )
    _require_same_data_set(index, out_dir, link)
    return content


def _require_none_of_ours(out_dir: Path) -> None:
    """Raise `MrharmonyError` where a folder that mrharmony has not begun has a file that it would write."""
    taken = next((name for name in _WRITTEN if os.path.lexists(out_dir / name)), None)
    if taken:
        raise MrharmonyError(
            f"{out_dir / taken}: mrharmony did not write it, and would replace it. "
            f"Name a folder for mrharmony alone, such as {out_dir}/mrharmony."
        )


def _require_same_data_set(index: BidsIndex, out_dir: Path, link: str) -> None:
    """Raise `MrharmonyError` where a folder has derivatives of another data set, which lies elsewhere.

    One that has moved, or a copy of it, to which scans may have been added, is the same.
    """
    if real_path(out_dir / link) == real_path(index.root):
        return
    try:
        other = BidsIndex.open(out_dir / link, None)
    except MrharmonyError:  # nothing is there any more
        return
    if not _sizes(other).items() <= _sizes(index).items():
        raise MrharmonyError(
            f"{out_dir}: has derivatives of another data set, {os.path.normpath(out_dir / link)}. "
            f"Name another folder for those of {index.root}."
        )


def _sizes(index: BidsIndex) -> dict[Path, int]:
    """Return the sizes of the scans of a data set whose content is here, by their places in it."""
    here = (scan.path for scan in index.scans if is_kind(scan.path, stat.S_ISREG))
    return {path.relative_to(index.root): path.stat().st_size for path in here}


def _copy_table(source: Path, copy: Path) -> None:
    """Copy a table where its content is here and the copy is not the same already."""
    if source.is_file() and not content_missing(source):
        content = source.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            write_bytes(copy, content)
