"""Converts a folder of DICOM files to one T1w scan, without anything that names the patient.

Which series is the T1w scan is decided by its name, or else by how it was acquired.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib

from mrharmony.core.extras import require_extra
from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.names import scan_suffix
from mrharmony.scans.reading import read_scan
from mrharmony.scans.writing import write_scan

_NAMED_T1 = re.compile(r"t1(?!rho|.?map)|mp.?rage|mp2rage|spgr|bravo|tfl|3d.?tfe|fspgr", re.IGNORECASE)
_NAMED_OTHER = re.compile(
    r"t2|flair|dark.?fluid|dwi|dti|diff|adc\b|trace|bold|fmri|ep2d|\bepi\b|\bswi\b|\basl\b|perf|tof\b|angio|mra\b|"
    r"field.?map|loc(ali[sz]er)?\b|scout|survey|inv-?[12]\b|mip\b|\bpost\b|contrast|\bgad|\bgd\b|\+c\b",
    re.IGNORECASE,
)
_NAMES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_DERIVED_TYPES = frozenset({"P", "PHASE", "MIP", "PROJECTION IMAGE", "CSA MPR", "T1 MAP", "LOCALIZER"})
_THICKEST = 3.5  # mm
_SMALLEST_EXTENT = 90.0  # mm; less is not a whole brain
_LONGEST_ECHO = 0.010  # s; beyond it gradient echoes are T2*-weighted
_LONGEST_SPOILED_TR = 0.060  # s
_SMALLEST_FLIP = 8.0  # degrees; below it a spoiled gradient echo without inversion is proton-density-weighted
_MAGIC, _MAGIC_AT = b"DICM", 128
_DICOM_SUFFIXES = (".dcm", ".ima")
_INSPECTED = 50  # files opened to find out whether a folder holds DICOM
# What is kept of dcm2niix's sidecar: how the scan was acquired, but no free text, names, numbers or times.
KEPT_KEYS = (
    "Modality", "MagneticFieldStrength", "ImagingFrequency", "Manufacturer", "ManufacturersModelName",
    "SoftwareVersions", "MRAcquisitionType", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "PatientPosition", "SliceThickness", "SpacingBetweenSlices", "EchoTime", "RepetitionTime",
    "InversionTime", "FlipAngle", "PixelBandwidth", "ParallelReductionFactorInPlane",
    "ConversionSoftware", "ConversionSoftwareVersion",
)  # fmt: skip

Series = tuple[dict[str, Any], Sequence[int], Sequence[float]]


@dataclass(frozen=True)
class DicomSeries:
    """One image that a folder of DICOM files holds."""

    path: Path  # the converted image, in a temporary folder
    sidecar: dict[str, Any]  # of dcm2niix: no names and times of the patient, but free text
    shape: tuple[int, ...]  # three or more axes
    zooms: tuple[float, ...]  # mm

    @property
    def number(self) -> int | None:
        """The scanner's number of the series."""
        number = self.sidecar.get("SeriesNumber")
        return None if number is None else int(number)

    def line(self) -> str:
        """Return number, name and size of the series, for a person to choose by."""
        name = self.sidecar.get("SeriesDescription") or self.sidecar.get("ProtocolName") or "no name"
        size = "×".join(map(str, self.shape))
        return f"{self.number}: {name} ({size}, {'×'.join(f'{zoom:.2g}' for zoom in self.zooms[:3])} mm)"


def is_dicom_folder(path: Path) -> bool:
    """Say whether a path is a folder of DICOM files; one that also holds NIfTI or MGH scans is not."""
    if not path.is_dir():
        return False
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    some = [file for file, _ in zip(files, range(_INSPECTED), strict=False)]
    return not any(scan_suffix(file) for file in some) and any(_is_dicom(file) for file in some)


def convert_dicom(folder: Path, output: Path, series: int | None = None) -> Path:
    """Convert the T1w series of a DICOM folder with dcm2niix (Li et al. 2016, J Neurosci Methods 264:47).

    Parameters
    ----------
    folder
        Folder with the files of one examination, in any order and depth up to 5.
    output
        The scan to write and return, `.nii.gz`, with a sidecar beside it that holds `KEPT_KEYS` only.
    series
        Number of the series; if None, the one that is likely a T1w scan.

    Raises
    ------
    MrharmonyError
        dcm2niix fails; no series, or more than one, may be the scan; or `output` exists and differs.
    """
    with TemporaryDirectory(prefix="mrharmony-") as temporary:
        chosen = choose_series(folder, _convert_all(folder, Path(temporary)), series)
        try:
            scan = read_scan(chosen.path)
        except MrharmonyError as error:
            reason = str(error).removeprefix(f"{chosen.path}: ")
            raise MrharmonyError(f"{folder}: series {chosen.number}: {reason}") from error
        sidecar = {key: chosen.sidecar[key] for key in KEPT_KEYS if key in chosen.sidecar}
        if not output.exists():
            write_scan(output, scan.volume.voxels, scan, sidecar)
            return output
        again = Path(temporary) / "again.nii.gz"
        write_scan(again, scan.volume.voxels, scan, None)
        if again.read_bytes() != output.read_bytes():
            raise MrharmonyError(f"{output}: holds another scan than {folder}. Name another output.")
    return output


def choose_series(folder: Path, found: Sequence[DicomSeries], number: int | None) -> DicomSeries:
    """Return the series of a number, or the only one likely to be T1w; else raise `MrharmonyError`."""
    if number is None:
        candidates = [found[i] for i in likely_t1w([(s.sidecar, s.shape, s.zooms) for s in found])]
        remedy = "Choose one with series=N"
    else:
        candidates = [series for series in found if series.number == number]
        remedy = "Name a series of one volume"
    if len(candidates) == 1:
        return candidates[0]
    count = "no series" if not candidates else f"{len(candidates)} series"
    kind = "may be the T1w scan" if number is None else f"of number {number}"
    listed = "; ".join(series.line() for series in (candidates or found))
    raise MrharmonyError(f"{folder}: {count} {kind}. {remedy}: {listed or 'there are no images'}.")


def _convert_all(folder: Path, output: Path) -> list[DicomSeries]:
    require_extra("dicom", "dcm2niix")
    import dcm2niix  # noqa: PLC0415 - comes with an extra

    options = ["-b", "y", "-ba", "y", "-z", "n", "-d", "5", "-f", "series-%s", "-o", str(output)]
    done = subprocess.run([dcm2niix.bin, *options, str(folder)], capture_output=True, text=True, check=False)
    found = [_series(note) for note in sorted(output.glob("*.json")) if note.with_suffix(".nii").is_file()]
    if not found:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise MrharmonyError(
            f"{folder}: dcm2niix converted nothing ({lines[-1] if lines else 'no message'}). "
            "Export the DICOM files again, or convert them yourself and give the .nii.gz."
        )
    return found


def _series(note: Path) -> DicomSeries:
    header = nib.load(note.with_suffix(".nii")).header
    zooms = tuple(float(zoom) for zoom in header.get_zooms())
    return DicomSeries(
        note.with_suffix(".nii"), json.loads(note.read_text("utf-8")), header.get_data_shape(), zooms
    )


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with file.open("rb") as stream:
            return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def likely_t1w(series: Sequence[Series]) -> list[int]:
    """Return which series (sidecar, voxel counts, voxel edges in mm) are likely T1w scans of a whole brain.

    Series with such a name (MPRAGE, SPGR, BRAVO, T1 …) count; only where there is none, those acquired like
    one: 3D gradient echo, short echo, with an inversion or a short repetition and a large flip angle. Scans
    after contrast agent and scans of other names never count; original images are preferred to derived ones.
    Their positions in `series` are none or several where it is unclear.
    """
    usable = [number for number, one in enumerate(series) if _is_whole_brain(one) and not _is_other(one[0])]
    named = [number for number in usable if _NAMED_T1.search(_name(series[number][0]))]
    likely = named or [number for number in usable if _acquired_as_t1w(series[number][0])]
    original = [number for number in likely if "DERIVED" not in _image_type(series[number][0])]
    return original or likely


def _is_whole_brain(series: Series) -> bool:
    _, shape, zooms = series
    if len(shape) < 3 or any(size > 1 for size in shape[3:]) or max(zooms[:3]) > _THICKEST:
        return False
    return min(size * zoom for size, zoom in zip(shape[:3], zooms[:3], strict=True)) >= _SMALLEST_EXTENT


def _is_other(sidecar: dict[str, Any]) -> bool:
    return bool(
        sidecar.get("ContrastBolusIngredient")
        or _NAMED_OTHER.search(_name(sidecar))
        or _DERIVED_TYPES & _image_type(sidecar)
    )


def _acquired_as_t1w(sidecar: dict[str, Any]) -> bool:
    sequence = sidecar.get("ScanningSequence", "")
    if "GR" not in sequence or sidecar.get("MRAcquisitionType") != "3D":
        return False
    if float(sidecar.get("EchoTime", 1)) > _LONGEST_ECHO:
        return False
    if "IR" in sequence or "InversionTime" in sidecar:
        return True
    short = float(sidecar.get("RepetitionTime", 1)) <= _LONGEST_SPOILED_TR
    return short and float(sidecar.get("FlipAngle", 0)) >= _SMALLEST_FLIP


def _name(sidecar: dict[str, Any]) -> str:
    # Underscores are letters to \b, but t1_mprage_post has to match as three words.
    return " ".join(str(sidecar.get(key, "")) for key in _NAMES).replace("_", " ")


def _image_type(sidecar: dict[str, Any]) -> frozenset[str]:
    return frozenset(str(part).upper() for part in sidecar.get("ImageType", ()))
