"""What a fitted method has learned of its domains, and its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import LARGEST, open_tensors, save_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.preparation.canonical import CanonicalBrain

Brains = Mapping[str, Sequence[CanonicalBrain]]

LARGEST_CANONICAL = 100.0  # canonical units that nothing of a brain reaches


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a domain stands twice")
    return names


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_distinct)]


class Expected(NamedTuple):
    """What an array of a fitted method has to be.

    Parameters
    ----------
    shape
        Its shape; with `rows` that of the row of each domain.
    bounds
        Least and greatest number.
    rows
        Whether it has a row a domain.
    kinds
        As `require_numbers` takes them.
    """

    shape: tuple[int, ...] | None = None
    bounds: tuple[float, float] = (-LARGEST, LARGEST)
    rows: bool = True
    kinds: str = "f"


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


def save_fitted(path: Path, fitted: Fitted, owner: Mapping[str, str] | None = None) -> None:
    """Write what a method has learned into a safetensors file; `owner` says what it belongs to."""
    arrays = {name: np.atleast_1d(array) for name, array in fitted.arrays.items()}
    save_tensors(path, arrays, {"domains": fitted.domains} | ({"owner": owner} if owner else {}))


def load_fitted(
    path: Path, expected: Mapping[str, Expected], owner_of: Callable[[Sequence[str]], Mapping[str, str]]
) -> Fitted:
    """Read what `save_fitted` wrote for an owner, which may depend on the names of the domains.

    Raises `MrharmonyError` where it is missing, damaged or another's.
    """
    with open_tensors(path, "a fitted method", "fit the method again") as file:
        names = file.record("domains", Names)
        file.require_owner(owner_of(names))
        arrays = {}
        for name, (shape, bounds, rows, kinds) in expected.items():
            whole = (len(names), *shape) if rows and shape is not None else shape
            arrays[name] = file.tensor(name, whole, bounds, kinds)
            if rows and len(arrays[name]) != len(names):
                raise ValueError(f"{name} has no row for each domain")
        return Fitted(names, arrays)
