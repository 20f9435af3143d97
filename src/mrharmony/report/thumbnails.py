"""Small pictures of a scan before and after harmonization, for a page with many scans."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.group_measures import Shading
from mrharmony.report.contact_sheet import BRIGHTEST
from mrharmony.report.page import PLANES, slice_places

_PIXEL_MM = 1.5
_QUALITY = 60


def thumbnail(
    before: FloatArray | None,
    after: FloatArray,
    mask: BoolArray,
    zooms: Sequence[float],
    shading: Shading | None = None,
) -> str:
    """Return middle slices on three planes as a WebP data URI: a row before, if there is one, and one after.

    Parameters
    ----------
    before, after
        Source and output in canonical units, RAS order, shape (i, j, k).
    mask
        The brain; not empty.
    zooms
        Voxel size in mm.
    shading
        Divided out of the source.
    """
    planes = [(axis, slice_places(mask, axis, 1)[0]) for axis in PLANES.values()]
    rows = [[_slice(after, mask, zooms, *plane) for plane in planes]]
    if before is not None:
        rows.insert(0, [_slice(before, mask, zooms, *plane, shading) for plane in planes])
    height = max(picture.height for picture in rows[0])
    width = sum(picture.width for picture in rows[0])
    sheet = Image.new("L", (width, height * len(rows)))
    for number, row in enumerate(rows):
        left = 0
        for picture in row:
            sheet.paste(picture, (left, number * height + (height - picture.height) // 2))
            left += picture.width
    content = io.BytesIO()
    sheet.save(content, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


def _slice(
    voxels: FloatArray,
    mask: BoolArray,
    zooms: Sequence[float],
    axis: int,
    place: int,
    shading: Shading | None = None,
) -> Image.Image:
    """Return one slice inside the box of the brain, 0 outside the brain."""
    inside = np.take(mask, place, axis)
    shown = np.where(inside, np.take(voxels, place, axis), 0)
    if shading is not None:
        indices = np.insert(np.argwhere(inside), axis, place, axis=1).astype(np.float64)
        shown[inside] /= shading.at(indices)
    filled = [
        np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {other}))) for other in range(3) if other != axis
    ]
    box = shown[filled[0][0] : filled[0][-1] + 1, filled[1][0] : filled[1][-1] + 1]
    grey = np.rint(np.clip(box / BRIGHTEST, 0, 1) * 255).astype(np.uint8)
    across, up = (zoom for number, zoom in enumerate(zooms) if number != axis)
    size = max(1, round(box.shape[0] * across / _PIXEL_MM)), max(1, round(box.shape[1] * up / _PIXEL_MM))
    return Image.fromarray(np.ascontiguousarray(grey.T[::-1])).resize(size, Image.Resampling.BOX)
