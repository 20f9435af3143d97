"""Preparing a scan takes ten seconds, most of them in a network: the tests of a process do it once a scan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mrharmony.core.volume import BoolArray, Matrix, Volume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality

Prepared = tuple[PreparedScan, MaskQuality]


def once_each(prepare: Callable[..., Prepared]) -> Callable[..., Prepared]:
    """Return a preparation that hands out again what it made of the same voxels with the same arguments."""
    made: dict[str, Prepared] = {}

    def prepare_once(
        volume: Volume,
        *,
        brain_mask: BoolArray | None = None,
        rigid_to_template: Matrix | None = None,
        seed: int = 0,
    ) -> Prepared:
        arrays = (volume.voxels, volume.affine, brain_mask, rigid_to_template)
        key = f"{[_digest(array) for array in arrays]} {seed}"
        if key not in made:
            made[key] = prepare(volume, brain_mask=brain_mask, rigid_to_template=rigid_to_template, seed=seed)
        prepared, quality = made[key]
        return replace(prepared, native=volume), quality

    return prepare_once


def _digest(array: np.ndarray | None) -> str:
    if array is None:
        return ""
    return f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"
