"""The slices that Stable Diffusion learns from: some of every scan, each domain drawn equally often."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mrharmony.latent.data import SMALLEST_SLICE, numpy_generator
from mrharmony.latent.structure import apply_structure_look, draw_structure_look
from mrharmony.volume import FloatArray


class InstanceBatch(NamedTuple):
    """Slices to learn from.

    Parameters
    ----------
    slices
        Canonical intensities, shape (batch, 1, i, k).
    structures
        The same anatomy with a random contrast, same shape.
    domains
        Name of each slice's domain.
    """

    slices: torch.Tensor
    structures: torch.Tensor
    domains: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SliceSet:
    """Slices by domain.

    Parameters
    ----------
    slices
        Canonical intensities of each domain's slices, shape (n, i, k), float16 or float32; all of one
        i and k.
    """

    slices: Mapping[str, NDArray[np.floating]]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        rows, columns = next(iter(self.slices.values())).shape[1:]
        return rows, columns

    def digest(self) -> str:
        """Return a name that changes with the slices."""
        digest = hashlib.sha256(repr(list(self.slices)).encode())
        for slices in self.slices.values():
            digest.update(slices.tobytes())
        return digest.hexdigest()[:16]

    def batch(self, count: int, generator: torch.Generator) -> InstanceBatch:
        """Draw slices; the same generator state gives the same batch."""
        rng = numpy_generator(generator)
        names = tuple(self.slices)
        domains = tuple(names[n] for n in rng.integers(len(names), size=count))
        chosen = [self.slices[name][rng.integers(len(self.slices[name]))] for name in domains]
        slices = torch.from_numpy(np.stack(chosen).astype(np.float32))[:, None]
        structures = apply_structure_look(slices, draw_structure_look(slices.shape, generator))
        return InstanceBatch(slices, structures, domains)


def choose_slices(brain: FloatArray, axis: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Return random slices of a canonical brain, shape (count or fewer, rows, columns).

    Only slices with enough brain are taken: fewer than `count` where there are not so many.
    """
    stack = np.moveaxis(brain, axis, 0)
    filled = np.flatnonzero((stack > 0).sum(axis=(1, 2)) >= SMALLEST_SLICE)
    chosen = np.sort(rng.choice(filled, min(count, len(filled)), replace=False))
    return np.ascontiguousarray(stack[chosen])


def join_domains(scans: Sequence[tuple[str, FloatArray]]) -> SliceSet:
    """Return the slices of scans, each with its domain's name, as one set."""
    names = dict.fromkeys(name for name, _ in scans)
    return SliceSet(
        {name: np.concatenate([part for domain, part in scans if domain == name]) for name in names}
    )
