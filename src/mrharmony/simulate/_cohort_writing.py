"""Write a virtual cohort so that an interrupted run continues where it stopped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mrharmony
from mrharmony.scans import write_json
from mrharmony.scans.names import sidecar_path
from mrharmony.simulate._cohort_files import DESCRIPTION, scan_path, truth_path, write_nifti
from mrharmony.simulate._cohort_records import scan_sidecar, truth_record
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.scanning import scan_head
from mrharmony.volume import Matrix, MrharmonyError


def claim(root: Path, simulation: dict[str, Any]) -> None:
    """Begin the data set, or recognise it as begun by the same call.

    Parameters
    ----------
    root
        New or empty folder, or one that the same simulation began.
    simulation
        All that decides what the files contain, as JSON.

    Raises
    ------
    MrharmonyError
        If the folder holds something else.
    """
    path = root / DESCRIPTION
    record = {
        "Name": "Virtual travelling heads",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "mrharmony", "Version": mrharmony.__version__}],
        "Simulation": simulation,
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


def write_subject(
    root: Path,
    seed: int,
    index: int,
    scanners: Sequence[Scanner],
    make_head: Callable[[int], tuple[Anatomy, Matrix]],
) -> dict[str, Any]:
    """Write what is missing of a subject's scans and truth.

    Parameters
    ----------
    root
        The cohort's folder.
    seed, index
        Of the cohort, and the subject's number ≥ 0.
    scanners
        Where the subject is scanned.
    make_head
        The subject's number to its head, and scanner mm to template mm; only called if something is missing.

    Returns
    -------
    dict
        The subject's `truth_record`.
    """
    truth = truth_path(root, index)
    record = _read_json(sidecar_path(truth))
    todo = [s for s in scanners if _read_json(sidecar_path(scan_path(root, index, s))) is None]
    if todo or record is None:
        head, pose = make_head(index)
        for scanner in todo:
            # The scanner's own name seeds its noise, so that its scans do not depend on which others ran.
            rng = np.random.default_rng([seed, index, zlib.crc32(scanner.name.encode())])
            volume = scan_head(head, scanner, rng)
            path = scan_path(root, index, scanner)
            write_nifti(path, volume.voxels, volume.affine)
            write_json(sidecar_path(path), scan_sidecar(scanner))
        record = truth_record(head, pose)
        write_nifti(truth, head.labels(), head.affine)
        write_json(sidecar_path(truth), record)
    return record


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
