"""The default method: the latent diffusion model gives the look, the anatomy lock keeps the scan."""

from __future__ import annotations

import numpy as np

from mrharmony.harmonize.bilateral_fit import LockSettings, fit_bilateral_grid
from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.latent import LatentModel, SamplingSettings, sample_looks
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain, FloatArray


class DiffusionTransform:
    """Finds the lock's transform for a scan from the looks that the model generates.

    Parameters
    ----------
    model
        The compact latent diffusion model.
    sampling
        Steps, guidance weights and seed of the looks.
    lock
        Lattice, smoothness and bounds of the fit.
    """

    def __init__(
        self,
        model: LatentModel,
        sampling: SamplingSettings | None = None,
        lock: LockSettings | None = None,
    ) -> None:
        self.model = model
        self.sampling = sampling or SamplingSettings()
        self.lock = lock or LockSettings()

    def fit(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        With a known source the fit is relative, from the source domain's look to the target's look of the
        same structure: errors that both looks share cancel, and source = target is exactly the identity.
        Without one it is absolute, from the scan itself to the target's look.
        """
        brain, mask = scan.canonical(self.model.grid)
        positions = self.model.grid.positions()[mask]
        domains = [target] if source is None else [target, source]
        looks = sample_looks(self.model, brain, domains, self.sampling)
        start: FloatArray = brain.voxels[mask] if source is None else looks[1].voxels[mask]
        return fit_bilateral_grid(positions, np.maximum(start, 0), looks[0].voxels[mask], settings=self.lock)
