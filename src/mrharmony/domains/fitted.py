"""What a fitted method has learned of its domains, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import open_tensors, save_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.preparation.canonical import CanonicalBrain

Brains = Mapping[str, Sequence[CanonicalBrain]]


class Fitted(NamedTuple):
    """What a method has learned of its domains.

    Parameters
    ----------
    domains
        Their names, in the order of the arrays' rows where an array has a row a domain.
    arrays
        The method's own numbers, by name.
    """

    domains: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.generic]]

    def row(self, domain: Domain) -> int:
        """Return a domain's row; raises `MrharmonyError` where the method was not fitted on that domain."""
        if domain.name not in self.domains:
            known = ", ".join(sorted(self.domains))
            raise MrharmonyError(f"Unknown domain {domain.name}; choose one of: {known}.")
        return self.domains.index(domain.name)


def require_brains(domains: Brains, least: int = 1) -> None:
    """Refuse a fit without domains, or with fewer than `least` scans of one."""
    if not domains:
        raise MrharmonyError("No domains to fit a method on; give training scans of at least one.")
    for name, brains in domains.items():
        if len(brains) < least:
            raise MrharmonyError(f"Domain {name} has {len(brains)} training scans; give {least} or more.")


def masked(brain: CanonicalBrain) -> FloatArray:
    """Return a brain's intensities, shape (n,); refuses an empty mask and intensities that are not finite."""
    intensities = brain.volume.voxels[brain.mask]
    if intensities.size == 0 or not np.isfinite(intensities).all():
        raise MrharmonyError("No finite brain intensities to harmonize; look at the brain mask.")
    return intensities


def save_fitted(path: Path, fitted: Fitted) -> None:
    """Write what a method has learned into a safetensors file."""
    arrays = {name: np.atleast_1d(array) for name, array in fitted.arrays.items()}
    save_tensors(path, arrays, {"domains": fitted.domains})


def load_fitted(path: Path) -> Fitted:
    """Read what `save_fitted` wrote; raises `MrharmonyError` where it is missing or damaged."""
    with open_tensors(path, "a fitted method", "fit the method again") as file:
        return Fitted(tuple(file.record("domains")), file.tensors())
