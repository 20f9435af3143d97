"""Cohorts of virtual travelling heads: every head through every scanner, written as BIDS with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrharmony.progress import track
from mrharmony.simulate._cohort_files import scan_path, subject_label, write_tables
from mrharmony.simulate._cohort_plan import make_plan
from mrharmony.simulate._cohort_records import volume_columns
from mrharmony.simulate._cohort_writing import claim, write_subject
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner, load_scanners
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
    claim(root, plan.record())
    rows = []
    for index in track(range(subjects), "simulating heads"):
        truth = write_subject(root, plan.seed, index, plan.scanners, plan.head)
        rows.append(_row(index, truth))
    write_tables(root, rows, [plan.scanners] * subjects, "Every head was scanned by every scanner.")
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


def _row(index: int, truth: dict[str, Any]) -> dict[str, str]:
    scale = {"ventricle_scale": f"{truth['VentricleScale']:.4f}"}
    return {"participant_id": subject_label(index)} | scale | volume_columns(truth)
