"""Preparing a scan takes ten seconds and harmonizing it five: the tests of a run do the same work once."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from threading import get_ident
from typing import TypeVar

import numpy as np

from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.networks.diffusion.network import DiffusionNetwork, shipped_network
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import MaskQuality

Prepared = tuple[PreparedScan, MaskQuality]
_Made = TypeVar("_Made")
Contrasts = Callable[[DiffusionNetwork, FloatArray, BoolArray], FloatArray]


def once_each(prepare: Callable[..., Prepared], folder: Path) -> Callable[..., Prepared]:
    """Return a preparation that hands out again what it made of the same voxels with the same arguments.

    What one process of the run has made lies in `folder` for the others.
    """
    made: dict[str, Prepared] = {}

    @wraps(prepare)
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
            made[key] = _kept(
                folder / key,
                lambda: prepare(
                    volume, brain_mask=brain_mask, rigid_to_template=rigid_to_template, seed=seed
                ),
            )
        prepared, quality = made[key]
        return replace(prepared, native=volume), quality

    return prepare_once


def once_for_equal(function: Callable[..., _Made], folder: Path) -> Callable[..., _Made]:
    """Return a function of arrays and settings that reads again what it gave for equal arguments."""

    def give(*arguments: object) -> _Made:
        key = hashlib.sha256(pickle.dumps(arguments, protocol=5)).hexdigest()
        return _kept(folder / key, lambda: function(*arguments))

    return give


def contrasts_once(contrasts: Contrasts, folder: Path) -> Contrasts:
    """Return `reference_contrasts` as `once_for_equal` does, of the shipped network alone."""
    shipped = once_for_equal(lambda *arrays: contrasts(shipped_network(), *arrays), folder)

    def give(network: DiffusionNetwork, brain: FloatArray, mask: BoolArray) -> FloatArray:
        is_shipped = network is shipped_network()
        return shipped(brain, mask) if is_shipped else contrasts(network, brain, mask)

    return give


def _kept(file: Path, make: Callable[[], _Made]) -> _Made:
    """Return what a file holds, written before by `make`: whole or not at all, as others may look for it."""
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}-{get_ident()}")
        unfinished.write_bytes(pickle.dumps(make()))
        unfinished.replace(file)
    made: _Made = pickle.loads(file.read_bytes())  # noqa: S301 - of this very run
    return made


def _digest(array: np.ndarray | None) -> str:
    if array is None:
        return ""
    return f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"
