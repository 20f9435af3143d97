"""A folder of derivatives: what describes it for BIDS, and whose results may lie in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mrharmony.core.atomic import begin_json, read_json, write_bytes, write_json, write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.pointers import content_missing, real_path
from mrharmony.jobs.data_sets import readable_sha256
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.folders import IN_A_COPY, is_kind
from mrharmony.scans.names import BIDS_VERSION, DESCRIPTION, way_to
from mrharmony.scans.participants import PARTICIPANTS
from mrharmony.scans.sidecar import GENERATED_BY, RAW

# Keys of `dataset_description.json`: how results are made, and how those that are named by their targets are,
# by the labels of these.
HARMONIZATION, HARMONIZATION_TO = "Harmonization", "HarmonizationTo"
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


def begin_derivatives(
    index: BidsIndex, out_dir: Path, name: str, details: Mapping[str, object] | None = None
) -> None:
    """Describe a folder of derivatives for BIDS.

    `details` are further keys of its description. The tables that name the domains are copied; a README is
    written where there is none. Raises as `earlier_description`.
    """
    earlier = earlier_description(index, out_dir)
    kept = {key: earlier[key] for key in (HARMONIZATION, HARMONIZATION_TO) if key in earlier}
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
    return {HARMONIZATION_TO: _named(description) | {label: setting}} if label else {HARMONIZATION: setting}


def labels_in(description: Mapping[str, Any]) -> list[str]:
    """Return the labels of a folder's targets; the empty one stands for results without a label.

    It is among them where the folder has such results, and where it has no others.
    """
    named = sorted(_named(description))
    return [*([""] if HARMONIZATION in description or not named else []), *named]


def _named(description: Mapping[str, Any]) -> dict[str, Any]:
    named = description.get(HARMONIZATION_TO)
    return named if isinstance(named, dict) else {}


def require_place_beside_scans(root: Path, out_dir: Path) -> None:
    """Raise `MrharmonyError` where an output is the folder of the scans, lies in a subject's or is a file."""
    beside = root / "derivatives" / "mrharmony"
    if real_path(out_dir) == real_path(root):
        raise MrharmonyError(f"{out_dir}: holds the scans. Name another, such as {beside}.")
    inside = Path(os.path.relpath(real_path(out_dir), real_path(root))).parts
    if inside[0].startswith("sub-"):
        raise MrharmonyError(f"{out_dir}: lies in the folder of {inside[0]}. Name another, such as {beside}.")
    if out_dir.exists() and not out_dir.is_dir():
        raise MrharmonyError(f"{out_dir}: is a file. Name a folder for the derivatives.")


def earlier_description(index: BidsIndex, out_dir: Path) -> dict[str, Any]:
    """Return what describes a folder of derivatives; nothing where it is new.

    Raises `MrharmonyError` where it is the folder of the scans, lies in a subject's or is a file, mrharmony
    did not write its description or other files of these names, or it has derivatives of another data set.
    """
    require_place_beside_scans(index.root, out_dir)
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

    One that has moved, or a copy of it, to which scans may have been added, is the same. Scans of one
    protocol have equal sizes, and studies equal labels, so that the content of a few scans is compared too.
    """
    if real_path(out_dir / link) == real_path(index.root):
        return
    try:
        other = BidsIndex.open(out_dir / link, None)
    except MrharmonyError:  # nothing is there any more
        return
    sizes = _sizes(other)
    if not sizes.items() <= _sizes(index).items() or _contents_differ(other.root, index.root, [*sizes]):
        raise MrharmonyError(
            f"{out_dir}: has derivatives of another data set, {os.path.normpath(out_dir / link)}. "
            f"Name another folder for those of {index.root}."
        )


def _sizes(index: BidsIndex) -> dict[Path, int]:
    """Return the sizes of the scans of a data set whose content is here, by their places in it."""
    here = (scan.path for scan in index.scans if is_kind(scan.path, stat.S_ISREG))
    return {path.relative_to(index.root): path.stat().st_size for path in here}


def _contents_differ(root: Path, other: Path, places: Sequence[Path]) -> bool:
    """Whether scans at the same places in two data sets differ, by those of three people at most.

    To read all scans of a large study would take minutes at the start of every run. A scan that cannot be
    read now says nothing.
    """
    people = [*{place.parts[0]: place for place in places}.values()]
    chosen = {people[0], people[len(people) // 2], people[-1]} if people else ()
    hashes = ((readable_sha256(root / place), readable_sha256(other / place)) for place in chosen)
    return any(None not in pair and pair[0] != pair[1] for pair in hashes)


def _copy_table(source: Path, copy: Path) -> None:
    """Copy a table where its content is here and the copy is not the same already."""
    if source.is_file() and not content_missing(source):
        content = source.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            write_bytes(copy, content)
