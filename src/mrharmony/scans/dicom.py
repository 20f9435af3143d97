"""Converts a folder of DICOM files to one T1w scan, without anything that names the patient."""

from __future__ import annotations

import json
import math
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import nibabel as nib

from mrharmony.core.extras import require_extra
from mrharmony.core.findings import Finding, MrharmonyError, error, has_error, info, warning
from mrharmony.core.pointers import real_path
from mrharmony.core.temporaries import temporary_folder
from mrharmony.core.volume import Matrix
from mrharmony.scans.acquisition import REMARKS, agent_findings, contrast_agent, remark_records
from mrharmony.scans.dicom_checks import image_findings
from mrharmony.scans.dicom_choice import THICKEST, Candidate, likely_t1w
from mrharmony.scans.dicom_files import DamagedFile, DicomImage, read_folder
from mrharmony.scans.dicom_stack import Stack
from mrharmony.scans.folders import is_kind
from mrharmony.scans.names import scan_suffix, sidecar_path
from mrharmony.scans.reading import read_scan
from mrharmony.scans.writing import write_scan

_MAGIC, _MAGIC_AT = b"DICM", 128
_BARE = re.compile(rb"[\x02\x08]\x00..[A-Z]{2}", re.DOTALL)  # a file without preamble: its first element
_DICOM_SUFFIXES = (".dcm", ".ima")
_TIME_LIMIT = 600  # s, for dcm2niix and one series
# What dcm2niix says of geometry.
_TOLD = re.compile(r"missing|expected|varies|repeated|not large enough", re.IGNORECASE)
_SCATTERED = 10  # images of one file each, and no others
_INSPECTED = 500  # files opened to find out whether a folder holds DICOM
# What is kept of dcm2niix's sidecar: how the scan was acquired, but no free text, names, numbers or times.
KEPT_KEYS = (
    "Modality", "MagneticFieldStrength", "ImagingFrequency", "Manufacturer", "ManufacturersModelName",
    "SoftwareVersions", "MRAcquisitionType", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "PatientPosition", "SliceThickness", "SpacingBetweenSlices", "EchoTime", "RepetitionTime",
    "InversionTime", "FlipAngle", "PixelBandwidth", "ParallelReductionFactorInPlane",
    "ConversionSoftware", "ConversionSoftwareVersion",
)  # fmt: skip


@dataclass(frozen=True)
class DicomSeries:
    """One image that a folder of DICOM files holds."""

    path: Path  # the converted image, in a temporary folder
    image: DicomImage  # its files
    sidecar: dict[str, Any]  # of dcm2niix: no names and times of the patient, but free text
    shape: tuple[int, ...]  # three or more axes
    zooms: tuple[float, ...]  # mm
    affine: Matrix  # voxels to mm, RAS+
    findings: tuple[Finding, ...]  # on its conversion
    label: str = ""  # number of the series, and what tells it apart from others of that number

    @property
    def number(self) -> str:
        """The scanner's number of the series."""
        return "none" if self.image.number is None else str(self.image.number)

    @property
    def stack(self) -> Stack:
        """Its slices."""
        return Stack(self.path, self.image, self.shape[:3], self.affine)

    @property
    def volumes(self) -> int:
        """How many volumes the converted image has."""
        return math.prod(self.shape[3:])

    @property
    def size(self) -> str:
        """The voxel counts along all axes, for a person."""
        return "×".join(map(str, self.shape))

    def line(self) -> str:
        """Return label, name and size of the series, for a person to choose by."""
        name = self.sidecar.get("SeriesDescription") or self.sidecar.get("ProtocolName") or "no name"
        zooms = "×".join(f"{zoom:.2g}" for zoom in self.zooms[:3])
        return f"{self.label}: {name:.60} ({self.size}, {zooms} mm)"


def is_dicom_folder(path: Path, output: Path) -> bool:
    """Say whether a path is a folder of DICOM files; one that also holds NIfTI or MGH scans is not.

    What lies in a folder `output` inside it does not count: an earlier call has written it.
    """
    files = _files_below(path, output)
    return next(_scans_among(files), None) is None and _has_dicom(files)


def scan_among_dicom(path: Path, output: Path) -> Path | None:
    """Return a NIfTI or MGH scan for which a folder with DICOM files is no DICOM folder; None in any other.

    BIDS data sets may have DICOM files too, in `sourcedata`. `output` is as in `is_dicom_folder`.
    """
    if any(path.glob("sub-*")):
        return None
    files = _files_below(path, output)
    return next(_scans_among(files), None) if _has_dicom(files) else None


def _files_below(folder: Path, output: Path) -> list[Path]:
    """Return what lies below a folder, and not in `output` inside it, sorted."""
    if not is_kind(folder, stat.S_ISDIR):
        return []
    above, there = real_path(folder), real_path(output)
    own = folder / there.relative_to(above) if above in there.parents else None
    return [path for path in sorted(folder.rglob("*")) if own is None or not path.is_relative_to(own)]


def _scans_among(files: Iterable[Path]) -> Iterator[Path]:
    return (file for file in files if scan_suffix(file) and is_kind(file, stat.S_ISREG))


def _has_dicom(files: Iterable[Path]) -> bool:
    inspected = islice((file for file in files if is_kind(file, stat.S_ISREG)), _INSPECTED)
    return any(_is_dicom(file) for file in inspected)


def convert_dicom(folder: Path, output: Path, series: str | int | None = None) -> Path:
    """Convert the T1w series of a DICOM folder with dcm2niix (Li et al. 2016, J Neurosci Methods 264:47).

    What is noticed of the files is kept in the sidecar and becomes findings of the scan when it is read.

    Parameters
    ----------
    folder
        Folder with the files of one examination, in any order and depth.
    output
        The scan to write and return, `.nii.gz`, with a sidecar beside it that holds `KEPT_KEYS` only.
    series
        Number of the series, or its label where several images have that number (`4/TE3.5`); if None, the
        one that is likely a T1w scan.

    Raises
    ------
    MrharmonyError
        dcm2niix fails; no series, or more than one, may be the scan; slices of it are missing; or `output`
        exists and differs.
    """
    require_extra("dicom", "dcm2niix", "pydicom")
    images, damaged = read_folder(folder)
    _require_identifiers(folder, images)
    with temporary_folder() as temporary:
        found, failed = _convert_all(folder, images, damaged, temporary)
        chosen = choose_series(folder, found, None if series is None else str(series))
        findings = tuple(image_findings(chosen.image, images, damaged))
        if not has_error(findings):
            findings += tuple(_volume_findings(chosen) if chosen.volumes > 1 else chosen.stack.findings())
        findings += tuple(_conversion_findings(chosen, failed))
        _refuse(folder, chosen, findings)
        chosen.stack.place_exactly()
        try:
            scan = read_scan(chosen.path)
        except MrharmonyError as refusal:
            reason = str(refusal).removeprefix(f"{chosen.path}: ")
            raise MrharmonyError(f"{folder}: series {chosen.label}: {reason}") from refusal
        sidecar = {key: chosen.sidecar[key] for key in KEPT_KEYS if key in chosen.sidecar}
        sidecar |= {REMARKS: remark_records(findings)} if findings else {}
        if not output.exists():
            write_scan(output, scan.volume.voxels, scan, sidecar)
            return output
        again = temporary / "again.nii.gz"
        write_scan(again, scan.volume.voxels, scan, None)
        if again.read_bytes() != output.read_bytes():
            raise MrharmonyError(f"{output}: holds another scan than {folder}. Name another output.")
        if sidecar and not sidecar_path(output).exists():
            write_scan(output, scan.volume.voxels, scan, sidecar)
    return output


def _require_identifiers(folder: Path, images: Sequence[DicomImage]) -> None:
    """Refuse a folder in which every file is a series of its own."""
    alone = Counter(image.number for image in images if len(image.series) == 1)
    number, count = alone.most_common(1)[0] if alone else (None, 0)
    if count >= _SCATTERED and count == len(images):
        raise MrharmonyError(
            f"{folder}: each of the {count} files has a SeriesInstanceUID of its own, as some programs leave "
            f"it that make data anonymous; which slices of series {number} belong together is not known. "
            "Export the examination again, or convert it yourself and give the .nii.gz."
        )


def choose_series(folder: Path, found: Sequence[DicomSeries], label: str | None) -> DicomSeries:
    """Return the series of a label or number, or the only likely T1w one; else raise `MrharmonyError`."""
    if label is None:
        # Copies of one volume are a choice, so that what is wrong with them is said.
        known = [Candidate(s.sidecar, s.shape[:3] if s.image.copies > 1 else s.shape, s.zooms) for s in found]
        candidates = [found[i] for i in likely_t1w(known)]
        kind = f"may be the T1w scan of a whole brain, in voxels of {THICKEST:g} mm at most"
    else:
        candidates = [series for series in found if label == series.label]
        candidates = candidates or [series for series in found if label == series.number]
        kind = f"of number {label}" if label.isdigit() else f"named {label}"
    if len(candidates) == 1:
        return candidates[0]
    count = (
        "no series"
        if not candidates
        else f"{len(candidates)} images"
        if label
        else f"{len(candidates)} series"
    )
    listed = "; ".join(series.line() for series in (candidates or found))
    raise MrharmonyError(
        f"{folder}: {count} {kind}. Choose one with series=..., by what stands before the colon: "
        f"{listed or 'there are no images'}."
    )


def _refuse(folder: Path, chosen: DicomSeries, findings: tuple[Finding, ...]) -> None:
    """Raise `MrharmonyError` with the errors among the findings on the chosen series."""
    if has_error(findings):
        errors = [finding for finding in findings if finding.level == "error"]
        reasons = " ".join(finding.message for finding in errors)
        raise MrharmonyError(f"{folder}: series {chosen.label}: {reasons} {errors[0].fix}")


def _convert_all(
    folder: Path, images: Sequence[DicomImage], damaged: Sequence[DamagedFile], output: Path
) -> tuple[list[DicomSeries], list[str]]:
    """Convert each image alone; return what became of them, and the reasons of those that failed."""
    found: list[DicomSeries] = []
    failed: list[str] = []
    for number, image in enumerate(images):
        try:
            found += _convert(image, output / str(number))
        except MrharmonyError as failure:
            failed.append(f"series {image.number}: {failure}")
    if not found:
        count = f"{len(damaged)} files are empty, damaged or no images" if damaged else "there are no images"
        raise MrharmonyError(
            f"{folder}: dcm2niix converted nothing ({failed[0] if failed else count}). "
            "Export the DICOM files again, or convert them yourself and give the .nii.gz."
        )
    return _labelled(found), failed


def _convert(image: DicomImage, folder: Path) -> Iterator[DicomSeries]:
    """Convert the files of one image, under numbers as names: their own may be options or odd."""
    import dcm2niix  # noqa: PLC0415 - comes with an extra

    files, output = folder / "files", folder / "converted"
    files.mkdir(parents=True)
    output.mkdir()
    for number, file in enumerate(image.files):
        (files / f"{number:06d}.dcm").symlink_to(file.path.absolute())
    options = ["-b", "y", "-ba", "y", "-z", "n", "-g", "i", "-f", "image", "-o", str(output), str(files)]
    try:
        done = subprocess.run(
            [dcm2niix.bin, *options], capture_output=True, errors="replace", check=False, timeout=_TIME_LIMIT
        )
    except subprocess.TimeoutExpired as late:
        raise MrharmonyError(f"dcm2niix was not done after {_TIME_LIMIT} s") from late
    told = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    findings = tuple(
        info("dicom-converter", f"dcm2niix says: {line.removeprefix('Warning: ').rstrip('.')}.")
        for line in told
        if _TOLD.search(line) and str(folder) not in line
    )
    notes = [note for note in sorted(output.glob("*.json")) if note.with_suffix(".nii").is_file()]
    if done.returncode or not notes:
        raise MrharmonyError(f"status {done.returncode}, {_fault(told, image, files)}")
    for note in notes:
        header = nib.load(note.with_suffix(".nii")).header
        zooms = tuple(float(zoom) for zoom in header.get_zooms())
        sidecar = _read_note(note) | image.texts
        shape, affine = header.get_data_shape(), header.get_best_affine()
        yield DicomSeries(note.with_suffix(".nii"), image, sidecar, shape, zooms, affine, findings)


def _fault(told: Sequence[str], image: DicomImage, files: Path) -> str:
    """Return the line in which dcm2niix says why it failed, with the name of the file that it is about."""
    numbered = re.compile(re.escape(str(files)) + r"/(\d+)\.dcm")
    faults = (line for line in told if line.startswith(("Error", "Warning")) or numbered.search(line))
    return numbered.sub(lambda found: image.files[int(found[1])].path.name, next(faults, "no message"))


def _read_note(path: Path) -> dict[str, Any]:
    """Return dcm2niix's sidecar, a key a line, without lines that are no JSON."""
    found = {}
    for line in path.read_bytes().decode("utf-8", "replace").splitlines():
        named = re.fullmatch(r'\s*"(\w+)": (.+?),?', line)
        try:
            value = json.loads(named[2]) if named else None
        except (ValueError, RecursionError):
            continue
        if named and not (isinstance(value, float) and not math.isfinite(value)):
            found[named[1]] = value
    return found


def _labelled(found: Sequence[DicomSeries]) -> list[DicomSeries]:
    """Give each series its number as label, and where that is shared, what differs, or else a count."""
    labelled: list[DicomSeries] = []
    for series in found:
        same = [other for other in found if other.number == series.number]
        traits = zip(series.image.traits, *(other.image.traits for other in same), strict=True)
        telling = [own for own, *all_of in traits if own and len(set(all_of)) > 1]
        labelled.append(replace(series, label="/".join((series.number, *telling))))
    labels = [series.label for series in labelled]
    return [
        replace(series, label=f"{series.label}/{labels[: k + 1].count(series.label)}")
        if labels.count(series.label) > 1
        else series
        for k, series in enumerate(labelled)
    ]


def _conversion_findings(chosen: DicomSeries, failed: Sequence[str]) -> Iterator[Finding]:
    """Say what dcm2niix made of the chosen series, what it is, and how many others were not converted."""
    yield from chosen.findings
    if contrast_agent(chosen.sidecar):
        yield from agent_findings()
    if failed:
        yield warning(
            "dicom-other-series",
            f"{len(failed)} other images of the DICOM folder could not be converted.",
            "Look whether the scan that you mean is among them.",
        )


def _volume_findings(chosen: DicomSeries) -> Iterator[Finding]:
    """Refuse a series of several volumes, and say so where they are copies of one."""
    copies = chosen.image.copies
    if copies > 1:
        yield error(
            "dicom-copied-slices",
            f"Every slice is there {copies} times under one instance number, as if exported repeatedly.",
            "Give a folder with one export of the examination.",
        )
    else:
        yield error(
            "dicom-several-volumes",
            f"The series has {chosen.volumes} volumes ({chosen.size}), not one.",
            "Choose another with series=..., or convert it yourself and give the T1w volume as .nii.gz.",
        )


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with file.open("rb") as stream:
            start = stream.read(_MAGIC_AT + len(_MAGIC))
            return start[_MAGIC_AT:] == _MAGIC or _BARE.match(start) is not None
    except OSError:
        return False
