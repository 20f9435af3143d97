"""The DICOM files of a folder, sorted into images by their headers, and what is missing of an image.

dcm2niix stacks whatever slices it is given; here the positions that the scanner wrote decide.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrharmony.core.findings import Finding, MrharmonyError, error, warning
from mrharmony.core.volume import Matrix
from mrharmony.scans.folders import is_kind

if TYPE_CHECKING:
    from pydicom import Dataset

    _Attributes = Any  # a Dataset, or an empty dictionary in its place

_TAGS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate",
    "AcquisitionDate", "StudyTime", "SeriesTime", "AcquisitionTime", "SeriesDescription", "ProtocolName",
    "MRAcquisitionType", "SliceThickness", "SpacingBetweenSlices", "EchoTime", "SeriesInstanceUID",
    "SeriesNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "ImagesInAcquisition", "ContrastBolusAgent", "SamplesPerPixel", "PhotometricInterpretation",
    "PixelSpacing", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "PatientID", "Modality",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_PARTS = {
    "P": "phase", "PHASE": "phase", "R": "real", "REAL": "real", "I": "imaginary", "IMAGINARY": "imaginary",
    "M": "magnitude", "MAGNITUDE": "magnitude",
}  # fmt: skip
_UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_SAME_PLACE = 0.01  # mm
_MOST_ASIDE = 0.5  # mm: how far a slice may lie aside from the others; rounded positions are off by less
_SAME_DIRECTION = 1e-3  # how far direction cosines of one image may differ
_ROUNDED = 0.01  # how far direction cosines may be from being of length 1 and perpendicular
# What all slices of an image have in common: dcm2niix leaves a slice of another number, rows or columns out,
# and gives one that differs in the rest wrong values or voxel edges, or stacks another head.
_COMMON = (
    "PatientID", "Modality", "SeriesNumber", "Rows", "Columns",
    "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing",
)  # fmt: skip
_NAMES_SOMEBODY = frozenset({"PatientID"})  # what no message may repeat
_SAME_NUMBER = 1e-3
_DATED = ("Series", "Acquisition", "Study")  # what has a date and a time, the most telling first
_UNEVEN = 0.1  # part of the slice spacing by which steps may differ from its multiples
_NAMED_AT_MOST = 5
_AS_SENT = "Give the series as the scanner sent it, or get its files again from the archive."
_AGAIN = "Get the missing files again from the scanner or the archive."


class DicomFile(NamedTuple):
    """What one readable file says of itself."""

    path: Path
    series: str  # SeriesInstanceUID
    instance: str  # SOPInstanceUID
    number: int | None  # of the instance
    echo: float | None  # ms
    part: str  # magnitude, phase, real or imaginary; empty where the header does not say
    positions: Matrix  # of its frames, mm, shape (n, 3); n = 0 where the header does not say
    orientation: Matrix  # direction cosines of rows and columns, shape (6,), or (0,)
    header: Dataset


class DamagedFile(NamedTuple):
    """A file that cannot be read to its end."""

    path: Path
    series: str | None  # None where it does not say
    instance: str | None


@dataclass(frozen=True)
class DicomImage:
    """The files of one image: of one series, echo, direction and part."""

    files: tuple[DicomFile, ...]
    series: tuple[DicomFile, ...]  # all files of its series

    @property
    def first(self) -> DicomFile:
        """The file that speaks for all."""
        return self.files[0]

    @property
    def number(self) -> int | None:
        """The scanner's number of the series."""
        number = _numbers(self.first.header, "SeriesNumber")
        return int(number[0]) if number else None

    @cached_property
    def traits(self) -> tuple[str, ...]:
        """What may tell this image from others of its number: echo, part, date and time."""
        header, echo = self.first.header, self.first.echo
        day, time = (
            next((str(header[key + what].value) for key in _DATED if header.get(key + what)), "")
            for what in ("Date", "Time")
        )
        return (f"TE{echo:g}" if echo else "", self.first.part, day, time.partition(".")[0])

    @property
    def texts(self) -> dict[str, str]:
        """The names that people gave, in the character set that the file declares."""
        keys = ("SeriesDescription", "ProtocolName", "ContrastBolusAgent")
        found = {key: _text(self.first.header, key) for key in keys}
        return {key: value for key, value in found.items() if value}

    @cached_property
    def copies(self) -> int:
        """How many files of one instance's number lie at each place; 1 where that differs or is unknown."""
        counts = Counter((file.number, file.positions.tobytes()) for file in self.files)
        known = all(number is not None for number, _ in counts)
        return counts.most_common(1)[0][1] if known and len(set(counts.values())) == 1 else 1

    @property
    def normal(self) -> Matrix:
        """Direction across the slices in the axes of DICOM, where the orientation is known."""
        rows, columns = self.first.orientation[:3], self.first.orientation[3:]
        return np.cross(rows, columns).astype(np.float64)

    @property
    def is_mosaic(self) -> bool:
        """Whether each file holds all slices side by side, whose places it does not say."""
        return "MOSAIC" in _image_type(self.first.header)

    @cached_property
    def places(self) -> tuple[tuple[float, int, int | None], ...]:
        """Position along the slice normal in mm, how many slices lie there, and an instance's number."""
        if not self.first.orientation.size or self.is_mosaic:
            return ()
        along = sorted(
            (float(place @ self.normal), file.number if len(file.positions) == 1 else None)
            for file in self.files
            for place in file.positions
        )
        places: list[tuple[float, int, int | None]] = []
        for place, number in along:
            if places and place - places[-1][0] < _SAME_PLACE:
                places[-1] = (places[-1][0], places[-1][1] + 1, places[-1][2])
            else:
                places.append((place, 1, number))
        return tuple(places)


def read_folder(folder: Path) -> tuple[list[DicomImage], list[DamagedFile]]:
    """Return the images below a folder, by series number, and its damaged files.

    Copies of a file count once. Raises `MrharmonyError` where a folder below cannot be listed.
    """
    read = [_read(path) for path in _files(folder)]
    good: dict[tuple[object, ...], DicomFile] = {}  # what is neither good nor damaged shows nothing
    for file in read:
        if isinstance(file, DicomFile):
            key = (file.series, file.instance, file.number, file.echo, file.part, file.positions.tobytes())
            good.setdefault(key, file)
    whole = {file.instance for file in good.values()}
    damaged = [file for file in read if isinstance(file, DamagedFile) and file.instance not in whole]
    series: dict[str, list[DicomFile]] = defaultdict(list)
    for file in good.values():
        series[file.series].append(file)
    images = [image for files in series.values() for image in _images(tuple(files))]
    return sorted(images, key=lambda image: (image.number or 0, image.traits)), damaged


def image_findings(
    image: DicomImage, images: Sequence[DicomImage], damaged: Sequence[DamagedFile]
) -> Iterator[Finding]:
    """Say what is missing of an image; an error where its slices are known not to be all there.

    Parameters
    ----------
    image
        The one that is used.
    images, damaged
        All of the folder, as `read_folder` returns them.
    """
    yield from _damaged_findings(image, images, damaged)
    yield from _form_findings(image)
    yield from _scale_findings(image)
    yield from _direction_findings(image)
    yield from _place_findings(image)
    yield from _split_findings(image, images)
    yield from _count_findings(image)


def _files(folder: Path) -> Iterator[Path]:
    def refuse(failure: OSError) -> None:
        raise MrharmonyError(
            f"{failure.filename}: cannot be listed ({failure.strerror}). Check its permissions."
        ) from failure

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _read(path: Path) -> DicomFile | DamagedFile | None:
    """Return what a file says of itself; None where it is sound and no image, such as a report."""
    from pydicom import config, dcmread  # noqa: PLC0415 - comes with an extra

    config.settings.reading_validation_mode = config.IGNORE
    if not is_kind(path, stat.S_ISREG):  # a pipe would be waited for without end
        return DamagedFile(path, None, None)
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            header = dcmread(stream, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
            room = path.stat().st_size - stream.tell()
            return _described(path, header, room)
    except Exception:  # pydicom raises whatever a damaged byte leads to
        return DamagedFile(path, None, None)


def _described(path: Path, header: Dataset, room: int) -> DicomFile | DamagedFile | None:
    """Return what a header says, where as many bytes are left as its pixels need (compressed: any)."""
    kind = header.get("SOPClassUID")
    if "Rows" not in header and kind and "Image Storage" not in kind.name:
        return None
    series, instance = str(header.get("SeriesInstanceUID", "")), str(header.get("SOPInstanceUID", ""))
    syntax = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", min(_UNCOMPRESSED)))
    frames = int(header.get("NumberOfFrames") or 1)
    pixels = header.Rows * header.Columns * frames * int(header.get("SamplesPerPixel") or 1)
    start = 8 if syntax == min(_UNCOMPRESSED) else 12  # bytes of tag and length before the pixels
    if syntax in _UNCOMPRESSED and room < start + pixels * header.BitsAllocated // 8:
        return DamagedFile(path, series, instance)
    positions, orientations = _geometry(header)
    echo = _numbers(header, "EchoTime")
    number = _numbers(header, "InstanceNumber")
    part = next((_PARTS[word] for word in _image_type(header) if word in _PARTS), "")
    return DicomFile(
        path, series, instance, int(number[0]) if number else None, round(echo[0], 2) if echo else None, part,
        positions, orientations, header,
    )  # fmt: skip


def _geometry(header: Dataset) -> tuple[Matrix, Matrix]:
    """Return the positions of all frames and their common orientation, or nothing of both."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        found = [(_numbers(header, "ImagePositionPatient"), _numbers(header, "ImageOrientationPatient"))]
    else:
        shared = header.get("SharedFunctionalGroupsSequence") or [{}]
        found = [
            (
                _numbers(_group(group, shared[0], "PlanePositionSequence"), "ImagePositionPatient"),
                _numbers(_group(group, shared[0], "PlaneOrientationSequence"), "ImageOrientationPatient"),
            )
            for group in groups
        ]
    complete = all(len(place) == 3 and len(direction) == 6 for place, direction in found)
    if not complete or np.ptp([direction for _, direction in found], axis=0).max() > _SAME_DIRECTION:
        return np.empty((0, 3)), np.empty(0)
    return np.array([place for place, _ in found]), np.array(found[0][1])


def _group(frame: _Attributes, shared: _Attributes, keyword: str) -> _Attributes:
    """Return the functional group of a frame, or that which all frames share, or an empty one."""
    return next((source.get(keyword)[0] for source in (frame, shared) if source.get(keyword)), {})


def _numbers(header: _Attributes, keyword: str) -> list[float]:
    """Return the finite numbers of an attribute; none where it is missing or one is not a number."""
    try:
        value = header.get(keyword)
        values = [float(value)] if isinstance(value, int | float | str) else [float(one) for one in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return values if np.isfinite(values).all() else []


def _text(header: Dataset, keyword: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(header.get(keyword) or "")
    except (LookupError, ValueError):  # an unknown character set
        return ""


def _image_type(header: Dataset) -> tuple[str, ...]:
    kinds = header.get("ImageType") or ()
    return tuple(str(kind).upper() for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _images(series: tuple[DicomFile, ...]) -> Iterator[DicomImage]:
    """Split the files of a series by echo, part and direction."""
    groups: list[list[DicomFile]] = []
    for file in series:
        group = next((group for group in groups if _belongs(file, group[0])), None)
        if group is None:
            groups.append([file])
        else:
            group.append(file)
    return (DicomImage(tuple(group), series) for group in groups)


def _belongs(file: DicomFile, other: DicomFile) -> bool:
    if (file.echo, file.part, len(file.orientation)) != (other.echo, other.part, len(other.orientation)):
        return False
    return bool((np.abs(file.orientation - other.orientation) <= _SAME_DIRECTION).all())


def _damaged_findings(
    image: DicomImage, images: Sequence[DicomImage], damaged: Sequence[DamagedFile]
) -> Iterator[Finding]:
    """Say which damaged files belong to an image: as they say, or by folder and name but for its digits."""
    ours = {_pattern(file.path) for file in image.series}
    others = {
        _pattern(file.path)
        for other in images
        if other.first.series != image.first.series
        for file in other.series
    }
    theirs = [file.path.name for file in damaged if file.series == image.first.series]
    alike = [file.path for file in damaged if file.series is None and _pattern(file.path) in ours]
    theirs += [path.name for path in alike if _pattern(path) not in others]
    unclear = sum(_pattern(path) in others for path in alike)
    if theirs:
        yield error(
            "dicom-damaged", f"{_counted(len(theirs), 'file')} empty or damaged: {_some(theirs)}.", _AGAIN
        )
    if unclear:
        yield warning(
            "dicom-damaged",
            f"{_counted(unclear, 'DICOM file')} empty or damaged and may belong to this scan or to another.",
            _AGAIN,
        )


def _pattern(path: Path) -> tuple[Path, str]:
    return path.parent, re.sub(r"[0-9a-fA-F]+", "#", path.name)


def _form_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices that differ in what all slices of an image have in common; the first difference tells."""
    for keyword in _COMMON:
        values = [_value(file.header, keyword) for file in image.files]
        usual = Counter(values).most_common(1)[0][0]
        wrong = [
            file.path.name
            for file, value in zip(image.files, values, strict=True)
            if not _same_value(value, usual)
        ]
        if wrong:
            said = ", ".join(f"{one:g}" if isinstance(one, float) else one for one in usual) or "missing"
            said = f"one {keyword}" if keyword in _NAMES_SOMEBODY else f"{keyword} {said}"
            yield error(
                "dicom-mixed-slices",
                f"Most slices have {said}, but others ({_some(wrong)}) do not.",
                _AS_SENT,
            )
            return


def _value(header: Dataset, keyword: str) -> tuple[float | str, ...]:
    """Return the numbers of an attribute, or its text where it has none; nothing where it is missing."""
    text = _text(header, keyword)
    return tuple(_numbers(header, keyword)) or ((text,) if text else ())


def _same_value(value: tuple[float | str, ...], usual: tuple[float | str, ...]) -> bool:
    """Say whether two values of an attribute are equal, numbers but for their rounding."""
    return len(value) == len(usual) and all(
        abs(one - other) < _SAME_NUMBER
        if isinstance(one, float) and isinstance(other, float)
        else one == other
        for one, other in zip(value, usual, strict=True)
    )


def _scale_findings(image: DicomImage) -> Iterator[Finding]:
    """Find frames of one file with scales of their own, of which dcm2niix applies the first to all."""
    for file in image.files:
        frames = file.header.get("PerFrameFunctionalGroupsSequence") or ()
        slopes = [
            slope
            for frame in frames
            for slope in _numbers(_group(frame, {}, "PixelValueTransformationSequence"), "RescaleSlope")
        ]
        if slopes and np.ptp(slopes) > _SAME_NUMBER * max(np.abs(slopes)):
            yield error(
                "dicom-scaled-frames",
                f"The frames of {file.path.name} have rescale slopes of their own, {min(slopes):g} to "
                f"{max(slopes):g}, and dcm2niix applies one to all.",
                "Convert the series with another program and give the .nii.gz.",
            )
            return


def _direction_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices of which nobody knows how they lie; dcm2niix makes axial ones of them."""
    if image.is_mosaic:
        return
    rows, columns = image.first.orientation[:3], image.first.orientation[3:]
    products = np.array([rows @ rows - 1, columns @ columns - 1, rows @ columns])
    if not rows.size or np.abs(products).max() > _ROUNDED:
        yield error(
            "dicom-no-orientation",
            "The files do not say where their slices lie and how they are turned (ImagePositionPatient and "
            "ImageOrientationPatient, equal for all slices), so that left and right are unknown.",
            _AS_SENT,
        )


def _place_findings(image: DicomImage) -> Iterator[Finding]:
    """Find gaps between slices, slices that lie unevenly or are there more often than others."""
    places = image.places
    if len(places) < 3:
        return
    across = np.concatenate([file.positions for file in image.files])
    across = across - np.outer(across @ image.normal, image.normal)
    aside = float(np.linalg.norm(across - across[0], axis=1).max())
    if aside > _MOST_ASIDE:
        yield error(
            "dicom-shifted-slices",
            f"The slices do not lie straight behind each other: some are {aside:.1f} mm aside.",
            _AS_SENT,
        )
    counts = Counter(count for _, count, _ in places)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        often = "once" if usual == 1 else f"{usual} times"
        wrong = [_named(k, place[2]) for k, place in enumerate(places) if place[1] != usual]
        yield error(
            "dicom-repeated-slices",
            f"Most slices are there {often}, but others ({_some(wrong)}) are not.",
            "Give a folder with one export of the examination.",
        )
    steps = np.diff([place for place, _, _ in places])
    spacing = float(np.median(steps[steps < 1.5 * steps.min()]))
    multiples = np.round(steps / spacing)
    if (np.abs(steps / spacing - multiples) > _UNEVEN * multiples).any():
        yield error(
            "dicom-uneven-slices",
            f"The slices lie unevenly, {steps.min():.2f} to {steps.max():.2f} mm apart.",
            _AS_SENT,
        )
    elif (multiples > 1).any():
        where = [
            f"{multiple - 1:.0f} after {_named(k, places[k][2])}"
            for k, multiple in enumerate(multiples)
            if multiple > 1
        ]
        missing = int((multiples - 1).sum())
        yield error(
            "dicom-missing-slices",
            f"{_counted(missing, 'slice')} missing: {_some(where)} of the {len(places)} that are here.",
            _AGAIN,
        )
    else:
        yield from _regular_gaps(image, spacing)


def _regular_gaps(image: DicomImage, spacing: float) -> Iterator[Finding]:
    """Find out that only every second, third … slice is here: numbers or thickness tell, spacing cannot."""
    header = image.first.header
    thickness, declared = _numbers(header, "SliceThickness"), _numbers(header, "SpacingBetweenSlices")
    numbers = [number for _, _, number in image.places]
    strides = {abs(b - a) for a, b in pairwise(numbers) if a and b}
    stride = strides.pop() if len(strides) == 1 and None not in numbers else 1
    known = {file.number for file in image.series}
    if stride > 1 and not {number + 1 for number in numbers if number} & known:
        expected = [value for value in (*declared, *thickness) if value > 0]
        apart = any(abs(spacing / stride - value) < _UNEVEN * value for value in expected)
    else:
        solid = header.get("MRAcquisitionType") == "3D" and "DERIVED" not in _image_type(header)
        stride = round(spacing / thickness[0]) if solid and thickness and thickness[0] > 0 else 1
        apart, expected = stride > 1, thickness
    if apart or (stride > 1 and not expected):
        yield error(
            "dicom-missing-slices",
            f"Only one slice of {stride} is here ({spacing:.2f} mm apart).",
            _AGAIN,
        )


def _split_findings(image: DicomImage, images: Sequence[DicomImage]) -> Iterator[Finding]:
    """Find slices that continue the stack, but were taken for another image's by what their headers say."""
    others = (one for one in images if one is not image and _same_form(one, image))
    lost = [file.path.name for other in others if _belongs_to(other, image) for file in other.files]
    if lost:
        yield error(
            "dicom-split-series",
            f"{_counted(len(lost), 'more file')} of this series, and continue its slices or do not say where "
            f"they lie; in echo time, image type or identifier they differ from the others ({_some(lost)}).",
            _AS_SENT,
        )


def _belongs_to(other: DicomImage, image: DicomImage) -> bool:
    """Say whether slices of one number lie at an end of a stack, or are of its series and lie nowhere."""
    if other.places or not image.places:
        return other.number == image.number and _continues(other, image)
    return other.first.series == image.first.series


def _same_form(image: DicomImage, other: DicomImage) -> bool:
    """Say whether the slices of two images have the same size and come from the same kind of scanner."""
    return all(
        _value(image.first.header, keyword) == _value(other.first.header, keyword)
        for keyword in ("PatientID", "Modality", "Rows", "Columns")
    )


def _continues(other: DicomImage, image: DicomImage) -> bool:
    """Say whether slices follow at an end of an image's stack, all of them beyond its own."""
    own, more = ([place for place, _, _ in one.places] for one in (image, other))
    if len(own) < 3 or not more or np.abs(image.normal - other.normal).max() > _SAME_DIRECTION:
        return False
    spacing = (own[-1] - own[0]) / (len(own) - 1)
    before, after = own[0] - more[-1], more[0] - own[-1]
    return _SAME_PLACE < max(before, after) < (1 + _UNEVEN) * spacing


def _count_findings(image: DicomImage) -> Iterator[Finding]:
    """Find hints that slices at the ends are missing: numbers and what the scanner announced."""
    here = len(image.series)
    numbers = [file.number for file in image.series if file.number is not None]
    before = min(numbers, default=1) - 1
    if 0 < before <= here:
        yield warning(
            "dicom-first-missing",
            f"The numbers of the DICOM files begin at {before + 1}: the first {before} may be missing.",
            "Compare with the scanner or the archive, and check that the whole head is in the scan.",
        )
    announced = max(
        (int(value) for file in image.series for value in _numbers(file.header, "ImagesInAcquisition")[:1]),
        default=0,
    )
    frames = sum(max(len(file.positions), 1) for file in image.series)
    if announced > frames:
        yield warning(
            "dicom-fewer-images",
            f"The scanner announced {announced} images of this acquisition, but {frames} are here.",
            "Compare with the scanner or the archive, and check that the whole head is in the scan.",
        )


def _named(index: int, number: int | None) -> str:
    return f"slice {index + 1}" if number is None else f"instance {number}"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
