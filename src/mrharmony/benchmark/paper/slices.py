"""The slices that the paper's study translates, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.evaluate import as_picture, slice_places, tone_quantiles
from mrharmony.harmonize import CanonicalBrain
from mrharmony.latent.sampling import slice_positions
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError

_LEAST_BRAIN = 100  # pixels of a slice whose tone is taken


class PaperScan(NamedTuple):
    """A scan on the model's grid, and the target scanner's own scan of the same head where there is one."""

    name: str
    brain: CanonicalBrain
    truth: CanonicalBrain | None = None


@dataclass(frozen=True)
class PaperSlices:
    """Slices of some scans.

    Parameters
    ----------
    scans
        The scans.
    axis
        Voxel axis that the slices are perpendicular to.
    owners, places
        The scan and the index along the axis of each slice, shape (n,).
    """

    scans: tuple[PaperScan, ...]
    axis: int
    owners: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def draw(cls, scans: Sequence[PaperScan], axis: int, count: int, seed: int) -> Self:
        """Draw slices at random, spread over the scans as evenly as can be.

        Raises
        ------
        MrharmonyError
            If a scan has too few slices.
        """
        shares = [len(part) for part in np.array_split(np.arange(count), len(scans))]
        places = [
            slice_places(np.moveaxis(scan.brain.mask, axis, 0), share, seed + number)
            for number, (scan, share) in enumerate(zip(scans, shares, strict=True))
            if share
        ]
        owners = np.repeat(np.arange(len(places)), [len(part) for part in places])
        return cls(tuple(scans[: len(places)]), axis, owners, np.concatenate(places))

    def first(self) -> Self:
        """Return the first slice alone, which is of the first scan."""
        return replace(self, scans=self.scans[:1], owners=self.owners[:1], places=self.places[:1])

    @property
    def names(self) -> tuple[str, ...]:
        """What each slice is."""
        pairs = zip(self.owners, self.places, strict=True)
        return tuple(f"{self.scans[owner].name} slice {place}" for owner, place in pairs)

    @property
    def inputs(self) -> FloatArray:
        """Canonical intensities, 0 outside the brain, shape (n, h, w)."""
        return self.cut([np.where(s.brain.mask, s.brain.volume.voxels, 0) for s in self.scans])

    @property
    def masks(self) -> BoolArray:
        """The brain in each slice, shape (n, h, w)."""
        return self.cut([scan.brain.mask for scan in self.scans]).astype(bool)

    @property
    def truths(self) -> FloatArray | None:
        """The target scanner's own slices as `inputs`; None unless all scans have them."""
        found = [
            np.where(scan.brain.mask, scan.truth.volume.voxels, 0)
            for scan in self.scans
            if scan.truth is not None
        ]
        return self.cut(found) if len(found) == len(self.scans) else None

    def cut(self, volumes: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Return these slices of volumes, one a scan, shape (n, h, w)."""
        stacks = [np.moveaxis(volume, self.axis, 0) for volume in volumes]
        pairs = zip(self.owners, self.places, strict=True)
        return np.stack([stacks[owner][place] for owner, place in pairs]).astype(np.float32)

    def positions(self) -> torch.Tensor:
        """Return where the slices lie along the axis, -1..1, shape (n,)."""
        return slice_positions(self.places, self.scans[0].brain.mask.shape[self.axis])

    def tones(self, target: Sequence[CanonicalBrain]) -> NDArray[np.float64]:
        """Return the tone of the target's brains at each slice's place, shape (n, 33).

        Raises
        ------
        MrharmonyError
            If no brain of the target reaches a place.
        """
        return np.stack([_tone(target, self.axis, int(place)) for place in self.places])


def _tone(brains: Sequence[CanonicalBrain], axis: int, place: int) -> NDArray[np.float64]:
    masks = np.stack([brain.mask.take(place, axis) for brain in brains])
    pictures = np.stack([brain.volume.voxels.take(place, axis) for brain in brains])
    filled = masks.sum(axis=(1, 2)) >= _LEAST_BRAIN
    if not filled.any():
        raise MrharmonyError(
            f"no training scan of the target has brain in slice {place}; look at the brain masks."
        )
    return tone_quantiles(as_picture(pictures[filled]), masks[filled])
