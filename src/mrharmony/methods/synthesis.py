"""Synthesis: what the target's scanner would have seen of this head, through the anatomy lock.

A network gives the scan's contrasts on a few reference scanners; it knows tissues, whatever the contrast. A
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
from mrharmony.domains.statistics import DomainStatistics, load_statistics, save_statistics, target_statistics
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
from mrharmony.methods.protocol import DEFAULTS, Extent, HarmonizedVolume, MethodSettings
from mrharmony.methods.rendering import lock_of, render, through_lock
from mrharmony.networks.compact.model import STATISTICS
from mrharmony.networks.diffusion.contrasts import reference_contrasts
from mrharmony.networks.diffusion.network import shipped_network
from mrharmony.preparation.canonical import CanonicalBrain, canonical_brain
from mrharmony.preparation.prepared import PreparedScan

SYNTHESIS = "synthesis"
RELATIVE_SHARE = 0.5  # of the relative fit, where the source is known
LOCK = LockSettings()  # the usual one, from benchmarks.calibration.lock


@dataclass(frozen=True)
class SynthesisHarmonizer:
    """The expected contrast of the head on the target's scanner, through the lock.

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
        """Return the method with detail transfer after the lock; refuses `extent='head'`."""
        if self.extent != "brain":
            raise MrharmonyError(
                f"detail=True transforms only the brain. Leave it or extent='{self.extent}' out."
            )
        return replace(self, transfers_detail=True)

    def transform(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seed: int | None = None
    ) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities, or of a copy perturbed by a seed.

        It is a blend of two fits. Absolute: from the scan itself to its contrast in the target. Relative:
        from its contrast in the source to its contrast in the target, so that what the network gets wrong in
        both cancels. Without a source, the domain that the scan resembles stands in; if it resembles none,
        only the absolute fit is used. From a domain to itself the transform is exactly the identity.
        """
        target_model = contrast_model_of(self.contrast_models, target)
        if source is not None and source.name == target.name:
            return self.lock.lattice()
        contrasts, origin = scan_contrasts(scan), self._origin(scan, source)
        if seed is not None:
            contrasts = perturbed_contrasts(canonical_brain(scan), contrasts, seed)
        expected = target_model.contrast(contrasts)
        absolute = fit_lock(contrasts.positions, contrasts.intensities, expected, self.lock)
        if origin is None:
            return absolute
        relative = fit_lock(contrasts.positions, origin.contrast(contrasts), expected, self.lock)
        return absolute.blend(relative, RELATIVE_SHARE)

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> list[BilateralGrid]:
        """Return the transforms that follow from perturbed copies of a scan, one a seed; see `transform`."""
        return [self.transform(scan, source, target, seed) for seed in seeds]

    def nearest(self, scan: PreparedScan) -> Recognition:
        """Return the known domain that a scan resembles most."""
        return recognise(self.contrast_models, scan_contrasts(scan))

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`."""
        if self.transfers_detail:
            return self.harmonize(scan, source, target).intensities()
        return render(scan, self.transform(scan, source, target))

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """As `Harmonizer.harmonize`.

        A scan that is far from its source, or from all domains, gets a finding and at least a `warn`.
        """
        transform = self.transform(scan, source, target)
        done = through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)
        if self.transfers_detail:
            done = self._detailed(scan, done, source, target)
        given, nearest = self._model_of(source), scan.once(self.nearest)
        distance = given.distance(scan_contrasts(scan)) if given else nearest.distance
        findings = source_findings(source if given else None, distance)
        return replace(
            done,
            evidence=done.evidence.doubted([finding.code for finding in findings]),
            provenance={**done.provenance, "nearest": nearest.name, "distance": distance},
            findings=(*done.findings, *findings),
        )

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share, `synthesis` and `detail.safetensors`."""
        save_statistics(directory / STATISTICS, self.statistics)
        save_contrast_models(directory, self.contrast_models)
        save_details(directory, self.details)

    def _detailed(
        self, scan: PreparedScan, done: HarmonizedVolume, source: Domain | None, target: Domain
    ) -> HarmonizedVolume:
        """Return the lock's result with the target's detail; a scan in its own domain is left alone."""
        detail = detail_of(self.details, target)
        if source is not None and source.name == target.name:
            return unchanged_detail(done)
        return transfer_detail(scan, done, detail, target_statistics(self.statistics, target))

    def _model_of(self, source: Domain | None) -> ContrastModel | None:
        if source is None or not (source.protocol or source.name in self.contrast_models):
            return None
        return contrast_model_of(self.contrast_models, source)

    def _origin(self, scan: PreparedScan, source: Domain | None) -> ContrastModel | None:
        """Return the contrast model of the source, else of the domain that the scan resembles, if any."""
        given = self._model_of(source)
        if given is not None:
            return given
        nearest = scan.once(self.nearest)
        return self.contrast_models[nearest.name] if nearest.is_alike else None


def fit_synthesis(domains: Brains, statistics: Mapping[str, DomainStatistics]) -> SynthesisHarmonizer:
    """Return the method with the domains' contrast models, fitted on their first scans, and their detail.

    One scan a domain is enough, on a template grid; other grids than that of 2 mm are resampled.
    """
    return SynthesisHarmonizer(statistics, fit_contrast_models(domains), details=fit_details(domains))


def load_synthesis(directory: Path, settings: MethodSettings = DEFAULTS) -> SynthesisHarmonizer:
    """Return the method that `save` left in a directory; raises as `load_contrast_models`."""
    method = SynthesisHarmonizer(
        load_statistics(directory / STATISTICS),
        load_contrast_models(directory),
        lock_of(settings.extent),
        settings.extent,
        details=load_details(directory),
    )
    return method.with_detail() if settings.detail else method


# The network is deterministic. What it makes of small changes that a scanner could have made, and of the
# mirror image, shows how sure it is (test-time augmentation; Wang et al. 2019, Neurocomputing 338:34).
NOISE = 0.02  # standard deviation, canonical units
TONE = 0.1  # of the logarithm of the tone curve's power
BIAS = 0.05  # of the logarithm of the bias at the borders of the grid, along each axis
_DARKEST = 1e-3  # of the brain, which the network distinguishes from air, 0


def perturbed_contrasts(brain: CanonicalBrain, contrasts: ScanContrasts, seed: int) -> ScanContrasts:
    """Return a scan with the reference contrasts of a perturbed copy; copies of odd seeds are mirrored.

    The brain lies on the network's grid, centred as the template; the scan's intensities stay what they are.
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
    """Return s^p · exp(b · x) + n: other tone p, bias b along the axes x in -1..1, and noise n."""
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
