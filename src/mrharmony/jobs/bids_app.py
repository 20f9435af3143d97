"""A whole BIDS data set into BIDS derivatives, resumable; the BIDS-App interface."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from mrharmony.core.atomic import write_bytes, write_json, write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.progress import track
from mrharmony.core.version import __version__
from mrharmony.jobs.brains import ScanFile, saved_sha256
from mrharmony.jobs.harmonizing import (
    SUFFIX,
    HarmonizeJob,
    Outcome,
    discard_result,
    harmonize_scan,
    uncertainty_path,
)
from mrharmony.networks.diffusion.model import ModelCard
from mrharmony.prepare.saved import VERSION, read_note
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.names import output_stem, sidecar_path

GROUP_TABLE = "group.tsv"
TEXT_COLUMNS = ("source", "target", "method", "verdict")
DRIFT_COLUMNS = (
    "edge_correlation",
    "csf_drift",
    "grey_drift",
    "white_drift",
    "mean_change",
    "new_structure",
    "lost_structure",
    "target_distance",
)


def run_participants(
    index: BidsIndex, out_dir: Path, labels: Sequence[str] | None, job: HarmonizeJob, card: ModelCard
) -> list[Outcome]:
    """Harmonize every scan of a data set; what an earlier run with the same settings finished is kept.

    A result of an earlier run with others goes where its scan is refused now, so that all that is there is
    of one kind.

    Parameters
    ----------
    index
        The data set.
    out_dir
        Directory of the derivatives.
    labels
        Only these participants, with or without `sub-`; all if empty.
    job
        The method and the target; each scan's source is its domain where the model knows it.
    card
        Of the model, for the domains that it knows.

    Raises
    ------
    MrharmonyError
        The directory is that of the scans, a label is unknown, or two scans have the same name.
    """
    require_apart(index.root, out_dir)
    scans = wanted_scans(index, labels)
    outputs = [_output(scan, out_dir) for scan in scans]
    require_own_names([(scan.path, output) for scan, output in zip(scans, outputs, strict=True)])
    describe(index.root, out_dir, "mrharmony")
    outcomes = []
    for scan, output in track(list(zip(scans, outputs, strict=True)), "harmonizing"):
        own = replace(job, source=card.find(scan.domain) if scan.domain else None)
        outcome = _finished(scan.path, output, own) or harmonize_scan(own, scan.path, output)
        if outcome.output is None and not _is_result(scan.path, output, own):
            discard_result(output)
        outcomes.append(outcome)
    return outcomes


def run_group(out_dir: Path) -> Path:
    """Write a table with a line for each harmonized scan below `out_dir`; returns its path.

    Raises
    ------
    MrharmonyError
        If there are no harmonized scans.
    """
    sidecars = sorted(out_dir.glob("sub-*/**/*" + SUFFIX.replace(".nii.gz", ".json")))
    if not sidecars:
        raise MrharmonyError(f"{out_dir}: no harmonized scans here. Run the participant level first.")
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["scan", *TEXT_COLUMNS, *DRIFT_COLUMNS])
    for path in sidecars:
        note = read_note(path)
        drift = note.get("Drift", {})
        texts = [note.get(column.capitalize()) or "n/a" for column in TEXT_COLUMNS]
        writer.writerow([path.stem, *texts, *(drift.get(column, "n/a") for column in DRIFT_COLUMNS)])
    table = out_dir / GROUP_TABLE
    write_text(table, text.getvalue())
    return table


def require_apart(root: Path, out_dir: Path) -> None:
    """Refuse to write derivatives among the scans.

    Raises
    ------
    MrharmonyError
        If both folders are the same.
    """
    if out_dir.resolve() == root.resolve():
        raise MrharmonyError(
            f"{out_dir}: holds the scans. Name another folder, such as {out_dir}/derivatives/mrharmony."
        )


def require_own_names(outputs: Sequence[tuple[Path, Hashable]]) -> None:
    """Refuse scans that would share what is written of them.

    Parameters
    ----------
    outputs
        Each scan, and what is written of it.

    Raises
    ------
    MrharmonyError
        If two scans have the same.
    """
    owners: dict[Hashable, Path] = {}
    for scan, output in outputs:
        other = owners.setdefault(output, scan)
        if other != scan:
            raise MrharmonyError(f"{scan}: has the name of {other}. Remove or rename one of the two.")


def wanted_scans(index: BidsIndex, labels: Sequence[str] | None) -> list[BidsScan]:
    """Return the scans of some participants, with or without `sub-`, or of all if none is named.

    Raises
    ------
    MrharmonyError
        If a participant has no scan.
    """
    wanted = {label.removeprefix("sub-") for label in labels or ()}
    missing = wanted - {scan.subject for scan in index.scans}
    if missing:
        raise MrharmonyError(f"sub-{min(missing)}: no T1w scan of this participant. Check the label.")
    return [scan for scan in index.scans if not wanted or scan.subject in wanted]


def _output(scan: BidsScan, out_dir: Path) -> Path:
    folders = [f"sub-{scan.subject}", *([f"ses-{scan.session}"] if scan.session else []), "anat"]
    return out_dir.joinpath(*folders, output_stem(scan.path) + SUFFIX)


def _finished(scan: Path, output: Path, job: HarmonizeJob) -> Outcome | None:
    """Return the outcome of an earlier run if its sidecar says that the same was done.

    A scan that was written by force is done again without: it will be refused.
    """
    note, wanted = read_note(sidecar_path(output)), [output]
    if job.uncertainty:
        wanted.append(uncertainty_path(output))
    whole = all(path.is_file() for path in wanted) and ("MeanUncertainty" in note or not job.uncertainty)
    refused = note.get("Verdict") == "fail" and not job.force
    if refused or not whole or not _is_result(scan, output, job):
        return None
    return Outcome(scan, output, note["Verdict"], None, ())


def _is_result(scan: Path, output: Path, job: HarmonizeJob) -> bool:
    """Whether a sidecar says that its image was made of this very scan in this very way.

    A scan that cannot be read any more counts as the same.
    """
    note = read_note(sidecar_path(output))
    if "Verdict" not in note:
        return False
    sha256 = _sha256(scan)
    same = {
        "Source": job.source.name if job.source else None,
        "Target": job.target.name,
        "Method": job.harmonizer.name,
        "ModelSHA256": job.provenance["ModelSHA256"],
        "Seed": job.provenance["Seed"],
        "Sampling": job.provenance["Sampling"],
        "DetailTransfer": job.provenance["DetailTransfer"],
        "Preparation": saved_sha256(ScanFile(scan, prepared=job.prepared), sha256),
        "ProgramVersion": VERSION,
        "SourceSHA256": sha256 or note.get("SourceSHA256"),
    }
    return all(note.get(key) == value for key, value in same.items())


def _sha256(scan: Path) -> str | None:
    try:
        return file_sha256(scan)
    except MrharmonyError:
        return None


def describe(root: Path, out_dir: Path, name: str) -> None:
    """Write what a folder of derivatives is, and copy the table that tells the domains.

    Parameters
    ----------
    root
        The data set.
    out_dir
        The folder; made where missing.
    name
        Of the derivatives.
    """
    description = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mrharmony", "Version": __version__}],
    }
    write_json(out_dir / "dataset_description.json", description)
    for table in ("participants.tsv", "participants.json"):
        if (root / table).is_file():
            write_bytes(out_dir / table, (root / table).read_bytes())
