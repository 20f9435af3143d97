"""A prepared scan: everything that leads from native voxels to the canonical brain and exactly back."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.findings import Finding
from mrharmony.core.volume import BoolArray, Box, FloatArray, Matrix, Scalar, Volume, bounding_box, cropped
from mrharmony.preparation.alignment import volume_corrected
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import resample_brain

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False, repr=False)
class PreparedScan:
    """A scan with its brain, bias field, alignment and intensity scale; the voxels stay as they were read.

    Parameters
    ----------
    native
        The scan as read, shape (i, j, k).
    brain_mask
        Voxels of the brain, shape (i, j, k).
    bias_field
        Multiplicative bias, shape (i, j, k), positive, mean of its logarithm 0 inside the brain.
    rigid_to_template
        Native world mm to template world mm, shape (4, 4), rigid.
    scale
        The bias-corrected native intensity that is 1.0 in canonical units, positive.
    skull_stripped
        Whether the scan came already skull-stripped.
    findings
        What preparation noticed.
    size
        Edge of the head as a multiple of the template's. Canonical brains keep it unless a corrected volume
        is asked for, because the size of a head is biology.
    saved_sha256
        SHA-256 of the saved preparation that this was read from; None where it was prepared here.
    remarks
        What was noticed of the scan when it was read, where that is not kept apart.
    """

    native: Volume
    brain_mask: BoolArray
    bias_field: FloatArray
    rigid_to_template: Matrix
    scale: float
    skull_stripped: bool
    findings: tuple[Finding, ...]
    size: float = 1.0
    saved_sha256: str | None = None
    remarks: tuple[Finding, ...] = ()
    _results: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("brain_mask", "bias_field", "rigid_to_template"):
            array = getattr(self, name).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        brain_ml = np.count_nonzero(self.brain_mask) * self.native.voxel_mm3 / 1000
        notes = "".join(f", {finding.code}" for finding in self.findings)
        return f"PreparedScan({self.native!r}, brain {brain_ml:.0f} ml{notes})"

    def once(self, function: Callable[..., _Result], *arguments: Hashable) -> _Result:
        """Return `function(scan, *arguments)`, computed at the first call and kept as long as the scan.

        A scan goes to many targets in a row; what does not depend on the target is shared between them.
        """
        key = (function, *arguments)
        if key not in self._results:
            self._results[key] = function(self, *arguments)
        result: _Result = self._results[key]
        return result

    @property
    def volume_corrected(self) -> Matrix:
        """Native world mm to template world mm, shape (4, 4), the head grown to the template's size."""
        return volume_corrected(self.rigid_to_template, self.size)

    def grown(self) -> PreparedScan:
        """Return the scan as one whose head has the template's size (`volume_corrected`); no voxel changes.

        Positions in template mm are then those in the grown head; its own size is lost.
        """
        return replace(self, rigid_to_template=self.volume_corrected, size=1.0)

    @property
    def box(self) -> Box:
        """The smallest box that holds the brain: a quarter of a head scan, and work costs per voxel."""
        return self.once(_brain_box)

    @property
    def mask_in_box(self) -> BoolArray:
        """The brain mask in its box."""
        return self.once(_mask_in_box)

    def in_brain(self, voxels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the values of an array, shape (i, j, k), in the brain: `voxels[brain_mask]`, shape (n,)."""
        return cropped(voxels, self.box)[self.mask_in_box]

    def intensities(self) -> FloatArray:
        """Return bias-corrected intensities in canonical units, shape (i, j, k), float32; 0 stays 0."""
        return np.asarray(self.native.voxels / (self.bias_field * np.float32(self.scale)), np.float32)

    @property
    def intensities_in_box(self) -> FloatArray:
        """The `intensities` in the brain's box, computed once a scan."""
        return self.once(_intensities_in_box)

    def positions(self, voxel_mask: BoolArray) -> FloatArray:
        """Return where native voxels lie, template mm, shape (n, 3), in the order of `voxels[voxel_mask]`."""
        return voxel_positions(voxel_mask, self.rigid_to_template @ self.native.affine)

    def canonical(self, grid: Grid, *, corrected_volume: bool = False) -> tuple[Volume, BoolArray]:
        """Return the canonical brain on a grid of template space, 0 outside the brain, and its mask there.

        Parameters
        ----------
        grid
            Where to sample; coarser grids are anti-aliased.
        corrected_volume
            Whether the brain is grown to the template's size; its own size is lost then.
        """
        to_template = self.volume_corrected if corrected_volume else self.rigid_to_template
        to_box = np.eye(4)
        to_box[:3, 3] = [side.start for side in self.box]
        in_template = Volume(self.intensities_in_box, to_template @ self.native.affine @ to_box)
        brain, mask = resample_brain(in_template, self.mask_in_box, grid.shape, grid.affine)
        return Volume(brain, grid.affine), mask


def voxel_positions(voxel_mask: BoolArray, affine: Matrix) -> FloatArray:
    """Return the world positions of a mask's voxel centres, mm, shape (n, 3)."""
    box = bounding_box(voxel_mask)
    inside, (i, j, k) = cropped(voxel_mask, box), np.ogrid[box]
    places = (a * i + b * j + (c * k + start) for a, b, c, start in affine[:3])
    return np.stack([place.astype(np.float32)[inside] for place in places], axis=1)


def _brain_box(scan: PreparedScan) -> Box:
    return bounding_box(scan.brain_mask)


def _mask_in_box(scan: PreparedScan) -> BoolArray:
    return cropped(scan.brain_mask, scan.box)


def _intensities_in_box(scan: PreparedScan) -> FloatArray:
    bias_field = cropped(scan.bias_field, scan.box) * np.float32(scan.scale)
    return np.asarray(cropped(scan.native.voxels, scan.box) / bias_field, np.float32)
