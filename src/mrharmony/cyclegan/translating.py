"""A whole brain through a generator, slice by slice."""

from __future__ import annotations

import numpy as np
import torch

from mrharmony.cyclegan.generators import Generator
from mrharmony.cyclegan.located import from_units, located, to_units
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError

_AT_ONCE = 8  # slices: more are no quicker on a CPU


@torch.inference_mode()
def translate_brain(generator: Generator, brain: FloatArray, mask: BoolArray) -> FloatArray:
    """Return a brain as the other domain's scanner may have seen it.

    A generator of three neighbouring slices gives every slice three times; their mean is taken, so that
    slices go together.

    Parameters
    ----------
    generator
        Trained.
    brain
        Canonical intensities on the working grid, shape (i, j, k).
    mask
        The brain.

    Returns
    -------
    Canonical intensities ≥ 0, shape (i, j, k), 0 outside the brain.

    Raises
    ------
    MrharmonyError
        If the mask is empty or an intensity in it is not finite.
    """
    if not mask.any() or not np.isfinite(brain[mask]).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    slices, reach = generator.slices, generator.slices // 2
    margin = ((0, 0), (reach, reach), (0, 0))
    inside = np.pad(mask, margin)
    padded = np.pad(np.where(mask, np.maximum(brain, 0), 0).astype(np.float32), margin)
    made = np.zeros_like(padded)
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    for part in np.array_split(rows, -(-len(rows) // _AT_ONCE)):
        near, there = (
            torch.from_numpy(np.stack([np.moveaxis(whole[:, row : row + slices], 1, 0) for row in part]))
            for whole in (padded, inside)
        )
        seen = to_units(near)
        if generator.positions:
            seen = located(seen, part.tolist(), mask.shape[1])
        found = from_units(generator(seen, there)[:, :slices]).numpy()
        for row, pictures in zip(part, found, strict=True):
            made[:, row : row + slices] += np.moveaxis(pictures, 0, 1)
    filled = np.zeros(padded.shape[1], np.float32)
    for row in rows:
        filled[row : row + slices] += 1
    mean = made / np.maximum(filled, 1)[:, None]
    return np.where(mask, mean[:, reach : padded.shape[1] - reach], 0).astype(np.float32)
