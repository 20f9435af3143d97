"""The DICOM files of a folder, sorted into images by their headers."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Matrix
from mrharmony.scans.folders import is_kind

if TYPE_CHECKING:
    from pydicom import Dataset

    Attributes = Any  # a Dataset, or an empty dictionary in its place

_TAGS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate",
    "AcquisitionDate", "StudyTime", "SeriesTime", "AcquisitionTime", "SeriesDescription", "ProtocolName",
    "MRAcquisitionType", "SliceThickness", "SpacingBetweenSlices", "EchoTime", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "ImagesInAcquisition", "ContrastBolusAgent", "SamplesPerPixel", "PhotometricInterpretation",
    "PixelSpacing", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "PatientID", "Modality",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_PARTS = {
    "P": "phase", "PHASE": "phase", "R": "real", "REAL": "real", "I": "imaginary", "IMAGINARY": "imaginary",
    "M": "magnitude", "MAGNITUDE": "magnitude",
}  # fmt: skip
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_UNCOMPRESSED = frozenset({_IMPLICIT, _EXPLICIT, _BIG_ENDIAN})  # transfer syntaxes; all others compress
_IN_ITEMS = b"\xff\xff\xff\xff"  # the length of compressed pixels, which lie in items
_ITEM = b"\xfe\xff\x00\xe0"  # the tag that each begins with
SAME_PLACE = 0.01  # mm
SAME_DIRECTION = 1e-3  # how far direction cosines of one image may differ
_ROUNDED = 0.01  # how far direction cosines may be from being of length 1 and perpendicular
_DATED = ("Series", "Acquisition", "Study")  # what has a date and a time, the most telling first


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
    pixels_at: int  # bytes before the pixels
    rival: Path | None = None  # another file that says the same of itself and shows other pixels


class SlicePlace(NamedTuple):
    """Where one slice of an image, or several of its slices, lie."""

    along: float  # position along the slice normal, mm
    slices: int  # how many lie there
    number: int | None  # of an instance with one of them


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
        number = numbers_of(self.first.header, "SeriesNumber")
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
        found = {key: text_of(self.first.header, key) for key in keys}
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
    def positions(self) -> Matrix:
        """Of the frames of all its files, mm, shape (n, 3), in the axes of DICOM."""
        return np.concatenate([file.positions for file in self.files])

    @property
    def is_mosaic(self) -> bool:
        """Whether each file holds all slices side by side, whose places it does not say."""
        return "MOSAIC" in image_type_of(self.first.header)

    @property
    def is_directed(self) -> bool:
        """Whether the direction cosines are known, of length 1 and perpendicular."""
        rows, columns = self.first.orientation[:3], self.first.orientation[3:]
        products = np.array([rows @ rows - 1, columns @ columns - 1, rows @ columns])
        return bool(rows.size and np.abs(products).max() < _ROUNDED)

    @cached_property
    def places(self) -> tuple[SlicePlace, ...]:
        """Where its slices lie, in ascending order; empty where their direction or places are unknown."""
        if not self.is_directed or self.is_mosaic:
            return ()
        slices = [
            SlicePlace(float(place @ self.normal), 1, file.number if len(file.positions) == 1 else None)
            for file in self.files
            for place in file.positions
        ]
        places: list[SlicePlace] = []
        for one in sorted(slices, key=lambda one: (one.along, one.number or 0)):
            if places and one.along - places[-1].along < SAME_PLACE:
                places[-1] = places[-1]._replace(slices=places[-1].slices + 1)
            else:
                places.append(one)
        return tuple(places)


def read_folder(folder: Path) -> tuple[list[DicomImage], list[DamagedFile]]:
    """Return the images below a folder, by series number, and its damaged files.

    Copies of a file count once; those whose pixels differ are `rival`s. Raises `MrharmonyError` where a
    folder below cannot be listed.
    """
    read = [_read(path) for path in _files(folder)]
    good: dict[tuple[object, ...], DicomFile] = {}  # what is neither good nor damaged shows nothing
    for file in read:
        if isinstance(file, DicomFile):
            series_number = text_of(file.header, "SeriesNumber")
            said = (file.series, series_number, file.instance, file.number, file.echo, file.part)
            key = (*said, file.positions.tobytes())
            first = good.setdefault(key, file)
            if first is not file and not first.rival and _pixels(first) != _pixels(file):
                good[key] = first._replace(rival=file.path)
    instances = Counter(file.instance for file in good.values())
    damaged = [file for file in read if isinstance(file, DamagedFile) and not _is_copy(file, instances)]
    series: dict[str, list[DicomFile]] = defaultdict(list)
    for file in good.values():
        series[file.series].append(file)
    images = [image for files in series.values() for image in _images(tuple(files))]
    return sorted(images, key=lambda image: (image.number or 0, image.traits)), damaged


def _pixels(file: DicomFile) -> bytes:
    """Return the hash of what follows the header: the pixels, as they are stored."""
    with file.path.open("rb") as stream:
        stream.seek(file.pixels_at)
        return hashlib.file_digest(stream, "sha256").digest()


def _is_copy(file: DamagedFile, instances: Counter[str]) -> bool:
    """Say whether one good file, and no other, has the identifier of a damaged one."""
    return bool(file.instance) and instances[file.instance or ""] == 1


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
            return _described(path, header, stream)
    except Exception:  # pydicom raises whatever a damaged byte leads to
        return DamagedFile(path, None, None)


def _described(path: Path, header: Dataset, stream: BinaryIO) -> DicomFile | DamagedFile | None:
    """Return what the header of a file says that is open where its pixels begin."""
    kind = header.get("SOPClassUID")
    if "Rows" not in header and kind and "Image Storage" not in kind.name:
        return None
    series, instance = str(header.get("SeriesInstanceUID", "")), str(header.get("SOPInstanceUID", ""))
    pixels_at = stream.tell()
    if not _is_whole(header, stream):
        return DamagedFile(path, series, instance)
    positions, orientations = _geometry(header)
    echo = numbers_of(header, "EchoTime")
    number = numbers_of(header, "InstanceNumber")
    part = next((_PARTS[word] for word in image_type_of(header) if word in _PARTS), "")
    return DicomFile(
        path, series, instance, int(number[0]) if number else None, round(echo[0], 2) if echo else None, part,
        positions, orientations, header, pixels_at,
    )  # fmt: skip


def _is_whole(header: Dataset, stream: BinaryIO) -> bool:
    """Say whether a file, open where its pixels begin, holds as many bytes as they need or announce."""
    syntax = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID", _IMPLICIT))
    frames = int(header.get("NumberOfFrames") or 1)
    pixels = header.Rows * header.Columns * frames * int(header.get("SamplesPerPixel") or 1)
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(8 if syntax == _IMPLICIT else 12)  # tag, kind and length of the pixels
    if syntax in _UNCOMPRESSED:
        stated = int.from_bytes(head[-4:], "big" if syntax == _BIG_ENDIAN else "little")
        return bool(min(size - stream.tell(), stated) >= pixels * header.BitsAllocated // 8)
    return head[8:] != _IN_ITEMS or _has_all_items(stream, size)


def _has_all_items(stream: BinaryIO, size: int) -> bool:
    """Say whether compressed pixels, a table and at least one fragment, end within a file of `size` bytes."""
    items = 0
    while (head := stream.read(8))[:4] == _ITEM:
        items += 1
        if len(head) < 8 or stream.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR) > size:
            return False
    return items > 1


def _geometry(header: Dataset) -> tuple[Matrix, Matrix]:
    """Return the positions of all frames and their common orientation, or nothing of both."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        found = [(numbers_of(header, "ImagePositionPatient"), numbers_of(header, "ImageOrientationPatient"))]
    else:
        shared = header.get("SharedFunctionalGroupsSequence") or [{}]
        found = [
            (
                numbers_of(group_of(group, shared[0], "PlanePositionSequence"), "ImagePositionPatient"),
                numbers_of(group_of(group, shared[0], "PlaneOrientationSequence"), "ImageOrientationPatient"),
            )
            for group in groups
        ]
    complete = all(len(place) == 3 and len(direction) == 6 for place, direction in found)
    if not complete or np.ptp([direction for _, direction in found], axis=0).max() > SAME_DIRECTION:
        return np.empty((0, 3)), np.empty(0)
    return np.array([place for place, _ in found]), np.array(found[0][1])


def group_of(frame: Attributes, shared: Attributes, keyword: str) -> Attributes:
    """Return the functional group of a frame, or that which all frames share, or an empty one."""
    return next((source.get(keyword)[0] for source in (frame, shared) if source.get(keyword)), {})


def numbers_of(header: Attributes, keyword: str) -> list[float]:
    """Return the finite numbers of an attribute; none where it is missing or one is not a number."""
    try:
        value = header.get(keyword)
        values = [float(value)] if isinstance(value, int | float | str) else [float(one) for one in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return values if np.isfinite(values).all() else []


def text_of(header: Dataset, keyword: str) -> str:
    """Return the text of an attribute in the file's character set; empty where that is unknown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(header.get(keyword) or "")
    except (LookupError, ValueError):  # an unknown character set
        return ""


def image_type_of(header: Dataset) -> tuple[str, ...]:
    """Return the words of an image's type in capitals."""
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
    if text_of(file.header, "StudyDate") != text_of(other.header, "StudyDate"):
        return False  # two examinations under one identifier
    if (file.echo, file.part, len(file.orientation)) != (other.echo, other.part, len(other.orientation)):
        return False
    return bool((np.abs(file.orientation - other.orientation) <= SAME_DIRECTION).all())
