"""A whole scan's contrasts on the reference scanners, and the mixture of them nearest to a given contrast."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.networks.diffusion.network import ReferenceNetwork, slice_coordinates

_AT_ONCE = 8  # slices: more are no quicker on a CPU
_Array = NDArray[np.float64]
_PULL = 1e-3  # ridge penalty that draws a mixture to the plain mean of the contrasts, squared canonical units


@torch.inference_mode()
def reference_contrasts(
    network: ReferenceNetwork, brain: FloatArray, mask: BoolArray, where: BoolArray | None = None
) -> FloatArray:
    """Return what the reference scanners would have seen, without noise and receive field.

    Parameters
    ----------
    network
        Trained.
    brain, mask
        Canonical intensities on the working grid, 0 outside the brain, and the brain; shape (i, j, k).
    where
        The voxels of it to return, shape (i, j, k), all by default; coronal slices without any cost nothing.

    Returns
    -------
    Canonical intensities of these voxels, shape (references, n).

    Raises
    ------
    MrharmonyError
        If the mask is empty or an intensity in it is not finite.
    """
    if not mask.any() or not np.isfinite(brain[mask]).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    inside = np.where(mask, np.maximum(brain, 0), 0).astype(np.float32)
    padded = np.pad(inside, ((0, 0), (1, 1), (0, 0)))
    chosen = mask if where is None else where & mask
    places = np.flatnonzero(chosen.any(axis=(0, 2)))
    contrasts = np.zeros((mask.shape[1], network.references, mask.shape[0], mask.shape[2]), np.float32)
    for part in np.array_split(places, -(-len(places) // _AT_ONCE)):
        slices = np.stack([np.moveaxis(padded[:, place : place + 3], 1, 0) for place in part])
        coordinates = np.stack([slice_coordinates(brain.shape, int(place)) for place in part])
        contrasts[part] = network(torch.from_numpy(slices), torch.from_numpy(coordinates)).numpy()
    return np.ascontiguousarray(np.moveaxis(contrasts, 0, 2)[:, chosen])


def mixture_terms(contrasts: FloatArray | _Array) -> _Array:
    """Return what is mixed: the contrasts, shape (references, n), and a constant as the last row."""
    return np.vstack([contrasts, np.ones_like(contrasts[:1])]).astype(np.float64)


def fit_mixture(terms: _Array, target: FloatArray | _Array, trust: _Array | None = None) -> _Array:
    """Return the weight of each term that gives target intensities best.

    Ridge regression to the mean m of the contrasts: with T the terms, D the trust on the diagonal and y the
    target, m + (T D Tᵀ + λ I)⁻¹ T D (y - Tᵀ m).

    Parameters
    ----------
    terms
        Of `mixture_terms`, or these times a gain, shape (references + 1, n).
    target
        Canonical units, shape (n,).
    trust
        Weight of each voxel, sum 1, shape (n,); the same for all by default.
    """
    references = len(terms) - 1
    mean = np.append(np.full(references, 1 / references), 0)
    weighted = terms / terms.shape[1] if trust is None else terms * trust
    normal = weighted @ terms.T + _PULL * np.eye(len(terms))
    return np.asarray(mean + np.linalg.solve(normal, weighted @ (target - mean @ terms)))


def mixed(weights: _Array, terms: _Array) -> _Array:
    """Return the mixture, at least 0, shape (n,)."""
    return np.asarray(np.maximum(weights @ terms, 0))
