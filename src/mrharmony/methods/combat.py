"""Voxelwise ComBat in template space, toward a domain.

Johnson, Li and Rabinovic (2007), Biostatistics 8:118; for images Fortin et al. (2017), NeuroImage 161:149. A
voxel of a scan of domain i is y = α + γ_i + δ_i ε, with empirical Bayes estimates of γ and δ by the
`neuroCombat` package. Its own output is the mean domain; here location and spread of the target are put back.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.domains.fitted import LARGEST_CANONICAL, Brains, Expected, Fitted, masked, require_brains
from mrharmony.methods.rendering import add_change, require_grid
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain, canonical_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid
from mrharmony.space.resampling import FWHM_PER_SIGMA

SMOOTHING_MM = 12.0  # FWHM; brains are aligned rigidly, so that folds do not meet
PRESENCE = 0.9  # share of the training brains that must hold a voxel
SCALES_FROM = 8  # scans a domain; with fewer the spread of a voxel is mostly noise
_TINY = 1e-3


@dataclass(frozen=True)
class CombatRule:
    """Each voxel's location and spread in the source domain to those in the target domain.

    Of `fitted`, `mask` has the voxels that were fitted, on the 2 mm grid; `locations` and `spreads` are of
    those voxels in canonical units, a row a domain. Other voxels change as the nearest fitted one.
    """

    expected: ClassVar = {
        "mask": Expected(Grid.working(STATISTICS_ZOOM).shape, (0, 1), rows=False, kinds="b"),
        "locations": Expected(bounds=(-LARGEST_CANONICAL, LARGEST_CANONICAL)),
        "spreads": Expected(bounds=(1e-9, LARGEST_CANONICAL)),
    }
    fitted: Fitted

    def __post_init__(self) -> None:
        voxels = np.count_nonzero(self.fitted.arrays["mask"])
        if any(self.fitted.arrays[name].shape[1:] != (voxels,) for name in ("locations", "spreads")):
            raise MrharmonyError(
                "combat.safetensors: mask and voxels differ in number. Fit the method again."
            )

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; exactly the scan itself if source is target.

        The source must be known: a single scan has no batch effect of its own.
        """
        after = self.fitted.row(target)
        if source is None or source.name not in self.fitted.domains:
            raise MrharmonyError(
                "combat cannot harmonize a scan of an unknown domain: fit it with scans of that domain too."
            )
        brain = canonical_brain(scan)
        change = np.zeros(brain.mask.shape, dtype=np.float32)
        change[brain.mask] = self._change(brain, self.fitted.row(source), after)
        return add_change(scan, change)

    def _change(self, brain: CanonicalBrain, before: int, after: int) -> FloatArray:
        """Return y' - y = (a - 1) y + (l' - a l) with a = d'/d, at the brain's voxels, shape (n,).

        Location l and spread d are those of the source, l' and d' those of the target.
        """
        voxels = self._nearest[brain.mask]
        locations, spreads = (self.fitted.arrays[name] for name in ("locations", "spreads"))
        slope = (spreads[after] / spreads[before])[voxels]
        intercept = locations[after][voxels] - slope * locations[before][voxels]
        return np.asarray((slope - 1) * brain.volume.voxels[brain.mask] + intercept, dtype=np.float32)

    @cached_property
    def _nearest(self) -> NDArray[np.int32]:
        """Number of the nearest fitted voxel, of every voxel of the grid."""
        mask = self.fitted.arrays["mask"]
        numbers = np.zeros(mask.shape, dtype=np.int32)
        numbers[mask.astype(bool)] = np.arange(np.count_nonzero(mask))
        nearest = distance_transform_edt(mask == 0, return_distances=False, return_indices=True)
        return np.asarray(numbers[tuple(nearest)])


def fit_combat(domains: Brains) -> Fitted:
    """Return each domain's location and spread at every voxel, from smoothed training scans.

    Spreads are fitted if every domain has `SCALES_FROM` scans, otherwise locations alone (`mean_only`).
    Raises `MrharmonyError` if a domain has fewer than two scans, a scan has another grid, or the fit fails.
    """
    require_brains(domains, least=2)
    brains = [brain for domain in domains.values() for brain in domain]
    for brain in brains:
        require_grid(brain)
    mask = np.mean([brain.mask for brain in brains], axis=0) >= PRESENCE
    if not mask.any():
        raise MrharmonyError("combat finds no voxel that is brain in all training scans; check their masks.")
    rows = np.repeat(np.arange(len(domains)), [len(domain) for domain in domains.values()])
    few = min(len(domain) for domain in domains.values()) < SCALES_FROM
    locations, spreads = _fit_voxels(_smoothed_voxels(brains, rows, mask), rows, mean_only=few)
    return Fitted(tuple(domains), {"mask": mask, "locations": locations, "spreads": spreads})


def _smoothed_voxels(
    brains: Sequence[CanonicalBrain], rows: NDArray[np.intp], mask: BoolArray
) -> NDArray[np.float32]:
    """Return the smoothed intensities of the fitted voxels, a row a scan, shape (scans, n).

    A voxel that a scan lacks has the mean of its domain there, or of all scans.
    """
    values = np.array([_smoothed(brain)[mask] for brain in brains])
    present = np.array([brain.mask[mask] for brain in brains])
    everywhere = (values * present).sum(axis=0) / present.sum(axis=0)
    for row in np.unique(rows):
        counts = present[rows == row].sum(axis=0)
        own = (values * present)[rows == row].sum(axis=0) / np.maximum(counts, 1)
        values[rows == row] = np.where(
            present[rows == row], values[rows == row], np.where(counts > 0, own, everywhere)
        )
    return values


def _smoothed(brain: CanonicalBrain) -> FloatArray:
    """Return the brain smoothed within its mask, on the grid."""
    masked(brain)  # refuses an empty or infinite brain
    sd = SMOOTHING_MM / FWHM_PER_SIGMA / STATISTICS_ZOOM
    weight = gaussian_filter(brain.mask.astype(np.float32), sd)
    values = gaussian_filter(np.where(brain.mask, brain.volume.voxels, np.float32(0)), sd)
    return np.asarray(values / np.maximum(weight, _TINY), dtype=np.float32)


def _fit_voxels(
    values: NDArray[np.float32], rows: NDArray[np.intp], *, mean_only: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return locations and spreads, each of shape (domains, n), of the model that neuroCombat fits."""
    import pandas as pd  # noqa: PLC0415 - takes seconds to import
    from neuroCombat import neuroCombat  # noqa: PLC0415 - takes seconds to import

    with redirect_stdout(io.StringIO()), np.errstate(divide="ignore", invalid="ignore"):
        estimates = neuroCombat(values.T, pd.DataFrame({"domain": rows}), "domain", mean_only=mean_only)
    found = estimates["estimates"]
    pooled = np.sqrt(found["var.pooled"][:, 0])
    locations = found["stand.mean"][:, 0] + pooled * np.array(found["gamma.star"])
    spreads = pooled * np.sqrt(np.array(found["delta.star"], dtype=np.float64))
    if not (np.isfinite(locations).all() and np.isfinite(spreads).all() and (spreads > 0).all()):
        raise MrharmonyError("combat finds no solution for these training scans; are some of them identical?")
    return locations.astype(np.float32), spreads.astype(np.float32)
