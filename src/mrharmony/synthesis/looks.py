"""The looks of a whole scan on the reference scanners, slice by slice."""

from __future__ import annotations

import numpy as np
import torch

from mrharmony.synthesis.network import ReferenceNetwork, slice_coordinates
from mrharmony.volume import BoolArray, FloatArray, MrharmonyError

_AT_ONCE = 8  # slices: more are no quicker on a CPU


@torch.inference_mode()
def reference_looks(
    network: ReferenceNetwork, brain: FloatArray, mask: BoolArray, wanted: BoolArray | None = None
) -> FloatArray:
    """Return what the reference scanners would have seen, without noise and receive field.

    Parameters
    ----------
    network
        Trained.
    brain
        Canonical intensities on the working grid, shape (i, j, k), 0 outside the brain.
    mask
        The brain.
    wanted
        The voxels of it that are asked for, all by default; coronal slices without any cost nothing.

    Returns
    -------
    Canonical intensities of the wanted voxels, shape (references, n).

    Raises
    ------
    MrharmonyError
        If the mask is empty or an intensity in it is not finite.
    """
    if not mask.any() or not np.isfinite(brain[mask]).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    inside = np.where(mask, np.maximum(brain, 0), 0).astype(np.float32)
    padded = np.pad(inside, ((0, 0), (1, 1), (0, 0)))
    wanted = mask if wanted is None else wanted & mask
    places = np.flatnonzero(wanted.any(axis=(0, 2)))
    looks = np.zeros((mask.shape[1], network.references, mask.shape[0], mask.shape[2]), np.float32)
    for part in np.array_split(places, -(-len(places) // _AT_ONCE)):
        slices = np.stack([np.moveaxis(padded[:, place : place + 3], 1, 0) for place in part])
        where = np.stack([slice_coordinates(brain.shape, int(place)) for place in part])
        looks[part] = network(torch.from_numpy(slices), torch.from_numpy(where)).numpy()
    return np.ascontiguousarray(np.moveaxis(looks, 0, 2)[:, wanted])
