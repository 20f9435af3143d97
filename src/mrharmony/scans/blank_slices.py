"""Slices that an export or a transfer has lost: blank ones between slices that show the head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mrharmony.core.findings import Finding, warning
from mrharmony.core.volume import FloatArray
from mrharmony.scans.voxels import StoredVoxels

BLANK_CODE = "blank-slices"
_EACH = 4  # voxel of a slice is looked at first, along both of its axes
_BRIGHT = 0.1  # of the brightest tissue; noise of the air is below
_LEAST = 0.02  # of a slice that shows the head is brighter than that


def check_blank_slices(stored: StoredVoxels) -> Iterator[Finding]:
    """Find slices of one value along any voxel axis, between slices that show the head.

    Blank slices outside the head are padding or masked air, and no matter.
    """
    if not stored.all_finite or stored.ends[0] == stored.ends[1]:
        return
    volume = stored.intensities.reshape(stored.shape, order="F")
    for axis in range(3):
        blank = blank_slices(volume, _BRIGHT * stored.bright, axis)
        if blank:
            yield warning(
                BLANK_CODE,
                f"Of the {volume.shape[axis]} slices along voxel axis {axis + 1}, {len(blank)} are blank "
                f"between slices of the head, the first of them number {blank[0] + 1}.",
                "Export or convert the scan again; what they showed cannot be made up.",
            )


def blank_slices(volume: FloatArray, bright: float, axis: int) -> list[int]:
    """Return the indices along `axis` of slices of one value, from the first to the last that show the head.

    A slice shows the head where enough of its voxels are brighter than `bright`, and not all are alike.
    """
    others = tuple(other for other in range(3) if other != axis)
    thin = tuple(slice(None, None, 1 if other == axis else _EACH) for other in range(3))
    part = volume[thin]
    level = part.min(axis=others) == part.max(axis=others)
    head = np.flatnonzero(((part > bright).mean(axis=others) > _LEAST) & ~level)
    if not head.size:
        return []
    slices = np.moveaxis(volume, axis, 0)
    return [at for at in range(head[0], head[-1]) if level[at] and np.ptp(slices[at]) == 0]
