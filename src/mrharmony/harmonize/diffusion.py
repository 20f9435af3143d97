"""The latent diffusion model gives the look, the anatomy lock keeps the scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mrharmony.harmonize.bilateral_bounds import LockSettings
from mrharmony.harmonize.bilateral_fit import fit_bilateral_grid
from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.harmonize.locked import Extent, through_lock
from mrharmony.harmonize.looks import Looks
from mrharmony.harmonize.population import (
    CanonicalBrain,
    DomainStatistics,
    brain_statistics,
    target_statistics,
)
from mrharmony.harmonize.protocol import HarmonizedVolume
from mrharmony.harmonize.tone_curves import regional_curves
from mrharmony.latent import LatentModel, SamplingSettings
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain


@dataclass(frozen=True)
class DiffusionHarmonizer:
    """Looks of the compact model, drawn to the regional population curve, through the lock.

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
    population_weight
        Share of the regional population curve in the look that the lock is fitted to, 0..1.
    """

    model: LatentModel
    statistics: Mapping[str, DomainStatistics]
    sampling: SamplingSettings
    lock: LockSettings
    extent: Extent = "brain"
    population_weight: float = 0.75
    name: str = "diffusion"

    def looks(self, scan: PreparedScan) -> Looks:
        """Return the looks of a scan, none of them sampled yet."""
        return Looks(self.model, scan, self.sampling)

    def transform(
        self, scan: PreparedScan, source: Domain | None, target: Domain, looks: Looks | None = None
    ) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        With a known source the fit is relative, from the source domain's look to the target's look of the
        same structure: errors that both looks share cancel, and source = target is exactly the identity.
        DDIB takes both looks from the scan's own noise, inverted under the source's prompt.
        Without one it is absolute, from the scan itself, as the autoencoder sees it, to the target's look.

        Parameters
        ----------
        scan
            The prepared scan.
        source, target
            Domains that the model knows; `source` is None where the scan's domain is unknown.
        looks
            The scan's looks where some may have been sampled already.

        Raises
        ------
        MrharmonyError
            If the model has no statistics of a domain, or DDIB is not told the source.
        """
        looks = looks or self.looks(scan)
        made = looks.of(target, source)
        start = looks.round_trip() if source is None else looks.of(source, source)
        before, look = (np.maximum(volume.voxels[looks.mask], 0) for volume in (start, made))
        if source is None:
            known = brain_statistics(CanonicalBrain(looks.encoded.brain, looks.mask, scan.scale))
        else:
            known = target_statistics(self.statistics, source)
        curves = regional_curves(known, target_statistics(self.statistics, target))
        wanted = look + np.float32(self.population_weight) * (curves.apply(looks.positions, before) - look)
        return fit_bilateral_grid(looks.positions, before, wanted, settings=self.lock)

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> Iterator[BilateralGrid]:
        """Yield the transforms that follow from other noise, one a seed.

        Raises
        ------
        MrharmonyError
            If the model does not know a domain.
        """
        for seed in seeds:
            sampling = self.sampling.model_copy(update={"seed": seed})
            yield replace(self, sampling=sampling).transform(scan, source, target)

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan, with evidence.

        Raises
        ------
        MrharmonyError
            If the model does not know a domain, or DDIB is not told the source.
        """
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)
