"""Names and contents of the files of a virtual cohort (BIDS)."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import mrharmony
from mrharmony.scans import write_json
from mrharmony.scans.atomic import staged
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.signal import TISSUES, Mprage
from mrharmony.volume import Matrix

DESCRIPTION = "dataset_description.json"
TRUTH = Path("derivatives", "truth")
README = """Virtual travelling heads, simulated by mrharmony: every head was scanned by every scanner.

Scans are skull-stripped brains: intensities outside the brain are 0. `derivatives/truth` holds each head's
tissue labels (on the grid of its scans), tissue volumes, ventricle scale, and the rigid transform from the
scanner's millimetres to the template's. A session's label is the scanner's name without punctuation; its name
is in the sidecar (`Scanner`) and in `sub-*_sessions.tsv`.
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
    subject = subject_label(index)
    return root / TRUTH / subject / "anat" / f"{subject}_dseg.nii.gz"


def sidecar_path(path: Path) -> Path:
    """Return where the JSON beside an image lies."""
    return path.with_name(path.name.replace(".nii.gz", ".json"))


def write_nifti(path: Path, voxels: NDArray[np.generic], affine: Matrix) -> None:
    """Write a volume atomically, in scanner coordinates; the same voxels give the same bytes."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)

    def write(stream: BinaryIO) -> None:
        with gzip.GzipFile("", "wb", 3, stream, mtime=0) as compressed:
            image.to_stream(compressed)

    with staged(path) as file:
        file.fill(write)
        file.commit()


def scan_sidecar(scanner: Scanner) -> dict[str, Any]:
    """Return a scan's JSON sidecar; times in seconds as BIDS has them."""
    sequence = scanner.sequence
    sidecar: dict[str, Any] = {
        "Modality": "MR",
        "Scanner": scanner.name,
        "ScannerDescription": scanner.description,
        "MagneticFieldStrength": scanner.field_strength,
        "MRAcquisitionType": "3D",
        "EchoTime": sequence.echo_time_ms / 1000,
        "FlipAngle": sequence.flip_angle_deg,
        "SkullStripped": True,
        "Simulated": True,
    }
    if isinstance(sequence, Mprage):
        timing = {
            "ScanningSequence": "GR_IR",
            "RepetitionTimePreparation": sequence.repetition_time_ms / 1000,
            "RepetitionTimeExcitation": sequence.echo_spacing_ms / 1000,
            "InversionTime": sequence.inversion_time_ms / 1000,
        }
    else:
        timing = {"ScanningSequence": "GR", "RepetitionTimeExcitation": sequence.repetition_time_ms / 1000}
    return sidecar | timing


def truth_record(head: Anatomy, pose: Matrix) -> dict[str, Any]:
    """Return what is known of a head beside its labels, as JSON; `pose` is scanner mm to template mm."""
    litres = float(abs(np.linalg.det(head.affine[:3, :3]))) / 1000
    csf, cortex, white, deep = (float(share) * litres for share in head.tissues.sum((1, 2, 3), np.float64))
    return {
        "VentricleScale": head.ventricle_scale,
        "VolumesMl": {
            "Ventricles": head.ventricle_volume_ml,
            "CSF": csf,
            "CorticalGM": cortex,
            "WM": white,
            "DeepGM": deep,
        },
        "ScannerToTemplate": pose.tolist(),
    }


def participants_row(index: int, truth: dict[str, Any]) -> dict[str, str]:
    """Return a subject's row of `participants.tsv` from its truth record."""
    volumes = truth["VolumesMl"]
    return {
        "participant_id": subject_label(index),
        "ventricle_scale": f"{truth['VentricleScale']:.4f}",
        "ventricles_ml": f"{volumes['Ventricles']:.2f}",
        "csf_ml": f"{volumes['CSF']:.1f}",
        "cortical_gm_ml": f"{volumes['CorticalGM']:.1f}",
        "wm_ml": f"{volumes['WM']:.1f}",
        "deep_gm_ml": f"{volumes['DeepGM']:.1f}",
    }


def write_tables(root: Path, rows: Sequence[dict[str, str]], scanners: Sequence[Scanner]) -> None:
    """Write the tables and descriptions of a finished cohort."""
    write_tsv(root / "participants.tsv", rows)
    sessions = [{"session_id": f"ses-{s.session}", "scanner": s.name} for s in scanners]
    for row in rows:
        subject = row["participant_id"]
        write_tsv(root / subject / f"{subject}_sessions.tsv", sessions)
    labels = [{"index": str(number), "name": name} for number, name in enumerate(TISSUES, start=1)]
    write_tsv(root / TRUTH / "dseg.tsv", labels)
    write_text(root / "README", README)
    write_json(
        root / TRUTH / DESCRIPTION,
        {
            "Name": "Truth of the virtual travelling heads",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "mrharmony", "Version": mrharmony.__version__}],
        },
    )


def write_tsv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows with the same keys as a tab-separated table, atomically."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    write_text(path, "".join("\t".join(line) + "\n" for line in lines))


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with staged(path) as file:
        file.fill(lambda stream: stream.write(text.encode()))
        file.commit()
