"""Contrasts sampled from the compact latent diffusion model, and the lock that brings them to the scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.domains.statistics import (
    DomainStatistics,
    brain_statistics,
    load_statistics,
    save_statistics,
    target_statistics,
)
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.fit import fit_bilateral_grid
from mrharmony.methods.protocol import Extent, HarmonizedVolume, MethodSettings
from mrharmony.methods.rendering import lock_of, render, through_lock
from mrharmony.methods.tone_curves import regional_curves
from mrharmony.networks.compact.model import STATISTICS, LatentModel, load_model, save_model
from mrharmony.networks.compact.sampling import (
    SamplingSettings,
    encode_brain,
    invert_brain,
    round_trip,
    sample_contrast,
)
from mrharmony.networks.settings import choose_device
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan


class SampledContrasts:
    """A scan's contrasts in the domains of a model, each sampled when first asked for, and then kept."""

    def __init__(self, model: LatentModel, scan: PreparedScan, settings: SamplingSettings) -> None:
        brain, self.mask = scan.canonical(model.grid)
        self.positions = model.grid.positions()[self.mask]
        self.encoded = encode_brain(model, brain)
        self._model = model
        self._settings = settings
        self._sampled: dict[tuple[str, str | None], Volume] = {}
        self._noises: dict[str, torch.Tensor] = {}
        self._round_trip: Volume | None = None

    def of(self, domain: Domain, source: Domain | None = None) -> Volume:
        """Return the contrast in a domain that the model knows, on the model's grid, canonical units.

        Only DDIB needs the source: it inverts the scan under the source's prompt, and refuses an unknown one.
        """
        if self._settings.ddib and source is None:
            raise MrharmonyError(
                "DDIB must know the domain that a scan comes from. "
                "Name it with source=..., or leave ddib out."
            )
        inverted = source if self._settings.ddib else None
        key = domain.name, inverted.name if inverted else None
        if key not in self._sampled:
            start = self._noise(inverted) if inverted else None
            self._sampled[key] = sample_contrast(self._model, self.encoded, domain, self._settings, start)
        return self._sampled[key]

    def round_trip(self) -> Volume:
        """Return the scan itself as the autoencoder gives it back, on the model's grid."""
        if self._round_trip is None:
            self._round_trip = round_trip(self._model, self.encoded)
        return self._round_trip

    def _noise(self, source: Domain) -> torch.Tensor:
        if source.name not in self._noises:
            self._noises[source.name] = invert_brain(self._model, self.encoded, source, self._settings)
        return self._noises[source.name]


@dataclass(frozen=True)
class DiffusionHarmonizer:
    """Contrasts of the compact model, drawn to the regional population curve, through the lock.

    Parameters
    ----------
    model
        The compact latent diffusion model.
    statistics
        Of the model's domains, by name; they give the output its units.
    sampling
        Steps, guidance weights and seed of the contrasts.
    lock
        Lattice, smoothness and bounds of the fit.
    extent
        `brain` or `head`; see `render`.
    population_weight
        Share of the regional population curve in the contrast that the lock is fitted to, 0..1.
    """

    model: LatentModel
    statistics: Mapping[str, DomainStatistics]
    sampling: SamplingSettings
    lock: LockSettings
    extent: Extent = "brain"
    population_weight: float = 0.75
    name: str = "diffusion"

    def contrasts(self, scan: PreparedScan) -> SampledContrasts:
        """Return the contrasts of a scan, none of them sampled yet."""
        return SampledContrasts(self.model, scan, self.sampling)

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        With a known source the fit is relative, from the source domain's contrast to the target's contrast of
        the same structure: errors that both share cancel, and source = target is exactly the identity. DDIB
        takes both from the scan's own noise, inverted under the source's prompt. Without a known source the
        fit is absolute, from the scan after the autoencoder to the target's contrast; DDIB is then refused.
        """
        contrasts = scan.once(self.contrasts)
        made = contrasts.of(target, source)
        start = contrasts.round_trip() if source is None else contrasts.of(source, source)
        before, contrast = (np.maximum(volume.voxels[contrasts.mask], 0) for volume in (start, made))
        if source is None:
            known = brain_statistics(CanonicalBrain(contrasts.encoded.brain, contrasts.mask, scan.scale))
        else:
            known = target_statistics(self.statistics, source)
        curves = regional_curves(known, target_statistics(self.statistics, target))
        # (1 - w) · sampled contrast + w · regional curve, which has what the model misses of the domain.
        drawn = contrast + np.float32(self.population_weight) * (
            curves.apply(contrasts.positions, before) - contrast
        )
        return fit_bilateral_grid(contrasts.positions, before, drawn, settings=self.lock)

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> Iterator[BilateralGrid]:
        """Yield the transforms that follow from other noise, one a seed."""
        for seed in seeds:
            sampling = self.sampling.model_copy(update={"seed": seed})
            yield replace(self, sampling=sampling).transform(scan, source, target)

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`."""
        return render(scan, self.transform(scan, source, target))

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`."""
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)

    def save(self, directory: Path) -> None:
        """Write model and statistics in the place of an earlier model and all that was fitted beside it."""
        save_model(
            self.model, directory, lambda folder: save_statistics(folder / STATISTICS, self.statistics)
        )


def load_diffusion(directory: Path, settings: MethodSettings) -> DiffusionHarmonizer:
    """Return the method with the latent diffusion model of a directory."""
    model = load_model(directory).to(choose_device(settings.device))
    sampling = settings.sampling or SamplingSettings(seed=settings.seed)
    return DiffusionHarmonizer(
        model, load_statistics(directory / STATISTICS), sampling, lock_of(settings.extent), settings.extent
    )
