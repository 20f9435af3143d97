"""Prepared scans on disk: BIDS derivatives, which other programs read too.

Alignments are ITK transform files, which ANTs, SimpleITK, ITK-SNAP and 3D Slicer read. A `note` is the JSON
sidecar of a file.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from mrharmony.core.atomic import read_json, remove, write_bytes, write_json
from mrharmony.core.findings import (
    Finding,
    MrharmonyError,
    ScanFault,
    ScanRefused,
    finding_record,
    warning,
)
from mrharmony.core.hashing import file_sha256
from mrharmony.core.records import parse_record, read_text
from mrharmony.core.sealed import read_sealed, write_sealed
from mrharmony.core.version import __version__
from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.preparation.pipeline import PREPARATION_FORMAT
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.names import output_stem
from mrharmony.scans.reading import Scan, read_beside
from mrharmony.scans.stream import open_scan
from mrharmony.scans.writing import write_gzip
from mrharmony.space.grid import CANONICAL_GRID

VERSION = f"{__version__}/{PREPARATION_FORMAT}"
"""What a preparation was made with: the version of the program and `PREPARATION_FORMAT`."""

SPACE = "MNI152NLin2009aSym"
"""BIDS' name of the space of the template that nilearn ships (`mrharmony.space.template`)."""

LOG_SUFFIX = "_desc-preparation_log.json"

_WRITTEN = "FilesSHA256"  # of the files that other programs read, by name
# Of a mask: the scan that it was made on, and the one that it was last taken for, which may have replaced it.
_MADE_ON, _TAKEN_FOR = "SourceSHA256", "LastSourceSHA256"
_FARTHEST = 1e6  # mm, that an alignment moves
_Row = tuple[float, float, float, float]
_LAST_KEY = b"FixedParameters:"  # of a transform
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class _Named:
    """The path of one file of a preparation, by the end of its name."""

    def __init__(self, ending: str) -> None:
        self.ending = ending

    def __get__(self, files: PreparedFiles, _: object = None) -> Path:
        return files.folder / f"{files.stem}_{self.ending}"


@dataclass(frozen=True)
class PreparedFiles:
    """The files of the preparation of one scan."""

    folder: Path  # `OUT_DIR/sub-*/[ses-*/]anat`
    stem: str  # what all names start with: the scan's name without `_T1w` and suffix

    mask = _Named("desc-brain_mask.nii.gz")  # on the scan's grid
    mask_note = _Named("desc-brain_mask.json")  # its sidecar; a mask without it was put there by a person
    bias_field = _Named("desc-receive_biasfield.nii.gz")  # on the scan's grid
    transform = _Named(f"from-T1w_to-{SPACE}_mode-image_xfm.txt")  # the rigid alignment, for ITK
    # Alignment and size of the head, for ITK.
    similarity = _Named(f"from-T1w_to-{SPACE}_mode-image_desc-volumecorrected_xfm.txt")
    canonical = _Named(f"space-{SPACE}_res-1_desc-canonical_T1w.nii.gz")
    # The sidecar of the canonical brain, written last: where it exists, the preparation is complete.
    note = _Named(f"space-{SPACE}_res-1_desc-canonical_T1w.json")
    # The canonical brain grown to the template's size, where it was asked for; its sidecar is written first.
    volume_corrected = _Named(f"space-{SPACE}_res-1_desc-volumecorrected_T1w.nii.gz")
    volume_corrected_note = _Named(f"space-{SPACE}_res-1_desc-volumecorrected_T1w.json")
    page = _Named("desc-preparation_T1w.html")  # shows the preparation to a person
    log = _Named(LOG_SUFFIX.removeprefix("_"))  # what became of the scan, also where it was refused

    @classmethod
    def of(cls, scan: Path, out_dir: Path) -> Self:
        """Return the files of a scan's preparation below `out_dir`, the folder of the derivatives.

        Subject and session are taken from the scan's name, or else from the folders that it lies in.
        """
        names = [*output_stem(scan).split("_"), *(folder.name for folder in scan.parents)]
        labels = [next((name for name in names if name.startswith(key)), None) for key in ("sub-", "ses-")]
        return cls(out_dir.joinpath(*filter(None, labels), "anat"), output_stem(scan))

    @property
    def needed(self) -> tuple[Path, ...]:
        """The files without which a preparation does not count."""
        return self.mask, self.bias_field, self.transform, self.similarity, self.canonical, self.note


class _Note(BaseModel, frozen=True, allow_inf_nan=False):
    """What is read of the sidecar of a canonical brain."""

    source: str = Field(alias="SourceSHA256")
    mask: str = Field(alias="MaskSHA256")
    bias_field: str = Field(alias="BiasFieldSHA256")
    rigid_to_template: tuple[_Row, _Row, _Row, _Row] = Field(alias="RigidToTemplate")
    scale: float = Field(alias="IntensityScale", gt=1e-12, lt=1e12)
    size: float = Field(alias="HeadSize", gt=0.1, lt=10)
    skull_stripped: bool = Field(alias="SourceSkullStripped")
    findings: tuple[Finding, ...] = Field(alias="Findings")

    @field_validator("rigid_to_template")
    @classmethod
    def _is_rigid(cls, rows: tuple[_Row, ...]) -> tuple[_Row, ...]:
        matrix = np.clip(rows, -_FARTHEST, _FARTHEST)
        turn = matrix[:3, :3]
        turns = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
        if not (turns and (matrix == rows).all() and rows[3] == (0, 0, 0, 1)):
            raise ValueError("no rigid motion")
        return rows


def write_prepared(files: PreparedFiles, scan: Scan, prepared: PreparedScan, details: dict[str, Any]) -> None:
    """Write mask, bias field, transforms, canonical brain and sidecars; the canonical brain's comes last.

    A mask that a person put there (see `manual_mask`) is left as it is. `details` are more for the sidecar of
    the canonical brain, such as versions. Raises `MrharmonyError` where a file cannot be written.
    """
    discard_prepared(files)
    manual = manual_mask(files)
    mask = manual.read_bytes() if manual else _gzipped(scan.header, prepared.brain_mask.astype(np.uint8))
    mask_note = {
        "Description": "Voxels of the brain.",
        "Type": "Brain",
        "Sources": [scan.path.name],
        "SpatialReference": "orig",
        "Manual": manual is not None,
        "SHA256": _sha256(mask),
        _MADE_ON: _mask_source(files, scan) if manual else scan.sha256,
        _TAKEN_FOR: scan.sha256,
    }
    write_json(files.mask_note, mask_note)
    if manual is None:
        write_bytes(files.mask, mask)
    bias_field = _gzipped(scan.header, prepared.bias_field, compressible=False)
    write_bytes(files.bias_field, bias_field)
    write_bytes(files.transform, itk_transform(prepared.rigid_to_template).encode())
    write_bytes(files.similarity, itk_transform(prepared.volume_corrected).encode())
    write_bytes(files.canonical, _canonical_image(prepared))
    note = {
        "Description": "Canonical brain: rigidly aligned, bias-corrected, 90th percentile of the brain = 1.",
        **_canonical_note(scan.path, prepared),
        "Preparation": VERSION,
        "SourceSHA256": scan.sha256,
        "SourceSkullStripped": prepared.skull_stripped,
        "RigidToTemplate": prepared.rigid_to_template.tolist(),
        "Findings": [finding_record(finding) for finding in prepared.findings],
        "MaskSHA256": _sha256(mask),
        "BiasFieldSHA256": _sha256(bias_field),
        _WRITTEN: {file.name: file_sha256(file) for file in _for_other_programs(files)},
    }
    write_sealed(files.note, files.note.name, {**note, **details})


def write_volume_corrected(files: PreparedFiles, scan: Path, prepared: PreparedScan) -> None:
    """Write the canonical brain grown to the template's size, and its sidecar; raises as `write_prepared`."""
    image = _canonical_image(prepared, corrected_volume=True)
    note = {
        "Description": "Canonical brain grown to the template's size: lengths are 1 / HeadSize of the true.",
        **_canonical_note(scan, prepared),
        "SHA256": _sha256(image),
    }
    write_json(files.volume_corrected_note, note)
    write_bytes(files.volume_corrected, image)


def discard_prepared(files: PreparedFiles) -> None:
    """Remove a preparation except page and log; a mask that a person made stays.

    Whenever this is interrupted, what is left does not count as prepared, nor a written mask as a person's.
    Raises `MrharmonyError` where the operating system refuses.
    """
    derived = (files.canonical, files.transform, files.similarity, files.bias_field)
    remove(files.note, *derived, files.volume_corrected, files.volume_corrected_note)
    if manual_mask(files) is None:
        remove(files.mask, files.mask_note)


def read_prepared(files: PreparedFiles, scan: Scan) -> PreparedScan:
    """Read a preparation back: equal to the one written, to the bit.

    Raises
    ------
    MrharmonyError
        The scan is not prepared there, was changed since, was prepared by another version, or the mask or
        the bias field were changed since, or may not be read.
    """
    closed = next((file for file in files.needed if file.exists() and not os.access(file, os.R_OK)), None)
    if closed:
        raise MrharmonyError(f"{closed}: may not be read. Change its permissions.")
    reason = why_not_usable(files, scan.path, scan.sha256)
    if reason:
        raise MrharmonyError(f"{scan.path}: {reason} Run `mrharmony prepare` again.")
    content = files.note.read_bytes()
    note = _Note.model_validate_json(content)
    mask = read_beside(files.mask, scan)
    if (scan.sha256, mask.sha256) != (note.source, note.mask):  # since the look at them above
        raise MrharmonyError(f"{scan.path}: its preparation was changed meanwhile. Run this again.")
    return PreparedScan(
        native=scan.volume,
        brain_mask=mask.volume.voxels > 0,
        bias_field=_read_bias_field(files, scan, note.bias_field),
        rigid_to_template=np.array(note.rigid_to_template, dtype=np.float64),
        scale=note.scale,
        skull_stripped=note.skull_stripped,
        findings=note.findings,
        size=note.size,
        saved_sha256=_sha256(content),
    )


def _read_bias_field(files: PreparedFiles, scan: Scan, sha256: str) -> FloatArray:
    try:
        field = read_beside(files.bias_field, scan)
        sound = field.sha256 == sha256
    except ScanRefused:
        sound = False
    if not sound:
        raise MrharmonyError(
            f"{files.bias_field}: was changed or damaged. Prepare the scan into another folder."
        )
    return field.volume.voxels


def why_not_usable(files: PreparedFiles, scan: Path, sha256: str | None = None) -> str | None:
    """Return why a scan has to be prepared (again), in a sentence, or None where its preparation holds.

    The scan is compared by the SHA-256 of its content, computed where it is not given, so that copies and new
    times change nothing.
    """
    if not all(file.is_file() for file in files.needed):
        return f"is not prepared in {files.folder}."
    version = read_note(files.note).get("Preparation")
    if version != VERSION:
        return f"was prepared by another version ({version!s:.40}, this is {VERSION})."
    try:
        note = parse_record(_Note, read_text(files.note))
        if read_sealed(files.note, files.note.name) is None:
            raise ValueError("it was changed since")
    except ValueError as fault:
        return f"has a damaged record, {files.note.name} ({fault})."
    if note.source != (sha256 or file_sha256(scan)):
        return "has changed since it was prepared."
    if note.mask != file_sha256(files.mask):
        return f"{files.mask.name} was edited since."
    return None


def doubtful_files(files: PreparedFiles) -> dict[Path, bool]:
    """Return the files of a complete preparation that are not known to be those that were written.

    Each comes with whether there is a hash for it, so that it is another one: the brain grown to the
    template's size has it in a sidecar of its own, which may be gone.
    """
    note = read_note(files.note)
    written = note.get(_WRITTEN, {})
    grown = read_note(files.volume_corrected_note).get("SHA256")
    of_images = {files.bias_field.name: note.get("BiasFieldSHA256"), files.volume_corrected.name: grown}
    candidates = (files.bias_field, *_for_other_programs(files), files.volume_corrected)
    hashes = {file: (of_images | written).get(file.name) for file in candidates if file.is_file()}
    return {file: bool(own) for file, own in hashes.items() if not own or own != file_sha256(file)}


def is_whole(file: Path) -> bool:
    """Whether an image or a transform of a preparation ends where it should, whoever has saved it."""
    try:
        if file.suffix == ".txt":
            return _LAST_KEY in file.read_bytes()
        with open_scan(file, []) as content:
            content.drain(sys.maxsize)
    except (ScanFault, OSError):
        return False
    return True


def _for_other_programs(files: PreparedFiles) -> tuple[Path, ...]:
    return files.transform, files.similarity, files.canonical


def manual_mask(files: PreparedFiles) -> Path | None:
    """Return the mask if a person made or edited it: preparation then takes it as given.

    Written masks have a sidecar with their hash, which is written first. A mask without one, or with another
    hash, is a person's.
    """
    if not files.mask.is_file():
        return None
    note = read_note(files.mask_note)
    own = note.get("SHA256") == file_sha256(files.mask) and not note.get("Manual")
    return None if own else files.mask


def mask_source_findings(files: PreparedFiles, scan: Scan) -> tuple[Finding, ...]:
    """Return a warning where a person's mask was made on another scan of this name; it is taken all the same.

    To be called before `write_prepared`, which writes the mask's sidecar anew.
    """
    if manual_mask(files) is None or _mask_source(files, scan) == scan.sha256:
        return ()
    replaced = warning(
        "mask-of-another-scan",
        f"the scan was replaced since its brain mask was edited by hand ({files.mask.name}).",
        "Look whether the mask fits; edit it again if it does not, or delete it to have the brain found.",
    )
    return (replaced,)


def _mask_source(files: PreparedFiles, scan: Scan) -> str | None:
    """Return the SHA-256 of the scan that a person's mask was made on; the scan's own where it is not known.

    A mask that was edited since its sidecar was written was edited on the scan that it was last taken for.
    """
    note = read_note(files.mask_note)
    edited = note.get("SHA256") != file_sha256(files.mask)
    source = note.get(_TAKEN_FOR if edited else _MADE_ON)
    return source if isinstance(source, str) else scan.sha256


def read_note(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if it is missing or broken."""
    return read_json(path) or {}


def itk_transform(to_template: Matrix) -> str:
    """Return an alignment in ITK's text format, which resamples the native scan into the template.

    It goes from native to template world mm (RAS+), and may change the size too. ITK resamples an image by
    asking for each point of the new grid where it came from, so the file holds the inverse; and ITK's world
    axes run to the left, posterior and superior.
    """
    matrix = _RAS_TO_LPS @ np.linalg.inv(to_template) @ _RAS_TO_LPS
    numbers = " ".join(repr(float(number)) for number in [*matrix[:3, :3].ravel(), *matrix[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def _canonical_note(scan: Path, prepared: PreparedScan) -> dict[str, Any]:
    """Return what the sidecars of both canonical brains share, grown or not."""
    return {
        "SkullStripped": True,
        "SpatialReference": SPACE,
        "Resolution": "160 x 224 x 160 voxels of 1 mm",
        "Sources": [scan.name],
        "IntensityScale": prepared.scale,
        "HeadSize": prepared.size,
    }


def _canonical_image(prepared: PreparedScan, *, corrected_volume: bool = False) -> bytes:
    canonical, _ = prepared.canonical(CANONICAL_GRID, corrected_volume=corrected_volume)
    header = nib.Nifti1Header()
    header.set_data_shape(canonical.shape)
    header.set_sform(canonical.affine, "mni")
    header.set_qform(canonical.affine, "mni")
    header.set_xyzt_units("mm")
    return _gzipped(header, canonical.voxels)


def _gzipped(
    header: nib.Nifti1Header, voxels: FloatArray | NDArray[np.uint8], *, compressible: bool = True
) -> bytes:
    """Return an image file with the geometry of a header; equal voxels give equal bytes.

    The digits of a smooth field look like noise: compression takes a sixth off them, and to undo it takes ten
    times as long as to read them. They are stored as they are.
    """
    header = header.copy()
    header.set_data_dtype(voxels.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(voxels, header.get_best_affine(), header)
    content = io.BytesIO()
    write_gzip(content, image, compressible=compressible)
    return content.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
