"""Files of a virtual cohort (BIDS): where they lie, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import mrharmony
from mrharmony.scans import write_json
from mrharmony.scans.atomic import staged, write_text
from mrharmony.scans.writing import write_gzip
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.tissues import TISSUES
from mrharmony.volume import Matrix

COMPRESSION_LEVEL = 3  # labels and zeros compress well
DESCRIPTION = "dataset_description.json"
LABELS = (*TISSUES, "WM lesion")
TRUTH = Path("derivatives", "truth")
README = """Virtual heads, simulated by mrharmony.

{what}

Scans are skull-stripped brains: intensities outside the brain are 0. `derivatives/truth` holds each head's
tissue labels (on the grid of its scans), tissue volumes, known factors (ventricle scale, cortical thinning,
white-matter lesions), and the rigid transform from the scanner's millimetres to the template's. A session's
label is the scanner's name without punctuation; its name is in the sidecar (`Scanner`) and in
`sub-*_sessions.tsv`.
"""


def subject_label(index: int) -> str:
    """Return the label of subject number `index` ≥ 0: `sub-001`, …"""
    return f"sub-{index + 1:03d}"


def scan_path(root: Path, index: int, scanner: Scanner) -> Path:
    """Return where a subject's scan on a scanner lies."""
    subject, session = subject_label(index), f"ses-{scanner.session}"
    return root / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz"


def truth_path(root: Path, index: int) -> Path:
    """Return where a subject's tissue labels lie."""
    return _labels_path(root, subject_label(index))


def true_brain(root: Path, subject: str) -> Path | None:
    """Return the file of a virtual head's true tissues, which is its brain mask too.

    Parameters
    ----------
    root
        A BIDS folder, virtual or not.
    subject
        Label of the subject, without `sub-`.

    Returns
    -------
    Path or None
        None for a real subject.
    """
    path = _labels_path(root, f"sub-{subject}")
    return path if path.is_file() else None


def _labels_path(root: Path, label: str) -> Path:
    return root / TRUTH / label / "anat" / f"{label}_dseg.nii.gz"


def write_nifti(path: Path, voxels: NDArray[np.generic], affine: Matrix) -> None:
    """Write a volume atomically, in scanner coordinates; the same voxels give the same bytes."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)

    with staged(path) as file:
        file.fill(lambda stream: write_gzip(stream, image, COMPRESSION_LEVEL))
        file.commit()


def write_tables(
    root: Path, rows: Sequence[dict[str, str]], visits: Sequence[Sequence[Scanner]], what: str
) -> None:
    """Write the tables and descriptions of a finished cohort.

    Parameters
    ----------
    root
        The cohort's folder.
    rows
        Of `participants.tsv`, one a subject.
    visits
        The scanners that each subject visited.
    what
        A sentence for the README: who was scanned where.
    """
    write_tsv(root / "participants.tsv", rows)
    for row, scanners in zip(rows, visits, strict=True):
        subject = row["participant_id"]
        sessions = [{"session_id": f"ses-{s.session}", "scanner": s.name} for s in scanners]
        write_tsv(root / subject / f"{subject}_sessions.tsv", sessions)
    labels = [{"index": str(number), "name": name} for number, name in enumerate(LABELS, start=1)]
    write_tsv(root / TRUTH / "dseg.tsv", labels)
    write_text(root / "README", README.format(what=what))
    write_json(
        root / TRUTH / DESCRIPTION,
        {
            "Name": "Truth of the virtual heads",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "mrharmony", "Version": mrharmony.__version__}],
        },
    )


def write_tsv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows with the same keys as a tab-separated table, atomically."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    write_text(path, "".join("\t".join(line) + "\n" for line in lines))
