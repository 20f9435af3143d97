"""What is missing or wrong of an image that a folder holds as DICOM files.

dcm2niix stacks whatever slices it is given; here the positions that the scanner wrote decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import Polynomial

from mrharmony.core.findings import Finding, error, warning
from mrharmony.core.wording import count_is, some_of
from mrharmony.scans.dicom_files import (
    SAME_PLACE,
    DamagedFile,
    DicomImage,
    SlicePlace,
    group_of,
    image_type_of,
    numbers_of,
    text_of,
)

if TYPE_CHECKING:
    from pydicom import Dataset

    from mrharmony.scans.dicom_files import Attributes

# What all slices of an image have in common: dcm2niix leaves a slice of another number, rows or columns out,
# and gives one that differs in the rest wrong values or voxel edges, or stacks another head.
_COMMON = (
    "PatientID", "Modality", "SeriesNumber", "Rows", "Columns",
    "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing",
)  # fmt: skip
_FORM = "SOPClassUID", "PatientID", "Modality", "Rows", "Columns"  # of a slice that may belong to an image
_NAMES_SOMEBODY = frozenset({"PatientID"})  # what no message may repeat
_SAME_NUMBER = 1e-3
_MOST_ASIDE = 0.5  # mm: how far a slice may lie aside from the others; rounded positions are off by less
_UNEVEN = 0.1  # part of the slice spacing by which a slice may lie off an even stack
_ROUNDED_MM = 0.1  # how far rounding may put a slice off
_NEAR = 5  # slice spacings from an end of a stack within which others may continue it
_LIKE_DIRECTION = 0.98  # least cosine between the directions across slices of one stack
_AS_SENT = "Give the series as the scanner sent it, or get its files again from the archive."
_AGAIN = "Get the missing files again from the scanner or the archive."


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
    yield from _rival_findings(image)
    yield from _damaged_findings(image, images, damaged)
    yield from _form_findings(image)
    yield from _scale_findings(image)
    yield from _direction_findings(image)
    yield from _place_findings(image)
    yield from _split_findings(image, images)
    yield from _count_findings(image)


def _rival_findings(image: DicomImage) -> Iterator[Finding]:
    """Refuse files that say the same of themselves and differ in their pixels, as a defaced copy does."""
    rivals = [file for file in image.files if file.rival]
    if rivals:
        yield error(
            "dicom-unequal-copies",
            f"{len(rivals)} of its {len(image.files)} have the identifiers of other files, and other pixels, "
            f"such as {rivals[0].path} and {rivals[0].rival}.",
            "Give a folder with one export of the examination.",
        )


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
            "dicom-damaged",
            f"{count_is(len(theirs), 'file')} empty or damaged: {some_of(theirs)}.",
            _AGAIN,
        )
    if unclear:
        yield warning(
            "dicom-damaged",
            f"{count_is(unclear, 'DICOM file')} empty or damaged and may belong to this scan or to another.",
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
                f"Most slices have {said}, but others ({some_of(wrong)}) do not.",
                _AS_SENT,
            )
            return


def _value(header: Dataset, keyword: str) -> tuple[float | str, ...]:
    """Return the numbers of an attribute, or its text where it has none; nothing where it is missing."""
    text = text_of(header, keyword)
    return tuple(numbers_of(header, keyword)) or ((text,) if text else ())


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
        shared = file.header.get("SharedFunctionalGroupsSequence") or [{}]
        scales = [_scale(group_of(frame, shared[0], "PixelValueTransformationSequence")) for frame in frames]
        if scales and not np.allclose(scales, scales[0], rtol=_SAME_NUMBER, atol=0):
            yield error(
                "dicom-scaled-frames",
                f"The frames of {file.path.name} have rescale slopes or intercepts of their own, and "
                "dcm2niix takes one for all.",
                "Convert the series with another program and give the .nii.gz.",
            )
            return


def _scale(group: Attributes) -> tuple[float, float]:
    """Return slope and intercept of a frame; those of a frame that says none are 1 and 0."""
    slope, intercept = (numbers_of(group, f"Rescale{what}") for what in ("Slope", "Intercept"))
    return (slope or [1.0])[0], (intercept or [0.0])[0]


def _direction_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices of which nobody knows how they lie; dcm2niix makes axial ones of them."""
    if not image.is_directed and not image.is_mosaic:
        yield error(
            "dicom-no-orientation",
            "The files do not say where their slices lie and how they are turned (ImagePositionPatient and "
            "ImageOrientationPatient, equal for all slices), so that left and right are unknown.",
            _AS_SENT,
        )


def _place_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices that lie aside, unevenly or nowhere, are there more often than others, or are missing."""
    places = image.places
    slices = sum(place.slices for place in places)
    if len(places) < min(slices, 3):
        yield error(
            "dicom-no-places",
            f"Of {slices} slices only {len(places)} are said to lie apart, so that their order is unknown.",
            _AS_SENT,
        )
    if len(places) < 3:
        return
    yield from _aside_findings(image)
    yield from _repeated_findings(places)
    yield from _gap_findings(image)


def _repeated_findings(places: Sequence[SlicePlace]) -> Iterator[Finding]:
    """Find slices that are there more or less often than most."""
    usual = Counter(place.slices for place in places).most_common(1)[0][0]
    wrong = [_name_of(k, place) for k, place in enumerate(places) if place.slices != usual]
    if wrong:
        often = "once" if usual == 1 else f"{usual} times"
        yield error(
            "dicom-repeated-slices",
            f"Most slices are there {often}, but others ({some_of(wrong)}) are not.",
            "Give a folder with one export of the examination.",
        )


def _gap_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices that lie unevenly, and gaps between them."""
    along = np.array([place.along for place in image.places])
    steps = np.diff(along)
    spacing = float(np.median(steps[steps < 1.5 * steps.min()]))
    multiples = np.round(steps / spacing)
    index = np.append(0, np.cumsum(multiples))
    even = Polynomial.fit(index, along, 1)(index)
    if np.abs(along - even).max() > max(_UNEVEN * spacing, _ROUNDED_MM):
        yield error(
            "dicom-uneven-slices",
            f"The slices lie unevenly, {steps.min():.2f} to {steps.max():.2f} mm apart.",
            _AS_SENT,
        )
    elif (multiples > 1).any():
        where = [
            f"{multiple - 1:.0f} after {_name_of(k, image.places[k])}"
            for k, multiple in enumerate(multiples)
            if multiple > 1
        ]
        missing = int((multiples - 1).sum())
        yield error(
            "dicom-missing-slices",
            f"{count_is(missing, 'slice')} missing: {some_of(where)} of the {len(along)} that are here.",
            _AGAIN,
        )
    else:
        yield from _regular_gaps(image, spacing)


def _aside_findings(image: DicomImage) -> Iterator[Finding]:
    """Find slices that are shifted in their plane."""
    positions = image.positions
    across = positions - np.outer(positions @ image.normal, image.normal)
    aside = float(np.linalg.norm(across - across[0], axis=1).max())
    if aside > _MOST_ASIDE:
        yield error(
            "dicom-shifted-slices",
            f"The slices do not lie straight behind each other: some are {aside:.1f} mm aside.",
            _AS_SENT,
        )


def _regular_gaps(image: DicomImage, spacing: float) -> Iterator[Finding]:
    """Find out that only every second, third … slice is here: numbers or thickness tell, spacing cannot."""
    header = image.first.header
    thickness, declared = numbers_of(header, "SliceThickness"), numbers_of(header, "SpacingBetweenSlices")
    numbers = [place.number for place in image.places]
    strides = {abs(b - a) for a, b in pairwise(numbers) if a and b}
    stride = strides.pop() if len(strides) == 1 and None not in numbers else 1
    known = {file.number for file in image.series}
    if stride > 1 and not {number + 1 for number in numbers if number} & known:
        expected = [value for value in (*declared, *thickness) if value > 0]
        apart = any(abs(spacing / stride - value) < _UNEVEN * value for value in expected)
    else:
        solid = header.get("MRAcquisitionType") == "3D" and "DERIVED" not in image_type_of(header)
        as_declared = any(abs(spacing - value) < _UNEVEN * spacing for value in declared)
        tells = solid and thickness and thickness[0] > 0 and not as_declared
        stride = round(spacing / thickness[0]) if tells else 1
        apart, expected = stride > 1, thickness
    if apart or (stride > 1 and not expected):
        yield error(
            "dicom-missing-slices",
            f"Only one slice of {stride} is here ({spacing:.2f} mm apart).",
            _AGAIN,
        )


def _split_findings(image: DicomImage, images: Sequence[DicomImage]) -> Iterator[Finding]:
    """Find slices that continue the stack, but were taken for another image's by what their headers say."""
    others = (one for one in images if one is not image and _is_part(one, image))
    lost = [file.path.name for other in others for file in other.files]
    if lost:
        yield error(
            "dicom-split-series",
            f"{count_is(len(lost), 'more file')} of this series, and continue its slices or do not say where "
            "they lie; in direction, echo time, image type, number or identifier they differ from the others "
            f"({some_of(lost)}).",
            _AS_SENT,
        )


def _is_part(other: DicomImage, image: DicomImage) -> bool:
    """Say whether slices of one series or number lie in gaps or at ends of a stack, or do not say where."""
    studies = {_value(one.first.header, "StudyInstanceUID") for one in (other, image)} - {()}
    named = other.first.series == image.first.series or other.number == image.number
    if other.places or not image.places:
        return len(studies) < 2 and (named or None in (other.number, image.number)) and _fills(other, image)
    return named and all(
        _value(other.first.header, keyword) == _value(image.first.header, keyword) for keyword in _FORM
    )


def _fills(other: DicomImage, image: DicomImage) -> bool:
    """Say whether slices lie where a stack has none, in it or near its ends, and others of theirs on its own.

    Other echoes, parts and examinations show the same region: theirs lie all on its own, or between them.
    """
    own = np.array([place.along for place in image.places])
    if len(own) < 3 or abs(other.normal @ image.normal) < _LIKE_DIRECTION:
        return False
    there = other.positions @ image.normal
    away = np.abs(there[:, None] - own).min(axis=1)
    spacing = float(np.median(np.diff(own)))
    free = away > spacing / 2
    return bool((free | (away < SAME_PLACE)).all() and (free & (away < _NEAR * spacing)).any())


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
        (int(value) for file in image.series for value in numbers_of(file.header, "ImagesInAcquisition")[:1]),
        default=0,
    )
    frames = sum(max(len(file.positions), 1) for file in image.series)
    if announced > frames:
        yield warning(
            "dicom-fewer-images",
            f"The scanner announced {announced} images of this acquisition, but {frames} are here.",
            "Compare with the scanner or the archive, and check that the whole head is in the scan.",
        )


def _name_of(index: int, place: SlicePlace) -> str:
    return f"slice {index + 1}" if place.number is None else f"instance {place.number}"
