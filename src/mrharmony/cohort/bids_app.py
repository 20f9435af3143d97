"""A whole BIDS data set into BIDS derivatives, resumable; the BIDS-App interface."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrharmony import __version__
from mrharmony.cohort.harmonizing import SUFFIX, HarmonizeJob, Outcome, harmonize_scan, uncertainty_path
from mrharmony.cohort.preparing import ScanFile, saved_sha256
from mrharmony.latent import ModelCard
from mrharmony.progress import track
from mrharmony.scans import BidsIndex, BidsScan, output_stem, write_json
from mrharmony.volume import MrharmonyError

GROUP_TABLE = "group.tsv"
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
    """
    scans = wanted_scans(index, labels)
    describe(out_dir, "mrharmony")
    outcomes = []
    for scan in track(scans, "harmonizing"):
        own = replace(job, source=card.find(scan.domain) if scan.domain else None)
        output = _output(scan, out_dir)
        outcomes.append(_finished(scan.path, output, own) or harmonize_scan(own, scan.path, output))
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
    table = out_dir / GROUP_TABLE
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(["scan", "source", "target", "method", "verdict", *DRIFT_COLUMNS])
        for path in sidecars:
            note = json.loads(path.read_text("utf-8"))
            figures = [note["Drift"].get(column, "n/a") for column in DRIFT_COLUMNS]
            source = note["Source"] or "n/a"
            writer.writerow([path.stem, source, note["Target"], note["Method"], note["Verdict"], *figures])
    return table


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
    note_path = output.with_name(output.name.replace(".nii.gz", ".json"))
    wanted = [output, note_path, *([uncertainty_path(output)] if job.uncertainty else [])]
    if not all(path.is_file() for path in wanted):
        return None
    note: dict[str, Any] = json.loads(note_path.read_text("utf-8"))
    same = {
        "Source": job.source.name if job.source else None,
        "Target": job.target.name,
        "Method": job.harmonizer.name,
        "ModelSHA256": job.provenance["ModelSHA256"],
        "Seed": job.provenance["Seed"],
        "Sampling": job.provenance["Sampling"],
        "DetailTransfer": job.provenance["DetailTransfer"],
        "Preparation": saved_sha256(ScanFile(scan, prepared=job.prepared)),
    }
    refused = note["Verdict"] == "fail" and not job.force
    if refused or any(note.get(key) != value for key, value in same.items()):
        return None
    return Outcome(scan, output, note["Verdict"], None, ())


def describe(out_dir: Path, name: str) -> None:
    """Write the `dataset_description.json` of a folder of derivatives; the folder is made where missing."""
    description = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mrharmony", "Version": __version__}],
    }
    write_json(out_dir / "dataset_description.json", description)
