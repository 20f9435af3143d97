"""How a file says that its voxels are stored, and what can be wrong with that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrharmony.core.findings import error, info, warning
from mrharmony.core.volume import Finding

MAX_VOXELS = 2**29
"""Largest scan that is read (2 GiB of float32). A whole head at 0.25 mm, 880×880×640, still fits."""

MAX_OFFSET = 64 * 2**20
"""Largest distance in bytes from the start of the content to the voxels: header and its extensions."""

MIN_AXIS = 8
"""Fewest voxels along an axis that can still be a brain scan."""


@dataclass(frozen=True)
class Layout:
    """How the header describes the storage of the voxels.

    Parameters
    ----------
    dimensions
        Voxel counts along every axis that the header names; empty where it names none or too many.
    datatype
        Name of the voxel type, as the format calls it.
    dtype
        The same for NumPy, byte order included; None where there is no equivalent.
    offset
        Bytes from the start of the content to the first voxel; may be any number in a bad header.
    min_offset
        The smallest offset that the format allows.
    slope, inter
        Intensity = stored value × slope + inter.
    capacity
        The most bytes of content that the file can hold, given its size and compression.
    has_footer
        Whether the format stores something after the voxels.
    """

    dimensions: tuple[int, ...]
    datatype: str
    dtype: np.dtype[Any] | None
    offset: float
    min_offset: int
    slope: float
    inter: float
    capacity: int
    has_footer: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts along i, j, k."""
        i, j, k = self.dimensions[:3]
        return i, j, k

    @property
    def voxel_count(self) -> int:
        """How many voxels the header claims, over all axes."""
        return math.prod(self.dimensions)

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept to apply: a slope of zero or without a value means none (NIfTI-1)."""
        if self.slope == 0 or not math.isfinite(self.slope):
            return 1.0, 0.0
        return self.slope, self.inter


def check_dimensions(layout: Layout) -> Iterator[Finding]:
    """Find images that are not one three-dimensional volume."""
    dimensions = layout.dimensions
    text = "×".join(map(str, dimensions))
    if not dimensions or min(dimensions) < 1:
        yield error("bad-dimensions", f"The header's dimensions ({text}) make no sense.", _CONVERT)
    elif len(dimensions) < 3:
        yield error("not-3d", f"The image has {len(dimensions)} axes ({text}), not three.", _GIVE_T1W)
    elif math.prod(dimensions[3:]) > 1:
        yield error(
            "many-volumes",
            f"The image has {math.prod(dimensions[3:])} volumes or components ({text}), not one.",
            "Extract the T1w volume first, for instance with `mrconvert -coord 3 0`.",
        )
    elif min(dimensions[:3]) < MIN_AXIS:
        yield error("too-thin", f"An axis has fewer than {MIN_AXIS} voxels ({text}).", _GIVE_T1W)
    elif len(dimensions) > 3:
        yield info(
            "squeezed",
            f"The image has {len(dimensions)} axes ({text}) but one volume: it is read and written as 3D.",
        )


def check_datatype(layout: Layout) -> Iterator[Finding]:
    """Find voxel types that hold no real intensities."""
    dtype = layout.dtype
    if dtype is None or (dtype.kind in "fiu" and dtype.itemsize > 8):
        yield error("unsupported-datatype", f"Voxels of type {layout.datatype} cannot be read.", _AS_FLOAT)
    elif dtype.kind == "V":
        yield error(
            "colour-data",
            f"The voxels are colours ({layout.datatype}), not intensities.",
            "Give the greyscale T1w scan.",
        )
    elif dtype.kind == "c":
        yield error(
            "complex-data",
            f"The voxels are complex numbers ({layout.datatype}).",
            "Give the magnitude image.",
        )


def check_size(layout: Layout) -> Iterator[Finding]:
    """Find claims that no memory or no such file can hold, before any memory is taken."""
    if layout.dtype is None or not layout.dimensions or min(layout.dimensions) < 1:
        return
    if layout.voxel_count > MAX_VOXELS:
        yield error(
            "absurd-size",
            f"The header claims {layout.voxel_count:,} voxels; more than {MAX_VOXELS:,} are not read.",
            "If the scan really is that fine, resample it to 0.3 mm or coarser; otherwise convert it again.",
        )
        return
    claimed = layout.min_offset + layout.voxel_count * layout.dtype.itemsize
    if claimed > layout.capacity:
        yield error(
            "impossible-size",
            f"The header claims {claimed:,} bytes, more than this file can hold ({layout.capacity:,}).",
            "The file was cut off or its header is damaged: copy or convert it again.",
        )


def check_offset(layout: Layout) -> Iterator[Finding]:
    """Find voxel data that start inside the header, or nowhere."""
    if not (layout.min_offset <= layout.offset <= MAX_OFFSET and float(layout.offset).is_integer()):
        yield error("bad-offset", f"The header places the voxels at byte {layout.offset:g}.", _CONVERT)


def check_scaling(layout: Layout) -> Iterator[Finding]:
    """Find intensity scalings without a value."""
    if not math.isfinite(layout.slope):
        yield warning(
            "bad-scaling",
            f"The header scales intensities by {layout.slope}: they are read unscaled.",
            "Convert the scan again if its intensities matter to you.",
        )
    elif layout.slope != 0 and not math.isfinite(layout.inter):
        yield error("bad-scaling", f"The header adds {layout.inter} to every intensity.", _CONVERT)


_CONVERT = "Convert the scan again from its source, for instance with `dcm2niix`."
_GIVE_T1W = "Give the three-dimensional T1w scan."
_AS_FLOAT = "Convert it to float32 or int16, for instance with `mrconvert -datatype float32`."

LAYOUT_CHECKS = (check_dimensions, check_datatype, check_size, check_offset, check_scaling)
