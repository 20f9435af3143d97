"""The default method: the latent diffusion model gives the look, the anatomy lock keeps the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrharmony.harmonize.bilateral_bounds import LockSettings
from mrharmony.harmonize.bilateral_fit import fit_bilateral_grid
from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.harmonize.locked import Extent, through_lock
from mrharmony.harmonize.population import DomainStatistics
from mrharmony.harmonize.protocol import HarmonizedVolume
from mrharmony.latent import LatentModel, SamplingSettings, sample_looks
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain


@dataclass(frozen=True)
class DiffusionHarmonizer:
    """Looks of the compact model, through the lock.

    Parameters
    ----------
    model
        The compact latent diffusion model.
    statistics
        Of the model's domains, by name; they give the output its units.
    sampling
        Steps, guidance weights and seed of the looks.
    lock
        Lattice, smoothness and bounds of the fit.
    extent
        `brain` or `head`; see `render`.
    """

    model: LatentModel
    statistics: Mapping[str, DomainStatistics]
    sampling: SamplingSettings
    lock: LockSettings
    extent: Extent = "brain"
    name: str = "diffusion"

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        With a known source the fit is relative, from the source domain's look to the target's look of the
        same structure: errors that both looks share cancel, and source = target is exactly the identity.
        Without one it is absolute, from the scan itself to the target's look.
        """
        grid = self.model.grid
        brain, mask = scan.canonical(grid)
        looks = sample_looks(self.model, brain, [target, *([source] if source else [])], self.sampling)
        start = looks[1] if source else brain
        return fit_bilateral_grid(
            grid.positions()[mask],
            np.maximum(start.voxels[mask], 0),
            np.maximum(looks[0].voxels[mask], 0),
            settings=self.lock,
        )

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan, with evidence.

        Raises
        ------
        MrharmonyError
            If the model does not know a domain.
        """
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)
