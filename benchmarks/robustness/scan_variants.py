"""Variants of a real head as scanners and archives make them, each with the way back to the head.

Positions are millimetres of the world; `moved` takes the world of the scan to that of its variant.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.space.resampling import FWHM_PER_SIGMA, array_to_ras, to_ras

_ROOM = 10.0  # mm around the brain that every resampled field of view keeps
_LARGEST_TURN = 45.0  # degrees


@dataclass(frozen=True)
class Head:
    """A scan in RAS voxel order and its brain mask."""

    volume: Volume
    brain_mask: BoolArray

    @classmethod
    def of(cls, volume: Volume, brain_mask: BoolArray) -> "Head":
        """Bring a scan and its mask, both in the scan's own order, into RAS order."""
        return cls(to_ras(volume), array_to_ras(brain_mask, volume))

    @property
    def white(self) -> float:
        """Intensity of bright brain."""
        return float(np.percentile(self.volume.voxels[self.brain_mask], 90))

    @property
    def corners(self) -> FloatArray:
        """Corners of the brain's box, mm, shape (8, 3)."""
        found = np.argwhere(self.brain_mask)
        box = np.stack([found.min(axis=0), found.max(axis=0)])
        choices = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
        return np.asarray(apply_affine(self.volume.affine, box[choices, [0, 1, 2]]))


@dataclass(frozen=True)
class Variant:
    """A variant of a head: the scan, the motion of its world, and how it was made."""

    volume: Volume
    moved: Matrix = field(default_factory=lambda: np.eye(4))
    details: dict[str, Any] = field(default_factory=dict)


def turned(head: Head, rng: np.random.Generator, largest: float = _LARGEST_TURN) -> Variant:
    """Turn the head in the scanner by 5° to 45° about any axis; the grid stays level."""
    motion, details = _turn(head, rng, largest)
    return Variant(_resampled(head, motion, np.array(head.volume.zooms)), motion, details)


def reordered(head: Head, rng: np.random.Generator) -> Variant:
    """Store the voxels in one of the 48 orders."""
    order = np.column_stack([rng.permutation(3), rng.choice([-1, 1], 3)])
    return Variant(in_order(head.volume, order), details={"order": order.tolist()})


def thick(head: Head, rng: np.random.Generator) -> Variant:
    """Make slices of 2 to 3 mm across one axis, with their blur."""
    axis, zoom = int(rng.integers(3)), float(rng.uniform(2.2, 3.0))
    zooms = np.array(head.volume.zooms)
    zooms[axis] = max(zoom, zooms[axis])
    return Variant(_resampled(head, np.eye(4), zooms), details={"axis": axis, "mm": round(zoom, 2)})


def fine(head: Head, rng: np.random.Generator) -> Variant:
    """Make cubic voxels of 0.5 to 0.7 mm."""
    return cubic(head, float(rng.uniform(0.5, 0.7)))


def coarse(head: Head, rng: np.random.Generator) -> Variant:
    """Make cubic voxels of 2.5 to 3 mm, with their blur."""
    return cubic(head, float(rng.uniform(2.5, 3.0)))


def oblique(head: Head, rng: np.random.Generator, largest: float = _LARGEST_TURN) -> Variant:
    """Tilt the stack of slices, and the head with it: the same voxels under a turned affine."""
    motion, details = _turn(head, rng, largest)
    return Variant(Volume(head.volume.voxels, motion @ head.volume.affine), motion, details)


def cropped(head: Head, rng: np.random.Generator) -> Variant:
    """Cut the neck away, all around the brain tightly, or a slab of 5 to 20 mm off one side of the brain."""
    found = np.argwhere(head.brain_mask)
    low, high = found.min(axis=0), found.max(axis=0) + 1
    shape, zooms = np.array(head.volume.shape), np.array(head.volume.zooms)
    way = str(rng.choice(["neck", "tight", "brain"]))
    room = np.ceil(3.0 / zooms).astype(int)
    start, stop = np.zeros(3, int), shape
    details: dict[str, Any] = {"cut": way}
    if way == "neck":
        start = np.array([0, 0, max(low[2] - room[2], 0)])
    elif way == "tight":
        start, stop = np.maximum(low - room, 0), np.minimum(high + room, shape)
    else:
        axis, at_end, depth = int(rng.integers(3)), bool(rng.integers(2)), float(rng.uniform(5, 20))
        cut = round(depth / zooms[axis])
        start, stop = start.copy(), stop.copy()
        if at_end:
            stop[axis] = high[axis] - cut
        else:
            start[axis] = low[axis] + cut
        details |= {"axis": axis, "at_end": at_end, "mm": round(depth, 1)}
    return Variant(_box(head.volume, start, stop), details=details)


def noisy(head: Head, rng: np.random.Generator) -> Variant:
    """Add Rician noise of 3 to 10 % of white matter."""
    share = float(rng.uniform(0.03, 0.10))
    sigma = share * head.white
    real, imaginary = (rng.normal(0, sigma, head.volume.shape) for _ in range(2))
    voxels = np.hypot(head.volume.voxels + real, imaginary)
    return Variant(head.volume.with_voxels(voxels), details={"share": round(share, 3)})


def biased(head: Head, rng: np.random.Generator) -> Variant:
    """Multiply by a smooth field whose largest value in the brain is 2 to 5 times the smallest."""
    ratio = float(rng.uniform(2, 5))
    i, j, k = (np.linspace(-1, 1, size) for size in head.volume.shape)
    planes = np.meshgrid(i, j, k, indexing="ij")
    terms = [*planes, *(one * other for one in planes for other in planes)]
    log_field = sum(weight * term for weight, term in zip(rng.normal(size=12), terms, strict=True))
    inside = log_field[head.brain_mask]
    scaled = (log_field - inside.mean()) / np.ptp(inside) * np.log(ratio)
    field = np.exp(np.clip(scaled, -np.log(ratio), np.log(ratio)))
    return Variant(head.volume.with_voxels(head.volume.voxels * field), details={"ratio": round(ratio, 2)})


def inverted(head: Head, rng: np.random.Generator) -> Variant:
    """Make bright dark and dark bright: everywhere, or in the head only as other contrasts do."""
    voxels = head.volume.voxels
    top = float(np.percentile(voxels, 99.9))
    way = str(rng.choice(["everywhere", "head"]))
    reversed_voxels = np.maximum(top - voxels, 0)
    if way == "head":
        reversed_voxels = np.where(voxels > 0.12 * head.white, reversed_voxels, voxels)
    return Variant(head.volume.with_voxels(reversed_voxels), details={"where": way})


def overturned(head: Head, rng: np.random.Generator) -> Variant:
    """Let the header lie: top and bottom, or front and back, or both exchanged, as lost orientations do."""
    axes = [(0, 1), (0, 2), (1, 2)][int(rng.integers(3))]  # two axes, so that left stays left or is turned
    signs = np.ones(3)
    signs[list(axes)] = -1
    centre = head.corners.mean(axis=0)
    motion = from_matvec(np.diag(signs), centre - signs * centre)
    return Variant(Volume(head.volume.voxels, motion @ head.volume.affine), motion, {"reversed": list(axes)})


def mixed(head: Head, rng: np.random.Generator) -> Variant:
    """Turn by up to 30°, thick slices, bias and noise, stored in any order."""
    motion, details = _turn(head, rng, 30.0)
    zooms = np.array(head.volume.zooms)
    axis = int(rng.integers(3))
    zooms[axis] = max(float(rng.uniform(2, 3)), zooms[axis])
    mask_there = _resampled(Head(head.volume.with_voxels(head.brain_mask), head.brain_mask), motion, zooms)
    there = Head(_resampled(head, motion, zooms), mask_there.voxels > 0.5)
    made = [details]
    for step in (biased, noisy, reordered):
        variant = step(there, rng)
        made.append(variant.details)
        there = Head(variant.volume, there.brain_mask)
    return Variant(there.volume, motion, {key: value for part in made for key, value in part.items()})


KINDS: dict[str, tuple[Callable[[Head, np.random.Generator], Variant], int]] = {
    "turned": (turned, 34),
    "reordered": (reordered, 10),
    "thick slices": (thick, 20),
    "oblique": (oblique, 24),
    "cropped": (cropped, 30),
    "noisy": (noisy, 14),
    "biased": (biased, 18),
    "mixed": (mixed, 26),
    "inverted": (inverted, 16),
    "overturned": (overturned, 8),
}
"""What is done to heads, and how often."""

VOXEL_SIZES: dict[str, tuple[Callable[[Head, np.random.Generator], Variant], int]] = {
    "fine": (fine, 4),
    "coarse": (coarse, 16),
}
"""The same with the ends of the range of voxel sizes."""

REFUSED_KINDS = ("inverted", "overturned")
"""What shall not pass: no T1w contrast, and headers that lie."""


def cubic(head: Head, zoom: float) -> Variant:
    return Variant(_resampled(head, np.eye(4), np.full(3, zoom)), details={"mm": round(zoom, 2)})


def _turn(head: Head, rng: np.random.Generator, largest: float) -> tuple[Matrix, dict[str, Any]]:
    """Draw a rotation about the brain's centre."""
    axis = rng.normal(size=3)
    degrees = float(rng.uniform(5, largest))
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    centre = head.corners.mean(axis=0)
    return from_matvec(turn, centre - turn @ centre), {"degrees": round(degrees, 1)}


def _resampled(head: Head, motion: Matrix, zooms: FloatArray) -> Volume:
    """Return the moved head on a level grid with a field of view as large as its own, the brain inside."""
    volume = head.volume
    extent = np.array(volume.shape) * volume.zooms
    middle = apply_affine(motion @ volume.affine, (np.array(volume.shape) - 1) / 2)
    brain = apply_affine(motion, head.corners)
    low = np.minimum(middle - extent / 2, brain.min(axis=0) - _ROOM)
    high = np.maximum(middle + extent / 2, brain.max(axis=0) + _ROOM)
    i, j, k = (int(n) for n in np.ceil((high - low) / zooms))
    affine = from_matvec(np.diag(zooms), low + np.array(zooms) / 2)
    blur = np.sqrt(np.maximum((np.array(zooms) / volume.zooms) ** 2 - 1, 0)) / FWHM_PER_SIGMA
    back = np.linalg.inv(motion @ volume.affine) @ affine
    background = float(volume.voxels[0, 0, 0])
    voxels = affine_transform(
        gaussian_filter(volume.voxels, blur), back[:3, :3], back[:3, 3], (i, j, k), order=1, cval=background
    )
    return Volume(voxels, affine)


def _box(volume: Volume, start: FloatArray, stop: FloatArray) -> Volume:
    cut = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    affine = volume.affine.copy()
    affine[:3, 3] = apply_affine(affine, start)
    return Volume(np.ascontiguousarray(volume.voxels[cut]), affine)


def in_order(volume: Volume, order: FloatArray) -> Volume:
    """Store the voxels in another order, as nibabel's orientations have it."""
    affine = volume.affine @ inv_ornt_aff(order, volume.shape)
    return Volume(apply_orientation(volume.voxels, order), affine)
