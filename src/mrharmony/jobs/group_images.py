"""Looking at each harmonized scan and its source once, for the page of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import Volume
from mrharmony.core.workers import side_by_side, usable_cores
from mrharmony.evaluate.group_measures import MeasuredPair, measure_pair
from mrharmony.jobs.brains import on_one_grid
from mrharmony.report.thumbnails import thumbnail
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import OTHER_IMAGE, HarmonizedSidecar, source_file
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import to_ras

WHOLE_HEAD = "No figures: the output shows the whole head, and does not say where the brain is."
_WORTH_A_WORKER = 8  # scans; a process takes as long to begin


@dataclass(frozen=True)
class ImagePair:
    """A harmonized scan, found by its sidecar's path, and whether a picture of it is wanted."""

    sidecar: Path
    note: HarmonizedSidecar
    pictured: bool


@dataclass(frozen=True)
class Look:
    """What was seen; `remark` says what is missing and why, `damage` why the output is no result any more."""

    measured: MeasuredPair | None = None
    picture: str | None = None  # data URI
    remark: str = ""
    damage: str = ""


def look_at_all(pairs: Sequence[ImagePair]) -> list[Look]:
    """Look at scans, side by side where there are many; no fault of one ends the others."""
    workers = max(1, min(usable_cores(), len(pairs) // _WORTH_A_WORKER))
    return list(track(side_by_side(look_at_pair, pairs, workers), "looking", len(pairs)))


def look_at_pair(pair: ImagePair) -> Look:
    """Look at a scan; a fault of it is the look's remark."""
    try:
        scan = read_scan(pair.sidecar.with_suffix(".nii.gz"), assume_ras=True)
    except MrharmonyError as error:
        return Look(damage=f"{error} Or harmonize the scan again.")
    if pair.note.image_sha256 != scan.sha256:
        return Look(damage=OTHER_IMAGE)
    output = to_ras(scan.volume)
    after = output.with_voxels(output.voxels / np.float32(pair.note.intensity_scale))
    if not (after.voxels > 0).any():
        return Look(remark="No picture: the output is empty.")
    try:
        source, remark = _source(pair, output), ""
    except MrharmonyError as error:
        source, remark = None, f"The output alone: {error}"
    return _seen(pair, source, after, remark)


def _seen(pair: ImagePair, source: Volume | None, after: Volume, remark: str) -> Look:
    mask, measured, before, shading = after.voxels > 0, None, None, None
    if pair.note.extent == "head":
        remark = remark or WHOLE_HEAD
    else:
        try:
            measured = measure_pair(source.voxels if source else None, after)
            shading = measured.shading
        except MrharmonyError as error:
            remark = remark or f"No figures: {error}"
    if pair.pictured and source:
        shaded = source.voxels
        before = shaded / np.float32(_scale(shaded[mask]))
    picture = thumbnail(before, after.voxels, mask, after.zooms, shading) if pair.pictured else None
    return Look(measured, picture, remark)


def _scale(values: np.ndarray) -> float:
    try:
        return intensity_scale(values)
    except MrharmonyError:
        return 1.0


def _source(pair: ImagePair, output: Volume) -> Volume:
    """Return the scan that an output was made from, in RAS order."""
    if not pair.note.sources:
        raise MrharmonyError("it was made of a scan in memory.")
    name, file = pair.note.sources[0], source_file(pair.sidecar, pair.note)
    if file is None or not file.is_file():
        raise MrharmonyError(f"the source {name} is not there any more.")
    source = to_ras(read_scan(file, assume_ras=True).volume)
    if not on_one_grid(source, output):
        raise MrharmonyError(f"the source {name} is on another grid now.")
    return source
