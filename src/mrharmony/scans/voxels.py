"""How a file stores its voxels, and its intensities as float32: read, and checked before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.findings import Finding, error, info, warning
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.scans.stream import ByteSource, Storage

MAX_VOXELS = 2**29  # 2 GiB of float32: a whole head at 0.25 mm, 880×880×640, still fits
MAX_OFFSET = 64 * 2**20  # bytes from the start of the content to the voxels: header and extensions
MAX_UNPROVEN = 2**28  # bytes of memory for the voxels of a file that may be nothing but a claim
MOST_PER_BYTE = 64  # voxels of a scan in a compressed byte: stripped and padded ones have up to 10
MAX_AXIS = 4096  # most voxels along an axis
MIN_AXIS = 8  # fewest voxels along an axis that can still be a brain scan
VOXELS_AT_ONCE = 1 << 19
EXACT_INTEGERS = 2**24  # every whole number up to this one is a float32
FEWEST_LEVELS = 20  # with fewer grey levels it is a mask or a label map, not a T1w scan
FEW_LEVELS = 64
LEVEL_SAMPLE = 1 << 20
_OF_SAMPLE = 64  # one in so many of the sample is looked at first
# Squares of intensities beyond these leave float32, in which scans are prepared and harmonized.
LEAST_INTENSITY, MOST_INTENSITY = 1e-15, 1e15
CENTRED = 0.5  # an MP2RAGE's uniform image lies between plus and minus that (Marques et al. 2010, equation 3)

PLAUSIBLE_ML = (600.0, 2500.0)  # of a brain
MOST_OF_GRID = 0.9  # that a brain fills: an ellipsoid fills half of the box around it

HOT = 100  # times the 99.9th percentile: a voxel of that size in a brain still moves no mask and no alignment
CENTRED_CODE, HOT_CODE, MANY_VALUED_CODE = "centred-mp2rage", "hot-voxels", "many-valued-mask"

_CONVERT = "Convert the scan again from its source, for instance with `dcm2niix`."
_GIVE_T1W = "Give the three-dimensional T1w scan."


@dataclass(frozen=True)
class Layout:
    """How the header describes the storage of the voxels: intensity = stored value × slope + inter."""

    dimensions: tuple[int, ...]  # voxel counts along all axes; empty where the header names none or too many
    datatype: str  # name of the voxel type, as the format calls it
    dtype: np.dtype[Any] | None  # byte order included; None where NumPy has no equivalent
    offset: float  # bytes from the start of the content to the first voxel; anything in a bad header
    min_offset: int  # the smallest that the format allows
    slope: float
    inter: float
    storage: Storage
    has_footer: bool  # whether the format stores something after the voxels

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
        yield error(
            "unsupported-datatype",
            f"Voxels of type {layout.datatype} cannot be read.",
            "Convert it to float32 or int16, for instance with `mrconvert -datatype float32`.",
        )
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
    if max(layout.dimensions[:3]) > MAX_AXIS:
        yield error(
            "absurd-size",
            f"The header claims an axis of {max(layout.dimensions[:3]):,} voxels; no head needs more than "
            f"{MAX_AXIS:,}.",
            _CONVERT,
        )
        return
    if layout.voxel_count > MAX_VOXELS:
        yield error(
            "absurd-size",
            f"The header claims {layout.voxel_count:,} voxels; more than {MAX_VOXELS:,} are not read.",
            "If the scan really is that fine, resample it to 0.3 mm or coarser; otherwise convert it again.",
        )
        return
    claimed = layout.min_offset + layout.voxel_count * layout.dtype.itemsize
    if claimed > layout.storage.capacity:
        yield error(
            "impossible-size",
            f"The header claims {claimed:,} bytes; this file can hold {layout.storage.capacity:,} at most.",
            "The file was cut off or its header is damaged: copy or convert it again.",
        )


def check_density(layout: Layout) -> Iterator[Finding]:
    """Find compressed files too small for the large scan that they claim, before it takes memory and time."""
    size, compressed = layout.storage
    if layout.dtype is None or min(layout.dimensions, default=0) < 1 or any(check_size(layout)):
        return
    large = layout.voxel_count * max(layout.dtype.itemsize, 4) > MAX_UNPROVEN
    if compressed and large and layout.voxel_count > size * MOST_PER_BYTE:
        yield error(
            "impossible-size",
            f"The header claims {layout.voxel_count:,} voxels, but a head of so many does not fit into "
            f"{size:,} bytes.",
            "The header is damaged or the image is empty: copy or convert it again.",
        )


def check_grid(shape: tuple[int, int, int], name: str, layout: Layout) -> Iterator[Finding]:
    """Find a mask of another shape than the scan of that name."""
    if layout.dimensions[:3] != shape:
        yield other_grid(name)


def other_grid(name: str) -> Finding:
    """Return the finding on a mask that does not lie on the scan of that name."""
    return error("other-grid", f"The mask is not on the voxel grid of {name}.", "Resample it there.")


def check_offset(layout: Layout) -> Iterator[Finding]:
    """Find offsets of the voxels inside the header, or beyond all sense."""
    if not (layout.min_offset <= layout.offset <= MAX_OFFSET and float(layout.offset).is_integer()):
        yield error("bad-offset", f"The header places the voxels at byte {layout.offset:g}.", _CONVERT)


def check_scaling(layout: Layout) -> Iterator[Finding]:
    """Find intensity scalings that are not finite."""
    if not math.isfinite(layout.slope):
        yield warning(
            "bad-scaling",
            f"The header scales intensities by {layout.slope}: they are read unscaled.",
            "Convert the scan again if its intensities matter to you.",
        )
    elif layout.slope != 0 and not math.isfinite(layout.inter):
        yield error("bad-scaling", f"The header adds {layout.inter} to every intensity.", _CONVERT)


CLAIM_CHECKS = (check_dimensions, check_datatype, check_size, check_offset, check_scaling)
LAYOUT_CHECKS = (*CLAIM_CHECKS, check_density)


@dataclass(frozen=True)
class StoredVoxels:
    """The voxels that a file holds, and how many of them cannot be used as they are."""

    shape: tuple[int, int, int]  # voxel counts along i, j, k
    intensities: FloatArray  # scaled, in the file's order (first axis fastest), shape (voxels,)
    non_finite: int  # stored values that are NaN or infinite
    overflowing: int  # finite values too large for float32
    inexact: int  # whole numbers of 64 bits beyond `EXACT_INTEGERS`
    wide_integers: bool  # whether the file stores 64-bit integers

    @property
    def all_finite(self) -> bool:
        """Whether every intensity has a value."""
        return self.non_finite == 0 and self.overflowing == 0

    @cached_property
    def ends(self) -> tuple[np.float32, np.float32]:
        """The least and the greatest intensity; NaN where any is."""
        return self.intensities.min(), self.intensities.max()

    @cached_property
    def sample(self) -> FloatArray:
        """Evenly spaced intensities, about `LEVEL_SAMPLE` where there are more."""
        step = max(1, self.intensities.size // LEVEL_SAMPLE)
        return np.ascontiguousarray(self.intensities[::step])

    @cached_property
    def bright(self) -> float:
        """The 99.9th percentile of the sizes of intensities other than 0; 0 where there are none."""
        sample = self.sample
        sizes = np.abs(sample[sample != 0])
        if not sizes.size:
            sizes = np.abs(self.intensities[self.intensities != 0])
        return float(np.percentile(sizes, 99.9)) if sizes.size else 0.0

    @property
    def hot(self) -> BoolArray:
        """Which voxels are brighter than any tissue can be, shape (voxels,)."""
        limit = HOT * self.bright
        return np.asarray((self.intensities > limit) | (self.intensities < -limit))


def read_voxels(source: ByteSource, layout: Layout) -> StoredVoxels:
    """Read all voxels that a sound layout announces; `ScanFault` where the content ends early or is damaged.

    Intensities are computed in float64, as nibabel does, and rounded once to float32; beside the result
    only one piece of the file is held in memory.
    """
    assert layout.dtype is not None
    intensities = np.empty(layout.voxel_count, dtype=np.float32)
    counts = np.zeros(3, dtype=np.int64)
    source.skip_to(int(layout.offset))
    for start in range(0, layout.voxel_count, VOXELS_AT_ONCE):
        piece = intensities[start : start + VOXELS_AT_ONCE]
        stored = np.frombuffer(source.read(piece.size * layout.dtype.itemsize), dtype=layout.dtype)
        slope, inter = layout.scaling
        scaled = stored if (slope, inter) == (1.0, 0.0) else stored.astype(np.float64) * slope + inter
        piece[:] = scaled
        if scaled is not stored or not _is_short_integer(layout.dtype):
            counts += _oddities(stored, piece)
    non_finite, overflowing, inexact = map(int, counts)
    wide_integers = layout.dtype.kind in "iu" and layout.dtype.itemsize == 8
    return StoredVoxels(layout.shape, intensities, non_finite, overflowing, inexact, wide_integers)


def _is_short_integer(dtype: np.dtype[Any]) -> bool:
    """Whether every value of a type makes a finite float32, and none belongs to an integer of 64 bits."""
    return dtype.kind in "iu" and dtype.itemsize < 8


def _oddities(stored: NDArray[np.number], intensities: FloatArray) -> tuple[int, int, int]:
    """Count non-finite stored values, finite ones that overflow, and 64-bit integers that are inexact."""
    unusable = int(np.count_nonzero(~np.isfinite(intensities)))
    if np.issubdtype(stored.dtype, np.floating):
        non_finite = int(np.count_nonzero(~np.isfinite(stored))) if unusable else 0
        return non_finite, unusable - non_finite, 0
    if stored.dtype.itemsize < 8:
        return 0, unusable, 0
    return 0, unusable, int(np.count_nonzero((stored > EXACT_INTEGERS) | (stored < -EXACT_INTEGERS)))


def non_finite(count: int, size: int) -> Finding:
    """Return the finding on so many voxels of `size` that are NaN or infinite."""
    return error(
        "non-finite-voxels",
        f"Not all voxels are finite: {count:,} ({count / size:.2%}) hold NaN or infinity.",
        "Find out which step made them; if they are background, set them to 0 (`fslmaths IN -nan OUT`).",
    )


def check_finite(stored: StoredVoxels) -> Iterator[Finding]:
    """Find voxels that are NaN, infinite, or beyond float32."""
    if stored.non_finite:
        yield non_finite(stored.non_finite, stored.intensities.size)
    if stored.overflowing:
        yield error(
            "intensity-overflow",
            f"{stored.overflowing:,} voxels have intensities that float32 cannot hold.",
            "Check the header's scl_slope, or rescale the intensities.",
        )


def check_wide_integers(stored: StoredVoxels) -> Iterator[Finding]:
    """Find 64-bit integers: harmless while they are small, but foreign to most tools of the field."""
    if stored.inexact:
        yield error(
            "integer64",
            f"{stored.inexact:,} voxels are 64-bit integers beyond {EXACT_INTEGERS:,}, not intensities.",
            "Convert the scan to int16 or float32 with sensible intensities.",
        )
    elif stored.wide_integers:
        yield warning(
            "integer64",
            "The voxels are 64-bit integers, which many tools cannot read; all fit float32 exactly.",
            "Nothing to do here; for other tools, convert the scan to int16 or float32.",
        )


def _grey_levels(stored: StoredVoxels) -> int:
    """Count different intensities: exactly below `FEW_LEVELS`, otherwise at least that many."""
    sample, intensities = stored.sample, stored.intensities
    levels = np.unique(sample[::_OF_SAMPLE])  # most scans show that many here already
    levels = levels if levels.size >= FEW_LEVELS else np.unique(sample)
    for start in range(0, intensities.size, VOXELS_AT_ONCE):
        if levels.size >= FEW_LEVELS:
            break
        piece = intensities[start : start + VOXELS_AT_ONCE]
        levels = np.union1d(levels, piece if np.ptp(piece) else piece[:1])  # air is not sorted
    return levels.size


def check_contrast(stored: StoredVoxels) -> Iterator[Finding]:
    """Find images without content, and masks or label maps given as scans."""
    intensities = stored.intensities
    if not stored.all_finite:
        return
    if stored.ends[0] == stored.ends[1]:
        yield error(
            "constant-image",
            f"Every voxel is {intensities[0]:g}: the image is empty.",
            "Convert or export the scan again.",
        )
        return
    levels = _grey_levels(stored)
    if levels < FEWEST_LEVELS:
        yield error(
            "few-grey-levels",
            f"The image has only {levels} different intensities: a mask or a label map, not a scan.",
            "Give the T1w scan itself.",
        )
    elif levels < FEW_LEVELS:
        yield warning(
            "few-grey-levels",
            f"The image has only {levels} different intensities; fine contrast was lost.",
            "Convert the scan again without reducing its bit depth, if you can.",
        )


def check_brain_mask(name: str, voxel_ml: float, stored: StoredVoxels) -> Iterator[Finding]:
    """Find masks that are no brain's, and images that stand in for one: every voxel above 0 is brain."""
    if not stored.all_finite:
        return
    inside = np.count_nonzero(stored.intensities > 0)
    size, share = inside * voxel_ml, inside / stored.intensities.size
    if not (PLAUSIBLE_ML[0] <= size <= PLAUSIBLE_ML[1] and share <= MOST_OF_GRID):
        yield error(
            "no-brain-mask",
            f"Its voxels above 0 hold {size:.0f} ml and {share:.0%} of the scan's grid; a brain holds "
            f"{PLAUSIBLE_ML[0]:.0f} to {PLAUSIBLE_ML[1]:.0f} ml and at most {MOST_OF_GRID:.0%}.",
            "Give a mask that is above 0 in the whole brain and nowhere else, and check the voxel sizes.",
        )
    elif _grey_levels(stored) >= FEWEST_LEVELS:
        yield warning(
            MANY_VALUED_CODE,
            f"The brain mask {name} holds many different values; all voxels above 0 are taken for brain.",
            "If more than the brain is above 0, as in a probability map, give a mask of 0 and 1.",
        )


def check_sign(stored: StoredVoxels) -> Iterator[Finding]:
    """Find negative intensities, which a magnitude image does not have."""
    intensities = stored.intensities
    if not stored.all_finite or stored.ends[0] >= 0:
        return
    negative = int(np.count_nonzero(intensities < 0))
    if is_centred_mp2rage(*stored.ends):
        yield warning(
            CENTRED_CODE,
            f"The voxels lie between -{CENTRED:g} and {CENTRED:g}, as in an MP2RAGE's uniform image (UNI): "
            f"{CENTRED:g} is added to every voxel.",
            "Check that it is one; output intensities are those of the shifted image.",
        )
    elif negative > np.count_nonzero(intensities) / 2:
        remedy = "Give the magnitude image as the scanner made it, not a z-scored, phase or CT image."
        if negative == np.count_nonzero(intensities == stored.ends[0]):
            remedy = (
                f"All of them are {stored.ends[0]:g}: if that is the background, give a copy with 0 there."
            )
        yield error(
            "mostly-negative",
            f"{negative:,} voxels, most of those that are not 0, are negative.",
            remedy,
        )
    else:
        yield warning(
            "negative-intensities",
            f"{negative:,} voxels are negative, down to {stored.ends[0]:g}.",
            "Resampling can do that; give the scan as the scanner made it, if you can.",
        )


def is_centred_mp2rage(least: np.float32, greatest: np.float32) -> bool:
    """Say whether intensities fill the range of an MP2RAGE's uniform image, -0.5 to 0.5, and not more."""
    low, high = float(least), float(greatest)
    return min(-low, high) >= CENTRED - 0.05 and max(-low, high) <= CENTRED + 0.001


def check_range(stored: StoredVoxels) -> Iterator[Finding]:
    """Find intensities whose squares float32 cannot hold."""
    if not stored.all_finite:
        return
    if stored.bright > MOST_INTENSITY or 0 < stored.bright < LEAST_INTENSITY:
        yield error(
            "intensity-range",
            f"The intensities reach {stored.bright:.3g}; only those between {LEAST_INTENSITY:g} and "
            f"{MOST_INTENSITY:g} can be computed with.",
            "Check the header's scl_slope, or give a copy with its intensities rescaled.",
        )


def check_hot_voxels(stored: StoredVoxels) -> Iterator[Finding]:
    """Find voxels so bright that they would outweigh all others."""
    if not stored.all_finite:
        return
    limit = HOT * stored.bright
    if stored.ends[1] > limit or stored.ends[0] < -limit:
        hot = int(np.count_nonzero(stored.hot))
        yield warning(
            HOT_CODE,
            f"{hot:,} voxels are over {HOT} times brighter than 99.9 % of the others; they are read as "
            f"{stored.bright:.4g}.",
            "Find out which step made them: a coil's spike, or a division by almost nothing.",
        )


def intensities_of(stored: StoredVoxels, findings: Iterable[Finding]) -> FloatArray:
    """Return the intensities of a scan, with the corrections that its findings announce."""
    codes = {finding.code for finding in findings}
    intensities = stored.intensities
    if HOT_CODE in codes:
        intensities = np.where(stored.hot, np.sign(intensities) * np.float32(stored.bright), intensities)
    return intensities + np.float32(CENTRED) if CENTRED_CODE in codes else intensities


VOXEL_CHECKS = (check_finite, check_range, check_hot_voxels, check_wide_integers, check_contrast, check_sign)
