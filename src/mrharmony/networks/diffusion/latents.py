"""The physical latents: a slice's coordinates in the space that the images of all T1w protocols span.

A noise-free image without receive field is linear in the tissues' signals, and myelination changes these
almost linearly: c = Σ_t p_t (s_t + m d_t) for tissue shares p and myelination m. So the contrasts c of any
number of protocols lie in a space of few dimensions, in which a pixel has the coordinates z:

    c ≈ μ + z B

The decoder (μ, B) is the signal equation, exact for every protocol in the span, and needs no autoencoder.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIMENSIONS = 6  # four tissues, and myelination in two of them
LEAST_SPREAD = (
    0.03  # canonical units that are 1 latent unit at least: weaker directions stay weak beside noise
)


class LatentSpace(NamedTuple):
    """Encoder and decoder between contrasts on the reference scanners and latents.

    Parameters
    ----------
    mean
        μ, the mean contrasts of brain voxels, canonical units, shape (references,).
    basis
        B, what a latent unit adds to the contrasts, rows orthogonal, shape (dimensions, references).
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def of(cls, contrasts: NDArray[np.floating]) -> Self:
        """Return the principal axes of noise-free contrasts of brain voxels, shape (references, n)."""
        values = np.asarray(contrasts, np.float64)
        mean = values.mean(axis=1)
        _, spreads, axes = np.linalg.svd(
            (values - mean[:, None]).T / np.sqrt(values.shape[1]), full_matrices=False
        )
        lengths = np.maximum(spreads[:DIMENSIONS], LEAST_SPREAD)
        basis = lengths[:, None] * axes[:DIMENSIONS]
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(basis).float())

    def decode(self, latents: Tensor) -> Tensor:
        """Return contrasts, shape (batch, references, h, w), of latents, shape (batch, dimensions, h, w)."""
        return torch.einsum("bdhw,dr->brhw", latents, self.basis) + self.mean[:, None, None]

    def encode(self, contrasts: Tensor) -> Tensor:
        """Return the latents whose contrasts are nearest; the inverse of `decode`."""
        return torch.einsum("brhw,rd->bdhw", contrasts - self.mean[:, None, None], self.encoder())

    def encoder(self) -> Tensor:
        """Return the pseudo-inverse of B, shape (references, dimensions)."""
        return self.basis.T / self.basis.square().sum(dim=1)
