"""Looks of a scan as it might as well have been: other noise, tone, bias and side.

The reference network is deterministic. What it says of small changes that a scanner could have made, and of
the mirror image, shows how sure it is (test-time augmentation; Wang et al. 2019, Neurocomputing 338:34).

Synthesis: what the target's scanner would have seen of this head, through the anatomy lock.

A network gives the scan's looks on a few reference scanners; it knows tissues, whatever the contrast. A
domain is its contrast model: how its scans differ from mixtures of their own reference contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import (
    ContrastModel,
    ScanContrasts,
    contrast_model_of,
    fit_contrast_models,
    load_contrast_models,
    save_contrast_models,
    scan_contrasts,
)
from mrharmony.domains.fitted import Brains
from mrharmony.domains.recognition import Recognition, recognise, source_findings
from mrharmony.domains.statistics import DomainStatistics, save_statistics, target_statistics
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.detail import (
    Detail,
    detail_of,
    fit_details,
    load_details,
    save_details,
    transfer_detail,
    unchanged_detail,
)
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.methods.rendering import Extent, lock_of, render, through_lock
from mrharmony.networks.diffusion.model import STATISTICS
from mrharmony.networks.reference.contrasts import reference_contrasts
from mrharmony.networks.reference.network import shipped_network
from mrharmony.prepare.canonical import CanonicalBrain, canonical_brain
from mrharmony.prepare.prepared import PreparedScan

NOISE = 0.02  # standard deviation, canonical units
TONE = 0.1  # of the logarithm of the tone curve's power
BIAS = 0.05  # of the logarithm of the bias at the borders of the grid, along each axis
_DARKEST = 1e-3  # of the brain, which the network tells from air by not being 0


def perturbed_contrasts(brain: CanonicalBrain, contrasts: ScanContrasts, seed: int) -> ScanContrasts:
    """Return a scan with the reference looks of a perturbed copy of it; copies of odd seeds are mirrored.

    Parameters
    ----------
    brain
        The scan on the network's grid, whose middle is that of the template.
    contrasts
        Its own looks: positions and intensities stay what they are.
    seed
        Of the perturbation, at least 0.
    """
    mask, voxels = brain.mask, _perturbed(brain, np.random.default_rng([seed, 1]))
    if seed % 2 == 0:
        return contrasts._replace(references=reference_contrasts(shipped_network(), voxels, mask))
    mirrored = mask[::-1]
    found = reference_contrasts(shipped_network(), voxels[::-1], mirrored)
    references = np.zeros((len(found), *mask.shape), np.float32)
    references[:, mirrored] = found
    return contrasts._replace(references=np.ascontiguousarray(references[:, ::-1][:, mask]))


def _perturbed(brain: CanonicalBrain, rng: np.random.Generator) -> FloatArray:
    mask = brain.mask
    axes = [np.linspace(-1, 1, size) for size in mask.shape]
    places = np.argwhere(mask)
    slopes = BIAS * rng.standard_normal(3)
    bias = sum(slope * axis[places[:, n]] for n, (slope, axis) in enumerate(zip(slopes, axes, strict=True)))
    power = np.exp(TONE * rng.standard_normal())
    inside = np.maximum(brain.volume.voxels[mask], 0) ** power * np.exp(bias)
    inside += NOISE * rng.standard_normal(len(inside))
    voxels = np.zeros(mask.shape, np.float32)
    voxels[mask] = np.maximum(inside, _DARKEST)
    return voxels


SYNTHESIS = "synthesis"
RELATIVE_SHARE = 0.5  # of the relative fit, where the source is known
LOCK = LockSettings()  # the usual one, from benchmarks.calibration.lock


@dataclass(frozen=True)
class SynthesisHarmonizer:
    """The expected look of the head on the target's scanner, through the lock.

    Parameters
    ----------
    statistics
        Of every known domain, by name; they give the output its units.
    contrast_models
        Of every known domain, by name.
    lock
        Lattice, smoothness and bounds of the fit.
    extent
        `brain` or `head`; see `render`.
    details
        Of the domains whose detail is known, by name.
    transfers_detail
        Whether the target's detail is transferred after the lock; see `transfer_detail`.
    """

    statistics: Mapping[str, DomainStatistics]
    contrast_models: Mapping[str, ContrastModel]
    lock: LockSettings = LOCK
    extent: Extent = "brain"
    name: str = SYNTHESIS
    details: Mapping[str, Detail] = field(default_factory=dict)
    transfers_detail: bool = False

    def with_detail(self) -> SynthesisHarmonizer:
        """Return the method with detail transfer after the lock.

        Raises
        ------
        MrharmonyError
            If it transforms the whole head: detail is known of brains only.
        """
        if self.extent != "brain":
            raise MrharmonyError(f"--detail: knows only the brain. Leave --extent {self.extent} out.")
        return replace(self, transfers_detail=True)

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        It is a blend of two fits. Absolute: from the scan itself to its look in the target. Relative: from
        its look in the source to its look in the target, so that what the network gets wrong in both cancels.
        An unknown source is that of the domain that the scan looks like; where it looks like none, the
        absolute fit is alone. Where source and target are the same it is exactly the identity.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        contrast_model = contrast_model_of(self.contrast_models, target)
        if source is not None and source.name == target.name:
            return self.lock.lattice()
        contrasts = scan_contrasts(scan)
        return self._fit(contrasts, self._origin(contrasts, source), contrast_model)

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> list[BilateralGrid]:
        """Return the transforms that follow from perturbed copies of a scan, one a seed.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        contrast_model = contrast_model_of(self.contrast_models, target)
        if source is not None and source.name == target.name:
            return [self.lock.lattice()] * len(seeds)
        contrasts, brain = scan_contrasts(scan), canonical_brain(scan)
        origin = self._origin(contrasts, source)
        return [
            self._fit(perturbed_contrasts(brain, contrasts, seed), origin, contrast_model) for seed in seeds
        ]

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where the scan's domain is unknown.

        A scan that is strange to its source, or to all domains, is told by a finding and at least `warn`.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        contrast_model, contrasts, told = (
            contrast_model_of(self.contrast_models, target),
            scan_contrasts(scan),
            self._told(source),
        )
        nearest = recognise(self.contrast_models, contrasts)
        if source is not None and source.name == target.name:
            transform = self.lock.lattice()
        else:
            transform = self._fit(contrasts, told or self._alike(nearest), contrast_model)
        done = through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)
        if self.transfers_detail:
            done = self._detailed(scan, done, source, target)
        distance = told.distance(contrasts) if told else nearest.distance
        findings = source_findings(source if told else None, distance)
        return replace(
            done,
            evidence=done.evidence.doubted([finding.code for finding in findings]),
            provenance={**done.provenance, "nearest": nearest.name, "distance": distance},
            findings=(*done.findings, *findings),
        )

    def _detailed(
        self, scan: PreparedScan, done: HarmonizedVolume, source: Domain | None, target: Domain
    ) -> HarmonizedVolume:
        """Return the lock's result with the target's detail; a scan in its own domain is left alone."""
        detail = detail_of(self.details, target)
        if source is not None and source.name == target.name:
            return unchanged_detail(done)
        return transfer_detail(scan, done, detail, target_statistics(self.statistics, target))

    def _origin(self, contrasts: ScanContrasts, source: Domain | None) -> ContrastModel | None:
        """Return the contrast model of the given source, else of the domain that the scan resembles."""
        return self._told(source) or self._alike(recognise(self.contrast_models, contrasts))

    def _told(self, source: Domain | None) -> ContrastModel | None:
        """Return the contrast model of a source that was told and is known."""
        return self.contrast_models.get(source.name) if source else None

    def _alike(self, nearest: Recognition) -> ContrastModel | None:
        """Return the contrast model of the nearest domain; None where the scan looks like no domain."""
        return self.contrast_models[nearest.name] if nearest.is_alike else None

    def _fit(
        self, contrasts: ScanContrasts, origin: ContrastModel | None, target: ContrastModel
    ) -> BilateralGrid:
        """Return the absolute fit, blended with the relative one where the origin is known."""
        wanted = target.contrast(contrasts)
        absolute = fit_lock(contrasts.positions, contrasts.intensities, wanted, self.lock)
        if origin is None:
            return absolute
        relative = fit_lock(contrasts.positions, origin.contrast(contrasts), wanted, self.lock)
        return absolute.blend(relative, RELATIVE_SHARE)

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look, shape (i, j, k), 0 outside the brain.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        if self.transfers_detail:
            return self.harmonize(scan, source, target).intensities()
        return render(scan, self.transform(scan, source, target), 1.0).voxels

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share, `synthesis` and `detail.safetensors`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_statistics(directory / STATISTICS, self.statistics)
        save_contrast_models(directory, self.contrast_models)
        save_details(directory, self.details)


def fit_synthesis(domains: Brains, statistics: Mapping[str, DomainStatistics]) -> SynthesisHarmonizer:
    """Return the method with the domains' contrast models, fitted on their first scans, and their detail.

    Parameters
    ----------
    domains
        Training scans by domain, one or more, on a template grid; other grids than that of 2 mm are
        resampled.
    statistics
        Of the same scans.
    """
    return SynthesisHarmonizer(statistics, fit_contrast_models(domains), details=fit_details(domains))


def load_synthesis(
    directory: Path, statistics: Mapping[str, DomainStatistics], extent: Extent = "brain"
) -> SynthesisHarmonizer:
    """Return the method with the contrast models of a directory that `save` wrote, and its detail if any.

    Raises
    ------
    MrharmonyError
        If there are no contrast models, they are damaged, or belong to another network; or the
        detail is damaged.
    """
    return SynthesisHarmonizer(
        statistics,
        load_contrast_models(directory),
        lock_of(extent, LOCK),
        extent,
        details=load_details(directory),
    )
