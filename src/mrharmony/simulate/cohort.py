"""Cohorts of virtual travelling heads: every head through every scanner, written as BIDS with the truth."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mrharmony
from mrharmony.progress import track
from mrharmony.scans import write_json
from mrharmony.simulate._cohort_files import (
    DESCRIPTION,
    participants_row,
    scan_path,
    scan_sidecar,
    sidecar_path,
    truth_path,
    truth_record,
    write_nifti,
    write_tables,
)
from mrharmony.simulate._cohort_plan import CohortPlan, make_plan
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.volume import MrharmonyError


def write_cohort(
    out_dir: Path | str,
    subjects: int,
    scanners: int | Sequence[str | Scanner],
    seed: int = 0,
    zoom: float = 2.0,
    *,
    pose: bool = True,
    anatomies: Sequence[Anatomy] = (),
) -> tuple[Path, ...]:
    """Write virtual travelling heads as a BIDS data set, with the truth under `derivatives/truth`.

    The same arguments give the same bytes. A run that was interrupted continues where it stopped.

    Parameters
    ----------
    out_dir
        New or empty folder, or one that the same call began.
    subjects
        How many heads, 1..999.
    scanners
        How many of the shipped scanners, or which: names, or scanners of your own.
    seed
        Of everything random, ≥ 0.
    zoom
        Voxel edge in mm, 0.7..5.
    pose
        Whether heads lie a little rotated and shifted in the scanner, as people do.
    anatomies
        Real people's anatomies (`segment_brain`) to base the heads on, in turn; the average if empty.

    Returns
    -------
    tuple of Path
        The scans, `sub-*/ses-*/anat/*_T1w.nii.gz`.

    Raises
    ------
    MrharmonyError
        If the folder holds something else, a scanner is unknown, or a number is out of range.
    """
    plan = make_plan(subjects, scanners, seed, zoom, pose, anatomies)
    root = Path(out_dir)
    _claim(root, plan)
    rows = [_write_subject(root, plan, index) for index in track(range(subjects), "simulating heads")]
    write_tables(root, rows, plan.scanners)
    return tuple(scan_path(root, index, scanner) for index in range(subjects) for scanner in plan.scanners)


def scanner_of_session(session: str, scanners: Sequence[Scanner] = ()) -> Scanner:
    """Return the scanner whose BIDS session label this is (`mprage3t` → `mprage-3t`).

    Parameters
    ----------
    session
        With or without `ses-`.
    scanners
        Where to look; the shipped scanners if empty.
    """
    known = {scanner.session: scanner for scanner in scanners or load_scanners().values()}
    label = session.removeprefix("ses-")
    if label not in known:
        raise MrharmonyError(f"no scanner has the session label {label!r}; known: {', '.join(sorted(known))}")
    return known[label]


def _claim(root: Path, plan: CohortPlan) -> None:
    """Begin the data set, or recognise it as begun by the same call."""
    path = root / DESCRIPTION
    record = {
        "Name": "Virtual travelling heads",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "mrharmony", "Version": mrharmony.__version__}],
        "Simulation": plan.record(),
    }
    if root.exists() and not root.is_dir():
        raise MrharmonyError(f"{root}: is a file; name a new or empty folder for the cohort")
    # A run killed at its very start may have left a hidden temporary file.
    if root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        if _read_json(path) != json.loads(json.dumps(record)):
            raise MrharmonyError(
                f"{root}: is not empty and is not this cohort unfinished; name a new or empty folder"
            )
        return
    write_json(path, record)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_subject(root: Path, plan: CohortPlan, index: int) -> dict[str, str]:
    """Write what is missing of a subject; its row of `participants.tsv`."""
    truth = truth_path(root, index)
    record = _read_json(sidecar_path(truth))
    todo = [s for s in plan.scanners if _read_json(sidecar_path(scan_path(root, index, s))) is None]
    if todo or record is None:
        head, pose = plan.head(index)
        for scanner in todo:
            # The scanner's own name seeds its noise, so that its scans do not depend on which others ran.
            rng = np.random.default_rng([plan.seed, index, zlib.crc32(scanner.name.encode())])
            volume = scan_head(head, scanner, rng)
            path = scan_path(root, index, scanner)
            write_nifti(path, volume.voxels, volume.affine)
            write_json(sidecar_path(path), scan_sidecar(scanner))
        record = truth_record(head, pose)
        write_nifti(truth, head.labels(), head.affine)
        write_json(sidecar_path(truth), record)
    return participants_row(index, record)
