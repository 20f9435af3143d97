"""Diffusion: what the target's scanner is expected to see of this head, through the anatomy lock.

A diffusion model over physical latents gives the scan's contrasts on a few reference scanners, as expected or
as samples of the heads that the scan allows. A domain is its contrast model: how its scans differ from
mixtures of their own reference contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray
from mrharmony.domains.contrast import (
    CONTRAST_MODELS,
    ContrastModel,
    contrast_model_of,
    contrasts_after,
    domain_voxels,
    fit_contrast_models,
    load_contrast_models,
    own_contrast,
    sampled_scan_contrasts,
    save_contrast_models,
    scan_contrasts,
)
from mrharmony.domains.fitted import Brains
from mrharmony.domains.protocols import protocol_model, protocol_statistics
from mrharmony.domains.recognition import Recognition, recognise, source_findings
from mrharmony.domains.statistics import (
    DomainStatistics,
    load_statistics,
    owner_of,
    save_statistics,
    target_statistics,
)
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.methods.agreement import leaning
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
from mrharmony.methods.tone_curves import global_curve
from mrharmony.networks.card import STATISTICS
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.protocol import Protocol

RELATIVE_SHARE = 0.5  # of the relative fit, where the source is known
SECOND_SHARE = 0.75  # of the contrast that is read from the first result
LOCK = LockSettings()  # the usual one, from benchmarks.calibration.lock


@dataclass(frozen=True)
class DiffusionHarmonizer:
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
    name: str = "diffusion"
    details: Mapping[str, Detail] = field(default_factory=dict)
    transfers_detail: bool = False

    def with_detail(self) -> DiffusionHarmonizer:
        """Return the method with detail transfer after the lock; refuses `extent='head'`."""
        if self.extent != "brain":
            raise MrharmonyError(
                f"detail=True transforms only the brain. Leave it or extent='{self.extent}' out."
            )
        return replace(self, transfers_detail=True)

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        Without a source, the domain that the scan resembles stands in; if it resembles none, the transform is
        the lock from the scan to its contrast in the target. From a domain to itself it is exactly the
        identity.

        With a source it is fitted twice. The network errs in another way on every contrast that it has not
        learned, and a contrast model corrects what it errs on its own domain's scans. So the second fit is
        mostly to the target's contrast as read from the first result, which looks like the target's scans. It
        leans on the average curve between the domains as far as that agrees with it (`leaning`).
        """
        return self._fitted(scan, source, target)[0]

    def transforms(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int]
    ) -> list[BilateralGrid]:
        """Return the transforms that follow from sampled contrasts in place of the expected, one a seed."""
        return self._fitted(scan, source, target, seeds)

    def _fitted(
        self, scan: PreparedScan, source: Domain | None, target: Domain, seeds: Sequence[int] | None = None
    ) -> list[BilateralGrid]:
        """Return the transform that follows from the expected contrasts, or with seeds one for each."""
        model = self._model(target)
        if source is not None and source.name == target.name:
            return [self.lock.lattice()] * (1 if seeds is None else len(seeds))
        contrasts, origin = scan_contrasts(scan), self._origin(scan, source)
        if origin is None:
            read = [contrasts] if seeds is None else sampled_scan_contrasts(scan, seeds)
            start = contrasts.positions, contrasts.intensities
            return [fit_lock(*start, model.contrast(one), self.lock) for one in read]
        first, in_source = model.contrast(contrasts), origin.contrast(contrasts)
        read = contrasts_after(scan, self._blended(scan, in_source, first), seeds)
        second = [SECOND_SHARE * model.contrast(one) + (1 - SECOND_SHARE) * first for one in read]
        if source is not None and {source.name, target.name} <= self.statistics.keys():
            domains = self.statistics[source.name], self.statistics[target.name]
            by_curve = global_curve(*domains).apply(contrasts.positions, in_source)
            own = scan.once(own_contrast)
            second = [leaning(expected, by_curve, own, in_source) for expected in second]
        return [self._blended(scan, in_source, expected) for expected in second]

    def _blended(self, scan: PreparedScan, in_source: FloatArray, expected: FloatArray) -> BilateralGrid:
        """Return the blend of two locks to the contrast expected in the target; contrasts have shape (n,).

        Absolute: from the scan, as its own contrasts explain it without its noise, which would flatten the
        fit. Relative: from its contrast in the source, so that what is particular to the person, and errors
        that are in both contrasts, cancel.
        """
        positions = scan_contrasts(scan).positions
        absolute = fit_lock(positions, scan.once(own_contrast), expected, self.lock)
        relative = fit_lock(positions, in_source, expected, self.lock)
        return absolute.blend(relative, RELATIVE_SHARE)

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
        done = through_lock(scan, transform, self.name, source, target, self._statistics(target), self.extent)
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
        """Write `statistics.safetensors`, which all methods share, `diffusion` and `detail.safetensors`."""
        save_statistics(directory / STATISTICS, self.statistics)
        owner = owner_of(self.name, self.statistics, self.contrast_models)
        save_contrast_models(directory / CONTRAST_MODELS, self.contrast_models, owner)
        save_details(directory, self.details, owner_of(self.name, self.statistics, self.details))

    def _detailed(
        self, scan: PreparedScan, done: HarmonizedVolume, source: Domain | None, target: Domain
    ) -> HarmonizedVolume:
        """Return the lock's result with the target's detail; a scan in its own domain is left alone."""
        detail = detail_of(self.details, target)
        if source is not None and source.name == target.name:
            return unchanged_detail(done)
        return transfer_detail(scan, done, detail, target_statistics(self.statistics, target))

    def _model(self, domain: Domain) -> ContrastModel:
        """Return the contrast model of a known domain or of a protocol; refuses others."""
        if isinstance(domain.protocol, Protocol):
            return protocol_model(domain.protocol)
        return contrast_model_of(self.contrast_models, domain)

    def _statistics(self, target: Domain) -> Mapping[str, DomainStatistics]:
        """Return the statistics of all domains and of a target that is a protocol."""
        if not isinstance(target.protocol, Protocol):
            return self.statistics
        return {**self.statistics, target.name: protocol_statistics(target.protocol)}

    def _model_of(self, source: Domain | None) -> ContrastModel | None:
        if source is None or not (source.protocol or source.name in self.contrast_models):
            return None
        return self._model(source)

    def _origin(self, scan: PreparedScan, source: Domain | None) -> ContrastModel | None:
        """Return the contrast model of the source, else of the domain that the scan resembles, if any."""
        given = self._model_of(source)
        if given is not None:
            return given
        nearest = scan.once(self.nearest)
        return self.contrast_models[nearest.name] if nearest.is_alike else None


def fit_diffusion(domains: Brains, statistics: Mapping[str, DomainStatistics]) -> DiffusionHarmonizer:
    """Return the method with the domains' contrast models, fitted on their first scans, and their detail.

    One scan a domain is enough, on a template grid; other grids than that of 2 mm are resampled.
    """
    contrast_models = fit_contrast_models(domain_voxels(domains))
    return DiffusionHarmonizer(statistics, contrast_models, details=fit_details(domains))


def load_diffusion(directory: Path, settings: MethodSettings = DEFAULTS) -> DiffusionHarmonizer:
    """Return the method that `save` left in a directory; raises as `load_contrast_models`."""
    statistics = load_statistics(directory / STATISTICS)
    owner = partial(owner_of, DiffusionHarmonizer.name, statistics)
    method = DiffusionHarmonizer(
        statistics,
        load_contrast_models(directory / CONTRAST_MODELS, owner),
        lock_of(settings.extent),
        settings.extent,
        details=load_details(directory, owner),
    )
    return method.with_detail() if settings.detail else method
