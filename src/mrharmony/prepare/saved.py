"""Prepared scans on disk: BIDS derivatives that other programs read, and from which nothing is redone."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrharmony.core.atomic import write_bytes, write_json
from mrharmony.core.findings import Finding, MrharmonyError, finding_record
from mrharmony.core.version import __version__
from mrharmony.core.volume import FloatArray
from mrharmony.prepare.pipeline import PREPARATION_FORMAT
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.prepared_files import SPACE, PreparedFiles, itk_transform
from mrharmony.scans.reading import Scan, read_mask
from mrharmony.scans.writing import write_gzip
from mrharmony.space.grid import CANONICAL_GRID

VERSION = f"{__version__}/{PREPARATION_FORMAT}"
"""Program and format of preparations; the second changes when preparation changes between releases."""


def write_prepared(files: PreparedFiles, scan: Scan, prepared: PreparedScan, details: dict[str, Any]) -> None:
    """Write mask, bias field, transform, canonical brain and sidecars; the one that counts comes last.

    A mask that a person put there (see `manual_mask`) is left as it is.

    Parameters
    ----------
    files
        Where to.
    scan, prepared
        The scan as read, and prepared.
    details
        More for the sidecar of the canonical brain, such as versions.

    Raises
    ------
    MrharmonyError
        A file cannot be written.
    """
    discard_prepared(files)
    manual = manual_mask(files)
    mask = manual.read_bytes() if manual else _gzipped(scan.header, prepared.brain_mask.astype(np.uint8))
    write_json(files.mask_note, _mask_note(scan, mask, manual=manual is not None))
    if manual is None:
        write_bytes(files.mask, mask)
    bias_field = _gzipped(scan.header, prepared.bias_field)
    write_bytes(files.bias_field, bias_field)
    write_bytes(files.transform, itk_transform(prepared.rigid_to_template).encode())
    write_bytes(files.similarity, itk_transform(prepared.volume_corrected).encode())
    write_bytes(files.canonical, _canonical_image(prepared))
    hashes = {"MaskSHA256": _sha256(mask), "BiasFieldSHA256": _sha256(bias_field)}
    write_json(files.note, {**_note(scan, prepared), **hashes, **details})


def write_volume_corrected(files: PreparedFiles, scan: Path, prepared: PreparedScan) -> None:
    """Write the canonical brain grown to the template's size, with its sidecar.

    Parameters
    ----------
    files
        Where to.
    scan, prepared
        The scan file, and the scan prepared.

    Raises
    ------
    MrharmonyError
        A file cannot be written.
    """
    note = {
        "Description": "Canonical brain grown to the template's size: lengths are 1 / HeadSize of the true.",
        **_canonical_note(scan, prepared),
    }
    write_json(files.volume_corrected_note, note)
    write_bytes(files.volume_corrected, _canonical_image(prepared, corrected_volume=True))


def discard_prepared(files: PreparedFiles) -> None:
    """Remove a preparation, page and log aside; a mask that a person made stays.

    Whenever this is interrupted, what is left does not count as prepared, nor a written mask as a person's.
    """
    files.note.unlink(missing_ok=True)
    derived = (files.canonical, files.transform, files.similarity, files.bias_field)
    for file in (*derived, files.volume_corrected, files.volume_corrected_note):
        file.unlink(missing_ok=True)
    if manual_mask(files) is None:
        files.mask.unlink(missing_ok=True)
        files.mask_note.unlink(missing_ok=True)


def read_prepared(files: PreparedFiles, scan: Scan) -> PreparedScan:
    """Read a preparation back: equal to the one written, to the bit.

    Parameters
    ----------
    files
        Where it lies.
    scan
        The scan that was prepared, as read.

    Raises
    ------
    MrharmonyError
        The scan is not prepared there, was changed since, was prepared by another version, or the mask or
        the bias field were changed since.
    """
    reason = why_not_usable(files, scan.path)
    if reason:
        raise MrharmonyError(f"{scan.path}: {reason} Run `mrharmony prepare` again.")
    note = read_note(files.note)
    if file_sha256(files.bias_field) != note["BiasFieldSHA256"]:
        raise MrharmonyError(
            f"{files.bias_field}: was changed or damaged. Remove it and run `mrharmony prepare` again."
        )
    image = nib.load(files.bias_field)
    return PreparedScan(
        native=scan.volume,
        brain_mask=np.ascontiguousarray(read_mask(files.mask, scan)),
        bias_field=np.ascontiguousarray(image.dataobj, dtype=np.float32),
        rigid_to_template=np.array(note["Posture"], dtype=np.float64),
        scale=float(note["IntensityScale"]),
        skull_stripped=bool(note["SourceSkullStripped"]),
        findings=tuple(Finding(**record) for record in note["Findings"]),
        size=float(note["HeadSize"]),
    )


def why_not_usable(files: PreparedFiles, scan: Path) -> str | None:
    """Return why a scan has to be prepared (again), in a sentence, or None where its preparation holds.

    Parameters
    ----------
    files
        Where it lies.
    scan
        The scan file; it is compared by its content, so that copies and new times change nothing.
    """
    if not all(file.is_file() for file in files.needed):
        return f"is not prepared in {files.folder}."
    note = read_note(files.note)
    if note.get("Preparation") != VERSION:
        return f"was prepared by another version ({note.get('Preparation')}, this is {VERSION})."
    if note.get("SourceSHA256") != file_sha256(scan):
        return "has changed since it was prepared."
    if note.get("MaskSHA256") != file_sha256(files.mask):
        return f"{files.mask.name} was edited since."
    return None


def manual_mask(files: PreparedFiles) -> Path | None:
    """Return the mask where a person made or edited it: preparation then takes it as given.

    Written masks have a sidecar with their hash, which comes first. A mask without one, or with another
    hash, is a person's.
    """
    if not files.mask.is_file():
        return None
    note = read_note(files.mask_note)
    own = note.get("SHA256") == file_sha256(files.mask) and not note.get("Manual")
    return None if own else files.mask


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises
    ------
    MrharmonyError
        It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as failure:
        raise MrharmonyError(f"{path}: cannot be read ({failure.strerror}). Check the path.") from failure


def _note(scan: Scan, prepared: PreparedScan) -> dict[str, Any]:
    return {
        "Description": "Canonical brain: rigidly aligned, bias-corrected, 90th percentile of the brain = 1.",
        **_canonical_note(scan.path, prepared),
        "Preparation": VERSION,
        "SourceSHA256": file_sha256(scan.path),
        "SourceSkullStripped": prepared.skull_stripped,
        "Posture": prepared.rigid_to_template.tolist(),
        "Findings": [finding_record(finding) for finding in prepared.findings],
    }


def _canonical_note(scan: Path, prepared: PreparedScan) -> dict[str, Any]:
    """Return what is true of a canonical brain, grown or not."""
    return {
        "SkullStripped": True,
        "SpatialReference": SPACE,
        "Resolution": "160 x 224 x 160 voxels of 1 mm",
        "Sources": [scan.name],
        "IntensityScale": prepared.scale,
        "HeadSize": prepared.size,
    }


def _mask_note(scan: Scan, mask: bytes, *, manual: bool) -> dict[str, Any]:
    return {
        "Type": "Brain",
        "Sources": [scan.path.name],
        "SpatialReference": "orig",
        "Manual": manual,
        "SHA256": _sha256(mask),
    }


def _canonical_image(prepared: PreparedScan, *, corrected_volume: bool = False) -> bytes:
    canonical, _ = prepared.canonical(CANONICAL_GRID, corrected_volume=corrected_volume)
    header = nib.Nifti1Header()
    header.set_data_shape(canonical.shape)
    header.set_sform(canonical.affine, "mni")
    header.set_qform(canonical.affine, "mni")
    header.set_xyzt_units("mm")
    return _gzipped(header, canonical.voxels)


def _gzipped(header: nib.Nifti1Header, voxels: FloatArray | NDArray[np.uint8]) -> bytes:
    """Return an image file with the geometry of a header; equal voxels give equal bytes."""
    header = header.copy()
    header.set_data_dtype(voxels.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(voxels, header.get_best_affine(), header)
    content = io.BytesIO()
    write_gzip(content, image)
    return content.getvalue()


def read_note(path: Path) -> dict[str, Any]:
    """Return what a JSON file says, nothing where it is missing or broken."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
