"""Files of a virtual cohort (BIDS): where they lie, and what stands in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.core.atomic import begin_json, read_json, write_json, write_text
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.version import __version__
from mrharmony.core.volume import Matrix
from mrharmony.scans.names import BIDS_VERSION, DESCRIPTION
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.foreign.sites import Site
from mrharmony.simulate.known_factors import GREY_SHARE
from mrharmony.simulate.recipe import AnyScanner
from mrharmony.simulate.shipped_head import CREDIT
from mrharmony.simulate.signal import TISSUES, Mprage, PulseSequence, SpoiledGradientEcho

LABELS = (*TISSUES, "WM lesion")
TRUTH = Path("derivatives", "truth")
BRAINS = "Scans are skull-stripped brains: intensities outside the brain are 0."
WHOLE = "Scans are whole heads without a face, based on the label map that ships with mrharmony: {credit}."
README = """Virtual heads, simulated by mrharmony.

{what}

{shown} `derivatives/truth` holds each head's
tissue labels (on the grid of its scans), tissue volumes, known factors (ventricle scale, cortical thinning,
white-matter lesions), and the rigid transform from the scanner's millimetres to the template's. A session's
label is the scanner's name without punctuation; its name is in the sidecar (`Scanner`) and in
`sub-*_sessions.tsv`.
"""


def subject_label(index: int) -> str:
    """Return the label of subject number `index` ≥ 0: `sub-001`, …"""
    return f"sub-{index + 1:03d}"


def scan_path(root: Path, index: int, scanner: AnyScanner) -> Path:
    """Return where a subject's scan on a scanner lies."""
    subject, session = subject_label(index), f"ses-{scanner.session}"
    return root / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz"


def truth_path(root: Path, subject: int | str) -> Path:
    """Return where the tissue labels of a subject lie, given its number ≥ 0 or its label `sub-*`."""
    label = subject if isinstance(subject, str) else subject_label(subject)
    return root / TRUTH / label / "anat" / f"{label}_dseg.nii.gz"


def true_brain(root: Path, subject: str) -> Path | None:
    """Return the file of a virtual head's true tissues, which is its brain mask too; None for a real subject.

    `root` is a BIDS folder, virtual or not; `subject` is a label without `sub-`.
    """
    path = truth_path(root, f"sub-{subject}")
    return path if path.is_file() else None


def write_tables(
    root: Path,
    rows: Sequence[dict[str, str]],
    visits: Sequence[Sequence[AnyScanner]],
    what: str,
    *,
    whole: bool,
) -> None:
    """Write the tables and descriptions of a finished cohort; what a person has changed since stays.

    There is one row of `participants.tsv` and one list of visited scanners per subject; `what` is a sentence
    for the README: who was scanned where; `whole` says that heads are not skull-stripped.
    """
    _write_once(root / "participants.tsv", tsv(rows))
    for row, scanners in zip(rows, visits, strict=True):
        subject = row["participant_id"]
        sessions = [{"session_id": f"ses-{s.session}", "scanner": s.name} for s in scanners]
        _write_once(root / subject / f"{subject}_sessions.tsv", tsv(sessions))
    labels = [{"index": str(number), "name": name} for number, name in enumerate(LABELS, start=1)]
    _write_once(root / TRUTH / "dseg.tsv", tsv(labels))
    shown = WHOLE.format(credit=CREDIT) if whole else BRAINS
    _write_once(root / "README", README.format(what=what, shown=shown))
    write_json(root / TRUTH / DESCRIPTION, _description("Truth of the virtual heads", "derivative"))


def _description(name: str, kind: str) -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "GeneratedBy": [{"Name": "mrharmony", "Version": __version__}],
    }


def tsv(rows: Sequence[dict[str, str]]) -> str:
    """Return rows with the same keys as a tab-separated table."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _write_once(path: Path, text: str) -> None:
    """Write a text atomically; another one that is there stays, and is told on standard error."""
    if not path.exists():
        write_text(path, text)
    elif path.read_text("utf-8", "replace") != text:
        print(f"{path}: was changed since it was written, and stays as it is.", file=sys.stderr)


def scan_sidecar(scanner: AnyScanner, *, whole: bool = False) -> dict[str, Any]:
    """Return the JSON sidecar of a scan of a brain or a `whole` head; times in seconds, as in BIDS.

    Measured sites have no sequence.
    """
    who = {"Modality": "MR", "Scanner": scanner.name, "ScannerDescription": scanner.description}
    kind: dict[str, Any] = {"SkullStripped": not whole, "Simulated": True}
    if isinstance(scanner, Site):
        return {**who, "MRAcquisitionType": "3D", **kind}
    sequence = scanner.sequence
    return {
        **who,
        "MagneticFieldStrength": scanner.field_strength,
        "MRAcquisitionType": "3D",
        "EchoTime": sequence.echo_time_ms / 1000,
        **kind,
        **_timing(sequence),
    }


def _timing(sequence: PulseSequence) -> dict[str, Any]:
    if isinstance(sequence, SpoiledGradientEcho):
        return {
            "ScanningSequence": "GR",
            "FlipAngle": sequence.flip_angle_deg,
            "RepetitionTimeExcitation": sequence.repetition_time_ms / 1000,
        }
    prepared = {
        "ScanningSequence": "GR_IR",
        "RepetitionTimePreparation": sequence.repetition_time_ms / 1000,
        "RepetitionTimeExcitation": sequence.echo_spacing_ms / 1000,
        "NumberShots": sequence.excitations,
    }
    if isinstance(sequence, Mprage):
        times: dict[str, Any] = {
            "FlipAngle": sequence.flip_angle_deg,
            "InversionTime": sequence.inversion_time_ms / 1000,
        }
    else:
        # One image of two inversion times: as arrays, since BIDS defines them for the two images apart.
        times = {
            "FlipAngle": list(sequence.flip_angles_deg),
            "InversionTime": [time / 1000 for time in sequence.inversion_times_ms],
        }
    return prepared | times


def truth_record(head: Anatomy, pose: Matrix) -> dict[str, Any]:
    """Return what is known of a head beside its labels, as JSON; `pose` is scanner mm to template mm."""
    csf, cortex, white, deep = (
        float(share) * head.voxel_ml for share in head.tissues.sum((1, 2, 3), np.float64)
    )
    # Lesions are made of cortical GM and WM for the scanner's sake only.
    lesions = head.lesions_ml
    return {
        "VentricleScale": head.ventricle_scale,
        "CorticalThinning": head.cortical_thinning,
        "VolumesMl": {
            "Ventricles": head.ventricle_volume_ml,
            "CSF": csf,
            "CorticalGM": cortex - GREY_SHARE * lesions,
            "WM": white - (1 - GREY_SHARE) * lesions,
            "DeepGM": deep,
            "Lesions": lesions,
        },
        "ScannerToTemplate": pose.tolist(),
    }


def volume_columns(truth: dict[str, Any]) -> dict[str, str]:
    """Return the true volumes as columns of `participants.tsv`."""
    volumes = truth["VolumesMl"]
    return {
        "ventricles_ml": f"{volumes['Ventricles']:.2f}",
        "csf_ml": f"{volumes['CSF']:.1f}",
        "cortical_gm_ml": f"{volumes['CorticalGM']:.1f}",
        "wm_ml": f"{volumes['WM']:.1f}",
        "deep_gm_ml": f"{volumes['DeepGM']:.1f}",
    }


def is_simulated(root: Path) -> bool:
    """Whether a folder is a data set that `claim` has begun."""
    return "Simulation" in (read_json(root / DESCRIPTION) or {})


def claim(root: Path, simulation: dict[str, Any]) -> None:
    """Begin the data set in a new or empty folder, or recognise one that the same simulation began.

    `simulation` is everything that decides what the files contain, as JSON; `MrharmonyError` if the folder
    holds something else, also where another process has just begun it.
    """
    path = root / DESCRIPTION
    record = _description("Virtual travelling heads", "raw") | {"Simulation": simulation}
    if root.exists() and not root.is_dir():
        raise MrharmonyError(f"{root}: is a file; name a new or empty folder for the cohort")
    # A run killed at its very start may have left a hidden temporary file.
    if not root.exists() or all(entry.name.startswith(".") for entry in root.iterdir()):
        begin_json(path, record)
    if read_json(path) != json.loads(json.dumps(record)):
        raise MrharmonyError(
            f"{root}: holds something else, or a cohort of other settings, such as another seed; "
            "name a new or empty folder"
        )
