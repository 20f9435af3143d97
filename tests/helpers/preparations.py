"""Preparing a scan takes ten seconds, most of them in a network: the tests of a run do it once a scan."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrharmony.core.volume import BoolArray, Matrix, Volume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality

Prepared = tuple[PreparedScan, MaskQuality]


def once_each(prepare: Callable[..., Prepared], folder: Path) -> Callable[..., Prepared]:
    """Return a preparation that hands out again what it made of the same voxels with the same arguments.

    What one process of the run has made lies in `folder` for the others.
    """
    made: dict[str, Prepared] = {}

    def prepare_once(
        volume: Volume,
        *,
        brain_mask: BoolArray | None = None,
        rigid_to_template: Matrix | None = None,
        seed: int = 0,
    ) -> Prepared:
        arrays = (volume.voxels, volume.affine, brain_mask, rigid_to_template)
        text = f"{[_digest(array) for array in arrays]} {seed}"
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in made:
            file = folder / key
            if not file.exists():
                new = prepare(volume, brain_mask=brain_mask, rigid_to_template=rigid_to_template, seed=seed)
                _keep(new, file)
            made[key] = pickle.loads(file.read_bytes())  # noqa: S301 - of this very run
        prepared, quality = made[key]
        return replace(prepared, native=volume), quality

    return prepare_once


def _keep(prepared: Prepared, file: Path) -> None:
    """Write it whole or not at all: another process may look for it meanwhile."""
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_bytes(pickle.dumps(prepared))
    unfinished.replace(file)


def _digest(array: np.ndarray | None) -> str:
    if array is None:
        return ""
    return f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"
