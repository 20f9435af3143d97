"""The mixture of reference looks that is nearest to a scan's contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.volume import FloatArray

_Array = NDArray[np.float64]

_PULL = 1e-3  # of a mixture to the plain mean of the looks, squared canonical units


def mixture_terms(looks: FloatArray | _Array) -> _Array:
    """Return what a mixture is made of: the looks, shape (references, n), and a constant below them."""
    return np.vstack([looks, np.ones_like(looks[:1])]).astype(np.float64)


def fit_mixture(terms: _Array, wanted: FloatArray | _Array, trust: _Array | None = None) -> _Array:
    """Return the weight of each term that gives wanted intensities best; ridge regression to the looks' mean.

    Parameters
    ----------
    terms
        Of `mixture_terms`, or these times a gain, shape (references + 1, n).
    wanted
        Canonical units, shape (n,).
    trust
        Weight of each voxel, sum 1, shape (n,); alike by default.
    """
    references = len(terms) - 1
    mean = np.append(np.full(references, 1 / references), 0)
    weighted = terms / terms.shape[1] if trust is None else terms * trust
    normal = weighted @ terms.T + _PULL * np.eye(len(terms))
    return np.asarray(mean + np.linalg.solve(normal, weighted @ (wanted - mean @ terms)))


def mixed(weights: _Array, terms: _Array) -> _Array:
    """Return the mixture, at least 0, shape (n,)."""
    return np.asarray(np.maximum(weights @ terms, 0))
