"""A scan's contrasts on the reference scanners, expected or sampled, and mixtures of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.networks.diffusion.network import DiffusionNetwork, slice_coordinates

STEPS = 4  # evaluations of a sample
_AT_ONCE = 8  # slices: more are no quicker on a CPU
_Array = NDArray[np.float64]
PULL = 1e-3  # ridge penalty that draws a mixture to the plain mean of the contrasts, squared canonical units


@torch.inference_mode()
def reference_contrasts(
    network: DiffusionNetwork, brain: FloatArray, mask: BoolArray, where: BoolArray | None = None
) -> FloatArray:
    """Return what the reference scanners are expected to see, without noise and receive field.

    One evaluation a slice, at pure noise.

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
    chosen = mask if where is None else where & mask
    contrasts = np.zeros((mask.shape[1], network.references, mask.shape[0], mask.shape[2]), np.float32)
    for part, slices, coordinates in _parts(brain, mask, chosen):
        contrasts[part] = network.space.decode(network(slices, coordinates)).numpy()
    return np.ascontiguousarray(np.moveaxis(contrasts, 0, 2)[:, chosen])


@torch.inference_mode()
def sampled_contrasts(
    network: DiffusionNetwork, brain: FloatArray, mask: BoolArray, seeds: Sequence[int], steps: int = STEPS
) -> FloatArray:
    """Return the contrasts of heads that a scan allows, one for each seed, shape (seeds, references, n).

    DDIM with η = 0 (Song et al. 2021, equation 12) from pure noise; the first evaluation serves all seeds.
    All slices of a head start from one noise, so that neighbours agree. Arguments and errors are those of
    `reference_contrasts`; `steps` are evaluations.
    """
    size = (len(seeds), network.dimensions, mask.shape[0], mask.shape[2])
    noises = torch.stack(
        [torch.randn(size[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
    contrasts = np.zeros((len(seeds), network.references, *mask.shape), np.float32)
    for part, slices, coordinates in _parts(brain, mask, mask):
        expected = network(slices, coordinates)
        for number, noise in enumerate(noises):
            latents = _denoised(network, slices, coordinates, noise, expected, steps)
            contrasts[number][:, :, part] = network.space.decode(latents).permute(1, 2, 0, 3).numpy()
    return np.ascontiguousarray(contrasts[:, :, mask])


def _denoised(
    network: DiffusionNetwork,
    slices: Tensor,
    coordinates: Tensor,
    noise: Tensor,
    expected: Tensor,
    steps: int,
) -> Tensor:
    """Return the latents that DDIM reaches from a noise, shape (n, dimensions, h, w).

    With u of the network, z₀ = α z + σ u and ε = σ z - α u; then z = α' z₀ + σ' ε at the next noise level. At
    pure noise u is the expected latents, so the first step is taken already.
    """
    inside = (slices[:, 1:2] != 0).float()
    clean, left = expected * inside, noise * inside
    for step in range(1, steps):
        alpha = math.cos(math.pi / 2 * (1 - step / steps))
        sigma = math.sqrt(1 - alpha**2)
        latents = alpha * clean + sigma * left
        velocity = network(slices, coordinates, latents, torch.full((len(slices),), alpha)) * inside
        clean, left = alpha * latents + sigma * velocity, sigma * latents - alpha * velocity
    return clean


def _parts(
    brain: FloatArray, mask: BoolArray, chosen: BoolArray
) -> Iterator[tuple[NDArray[np.intp], Tensor, Tensor]]:
    """Yield coronal slices with chosen voxels, some at a time: places, the network's slices, coordinates."""
    if not mask.any() or not np.isfinite(brain[mask]).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    inside = np.where(mask, np.maximum(brain, 0), 0).astype(np.float32)
    padded = np.pad(inside, ((0, 0), (1, 1), (0, 0)))
    places = np.flatnonzero(chosen.any(axis=(0, 2)))
    for part in np.array_split(places, -(-len(places) // _AT_ONCE)):
        slices = np.stack([np.moveaxis(padded[:, place : place + 3], 1, 0) for place in part])
        coordinates = np.stack([slice_coordinates(brain.shape, int(place)) for place in part])
        yield part, torch.from_numpy(slices), torch.from_numpy(coordinates)


def mixture_terms(contrasts: FloatArray | _Array) -> _Array:
    """Return what is mixed: the contrasts, shape (references, n), and a constant as the last row."""
    return np.vstack([contrasts, np.ones_like(contrasts[:1])]).astype(np.float64)


def fit_mixture(
    terms: _Array, target: FloatArray | _Array, trust: _Array | None = None, pull: float = PULL
) -> _Array:
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
    pull
        λ, squared canonical units.
    """
    references = len(terms) - 1
    mean = np.append(np.full(references, 1 / references), 0)
    weighted = terms / terms.shape[1] if trust is None else terms * trust
    normal = weighted @ terms.T + pull * np.eye(len(terms))
    return np.asarray(mean + np.linalg.solve(normal, weighted @ (target - mean @ terms)))


def mixed(weights: _Array, terms: _Array) -> _Array:
    """Return the mixture, at least 0, shape (n,)."""
    return np.asarray(np.maximum(weights @ terms, 0))
