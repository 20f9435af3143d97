"""Brains as pictures that a page scrolls through: all axial slices of a volume side by side in one image.

A browser reads the slices back into a volume and draws any plane of it, so one picture serves three planes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mrharmony.core.volume import BoolArray, FloatArray, Volume, bounding_box
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.report.contact_sheet import BRIGHTEST, DIFFERENCE_LIMIT
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import resample_brain

GRID = Grid.working(1.28)  # fine enough to see the folds, and all layers stay below 2 MB
_QUALITY = 85
_ROOM = 4  # voxels of `GRID` around the brain
_MARGIN = 8  # voxels of a scan around the box of the brain, so that the head is seen


@dataclass(frozen=True)
class Layer:
    """One volume on `GRID`.

    Parameters
    ----------
    label
        What a person reads.
    voxels
        Shape (i, j, k), RAS.
    white
        The value that is shown white.
    """

    label: str
    voxels: FloatArray
    white: float = BRIGHTEST


def on_page(scan: PreparedScan, intensities: FloatArray, *, head: bool = False) -> FloatArray:
    """Return voxels of the native grid, shape (i, j, k), on `GRID`: the brain alone, or what lies around it.

    Values of other grids are anti-aliased; outside the mask they are 0.
    """
    mask = scan.brain_mask
    if head:
        mask = np.zeros_like(mask)
        mask[_box(scan.brain_mask, _MARGIN)] = True
    in_template = Volume(intensities, scan.rigid_to_template @ scan.native.affine)
    voxels, _ = resample_brain(in_template, mask, GRID.shape, GRID.affine)
    return voxels


def layers_record(layers: Mapping[str, Layer], mask: BoolArray) -> dict[str, Any]:
    """Return what the page's script draws the layers from, cropped to the box around a mask on `GRID`."""
    box = _box(mask, _ROOM)
    corner = [float(GRID.affine[axis, axis] * box[axis].start + GRID.affine[axis, 3]) for axis in range(3)]
    shape = [part.stop - part.start for part in box]
    return {
        "shape": shape,
        "corner": corner,
        "zoom": GRID.zooms[0],
        "columns": _columns(shape[2]),
        "brightest": BRIGHTEST,
        "difference": DIFFERENCE_LIMIT,
        "layers": {
            name: {"label": layer.label, "white": layer.white, "picture": _sheet(layer, box)}
            for name, layer in layers.items()
        },
    }


def _columns(slices: int) -> int:
    return int(np.ceil(np.sqrt(slices)))


def _sheet(layer: Layer, box: tuple[slice, ...]) -> str:
    """Return the axial slices, lowest first, anterior up, as a WebP data URI."""
    grey = np.clip(layer.voxels[box] / layer.white, 0, 1) * 255
    slices = np.rint(grey).astype(np.uint8).transpose(2, 1, 0)[:, ::-1]
    columns = _columns(len(slices))
    missing = -len(slices) % columns
    full = np.pad(slices, ((0, missing), (0, 0), (0, 0)))
    rows = full.reshape(-1, columns, *slices.shape[1:]).transpose(0, 2, 1, 3)
    content = io.BytesIO()
    sheet = Image.fromarray(np.ascontiguousarray(rows.reshape(rows.shape[0] * rows.shape[1], -1)))
    sheet.save(content, "WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


def _box(mask: BoolArray, margin: int) -> tuple[slice, ...]:
    """Return the box around a mask with so many voxels of room, inside the grid."""
    return tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size in zip(bounding_box(mask), mask.shape, strict=True)
    )
