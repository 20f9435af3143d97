"""Looks of a scan as it might as well have been: other noise, tone, bias and side.

The reference network is deterministic. What it says of small changes that a scanner could have made, and of
the mirror image, shows how sure it is (test-time augmentation; Wang et al. 2019, Neurocomputing 338:34).

Synthesis: what the target's scanner would have seen of this head, through the anatomy lock.

A network gives the scan's looks on a few reference scanners; it knows tissues, whatever the contrast. A
domain is its accent (`accents`): how its scans differ from mixtures of their own reference looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mrharmony.core.volume import Domain, FloatArray, MrharmonyError
from mrharmony.domains.contrast import (
    Accent,
    ScanLooks,
    accent_of,
    fit_accents,
    load_accents,
    save_accents,
    scan_looks,
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
from mrharmony.networks.reference.contrasts import reference_looks
from mrharmony.networks.reference.network import shipped_network
from mrharmony.prepare.canonical import CanonicalBrain, canonical_brain
from mrharmony.prepare.prepared import PreparedScan

NOISE = 0.02  # standard deviation, canonical units
TONE = 0.1  # of the logarithm of the tone curve's power
BIAS = 0.05  # of the logarithm of the bias at the borders of the grid, along each axis
_DARKEST = 1e-3  # of the brain, which the network tells from air by not being 0


def perturbed_looks(brain: CanonicalBrain, looks: ScanLooks, seed: int) -> ScanLooks:
    """Return a scan with the reference looks of a perturbed copy of it; copies of odd seeds are mirrored.

    Parameters
    ----------
    brain
        The scan on the network's grid, whose middle is that of the template.
    looks
        Its own looks: positions and intensities stay what they are.
    seed
        Of the perturbation, at least 0.
    """
    mask, voxels = brain.mask, _perturbed(brain, np.random.default_rng([seed, 1]))
    if seed % 2 == 0:
        return looks._replace(references=reference_looks(shipped_network(), voxels, mask))
    mirrored = mask[::-1]
    found = reference_looks(shipped_network(), voxels[::-1], mirrored)
    references = np.zeros((len(found), *mask.shape), np.float32)
    references[:, mirrored] = found
    return looks._replace(references=np.ascontiguousarray(references[:, ::-1][:, mask]))


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
LOCK = LockSettings()  # the usual one, from benchmarks/lock_settings.py


@dataclass(frozen=True)
class SynthesisHarmonizer:
    """The expected look of the head on the target's scanner, through the lock.

    Parameters
    ----------
    statistics
        Of every known domain, by name; they give the output its units.
    accents
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
    accents: Mapping[str, Accent]
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
        accent = accent_of(self.accents, target)
        if source is not None and source.name == target.name:
            return self.lock.lattice()
        looks = scan_looks(scan)
        return self._fit(looks, self._origin(looks, source), accent)

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> list[BilateralGrid]:
        """Return the transforms that follow from perturbed copies of a scan, one a seed.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        accent = accent_of(self.accents, target)
        if source is not None and source.name == target.name:
            return [self.lock.lattice()] * len(seeds)
        looks, brain = scan_looks(scan), canonical_brain(scan)
        origin = self._origin(looks, source)
        return [self._fit(perturbed_looks(brain, looks, seed), origin, accent) for seed in seeds]

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where the scan's domain is unknown.

        A scan that is strange to its source, or to all domains, is told by a finding and at least `warn`.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        accent, looks, told = accent_of(self.accents, target), scan_looks(scan), self._told(source)
        nearest = recognise(self.accents, looks)
        if source is not None and source.name == target.name:
            transform = self.lock.lattice()
        else:
            transform = self._fit(looks, told or self._alike(nearest), accent)
        done = through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)
        if self.transfers_detail:
            done = self._detailed(scan, done, source, target)
        distance = told.distance(looks) if told else nearest.distance
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

    def _origin(self, looks: ScanLooks, source: Domain | None) -> Accent | None:
        """Return the accent of the source that was told, else of the domain that the scan looks like."""
        return self._told(source) or self._alike(recognise(self.accents, looks))

    def _told(self, source: Domain | None) -> Accent | None:
        """Return the accent of a source that was told and is known."""
        return self.accents.get(source.name) if source else None

    def _alike(self, nearest: Recognition) -> Accent | None:
        """Return the accent of the nearest domain; None where the scan looks like no domain."""
        return self.accents[nearest.name] if nearest.is_alike else None

    def _fit(self, looks: ScanLooks, origin: Accent | None, target: Accent) -> BilateralGrid:
        """Return the absolute fit, blended with the relative one where the origin is known."""
        wanted = target.look(looks)
        absolute = fit_lock(looks.positions, looks.intensities, wanted, self.lock)
        if origin is None:
            return absolute
        relative = fit_lock(looks.positions, origin.look(looks), wanted, self.lock)
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
        save_accents(directory, self.accents)
        save_details(directory, self.details)


def fit_synthesis(domains: Brains, statistics: Mapping[str, DomainStatistics]) -> SynthesisHarmonizer:
    """Return the method with the accents of the domains, fitted on their first scans, and their detail.

    Parameters
    ----------
    domains
        Training scans by domain, one or more, on a template grid; other grids than that of 2 mm are
        resampled.
    statistics
        Of the same scans.
    """
    return SynthesisHarmonizer(statistics, fit_accents(domains), details=fit_details(domains))


def load_synthesis(
    directory: Path, statistics: Mapping[str, DomainStatistics], extent: Extent = "brain"
) -> SynthesisHarmonizer:
    """Return the method with the accents that `save` wrote to a directory, and the detail if it is there.

    Raises
    ------
    MrharmonyError
        If there are no accents, they are damaged, or belong to another network than the shipped one; or the
        detail is damaged.
    """
    return SynthesisHarmonizer(
        statistics,
        load_accents(directory),
        lock_of(extent, LOCK),
        extent,
        details=load_details(directory),
    )
