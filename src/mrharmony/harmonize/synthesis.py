"""Synthesis: what the target's scanner would have seen of this head, through the anatomy lock.

A network gives the scan's looks on a few reference scanners; it knows tissues, whatever the contrast. A
domain is its accent: how its scans differ from mixtures of their own reference looks. Scan and look show one
head, so an accent is fitted on pairs, needs a scan or two, and does not depend on who was scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrharmony.harmonize.bilateral_bounds import LockSettings
from mrharmony.harmonize.bilateral_fit import fit_bilateral_grid
from mrharmony.harmonize.bilateral_grid import BilateralGrid
from mrharmony.harmonize.fitted import Brains, Fitted, load_fitted, masked, require_brains, save_fitted
from mrharmony.harmonize.locked import Extent, lock_of, render, through_lock
from mrharmony.harmonize.per_scan import STATISTICS_ZOOM, PerScan, canonical_brain
from mrharmony.harmonize.population import CanonicalBrain, DomainStatistics, save_statistics
from mrharmony.harmonize.protocol import HarmonizedVolume
from mrharmony.latent import STATISTICS
from mrharmony.prepare import Grid, PreparedScan
from mrharmony.prepare.resample import resample_brain
from mrharmony.progress import track
from mrharmony.synthesis import network_hash, reference_looks, shipped_network
from mrharmony.volume import Domain, FloatArray, MrharmonyError, Volume

SYNTHESIS = "synthesis"
ACCENTS = f"{SYNTHESIS}.safetensors"
RELATIVE_SHARE = 0.5  # of the relative fit, where the source is known
_PULL = 1e-3  # of a mixture to the plain mean of the references, squared canonical units
ACCENT_SCANS = 12  # of a domain that are looked at: 1.5 s each
_VOXELS = 60_000  # of a domain, enough for 2,000 unknowns


@dataclass(frozen=True)
class Accent:
    """How a domain's scans follow from the reference looks of the same heads.

    Parameters
    ----------
    mixture
        Weight of each reference look and a constant, shape (references + 1,).
    curves
        From the mixture to the domain's intensities.
    """

    mixture: NDArray[np.float64]
    curves: BilateralGrid

    def look(self, positions: FloatArray, references: FloatArray) -> FloatArray:
        """Return the look in the domain.

        Parameters
        ----------
        positions
            Template mm, shape (n, 3).
        references
            Looks on the reference scanners, canonical units, shape (references, n).
        """
        return self.curves.apply(positions, _mixed(self.mixture, references))


def fit_accent(positions: FloatArray, references: FloatArray, intensities: FloatArray) -> Accent:
    """Return the accent that best gives a domain's intensities from the reference looks, least squares.

    Parameters
    ----------
    positions
        Template mm, of brain voxels of all scans of the domain, shape (n, 3).
    references
        Looks on the reference scanners, canonical units, shape (references, n).
    intensities
        What the domain's scanner saw, canonical units, shape (n,).
    """
    design = np.vstack([references, np.ones_like(intensities)]).astype(np.float64)
    mean = np.append(np.full(len(references), 1 / len(references)), 0)
    normal = design @ design.T / design.shape[1] + _PULL * np.eye(len(design))
    pull = design @ (intensities - mean @ design) / design.shape[1]
    mixture = mean + np.linalg.solve(normal, pull)
    return Accent(mixture, fit_bilateral_grid(positions, _mixed(mixture, references), intensities))


def _mixed(mixture: NDArray[np.float64], references: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(mixture[:-1] @ references + mixture[-1], 0), np.float32)


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
    """

    statistics: Mapping[str, DomainStatistics]
    accents: Mapping[str, Accent]
    lock: LockSettings = field(default_factory=LockSettings)
    extent: Extent = "brain"
    name: str = SYNTHESIS

    def transform(self, scan: PreparedScan, source: Domain | None, target: Domain) -> BilateralGrid:
        """Return the transform of a scan's canonical intensities.

        It is the mean of two fits. Absolute: from the scan itself to its look in the target. Relative, where
        the source's accent is known: from its look in the source to its look in the target, so that what the
        network gets wrong in both cancels. Where source and target are the same it is exactly the identity.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        accent = accent_of(self.accents, target)
        if source is not None and source.name == target.name:
            return self.lock.lattice()
        positions, references = _scan_references(scan)
        brain = canonical_brain(scan)
        scanned = np.maximum(brain.volume.voxels[brain.mask], 0)
        look = accent.look(positions, references)
        absolute = fit_bilateral_grid(positions, scanned, look, settings=self.lock)
        if source is None or source.name not in self.accents:
            return absolute
        expected = self.accents[source.name].look(positions, references)
        relative = fit_bilateral_grid(positions, expected, look, settings=self.lock)
        return absolute.blend(relative, RELATIVE_SHARE)

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan with evidence; `source` is None where the scan's domain is unknown.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        transform = self.transform(scan, source, target)
        return through_lock(scan, transform, self.name, source, target, self.statistics, self.extent)

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look, shape (i, j, k), 0 outside the brain.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        return render(scan, self.transform(scan, source, target), 1.0).voxels

    def save(self, directory: Path) -> None:
        """Write `statistics.safetensors`, which all methods share, and `synthesis.safetensors`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_statistics(directory / STATISTICS, self.statistics)
        save_fitted(directory / ACCENTS, _as_fitted(self.accents))


def fit_synthesis(domains: Brains, statistics: Mapping[str, DomainStatistics]) -> SynthesisHarmonizer:
    """Return the method with the accents of the domains, fitted on their first scans; one scan is enough.

    Parameters
    ----------
    domains
        Training scans by domain, on a template grid; other grids than that of 2 mm are resampled.
    statistics
        Of the same scans.
    """
    require_brains(domains)
    accents = {
        name: _domain_accent(brains[:ACCENT_SCANS])
        for name, brains in track(domains.items(), "fitting accents", len(domains))
    }
    return SynthesisHarmonizer(statistics, accents)


def load_synthesis(
    directory: Path, statistics: Mapping[str, DomainStatistics], extent: Extent = "brain"
) -> SynthesisHarmonizer:
    """Return the method with the accents that `save` wrote to a directory.

    Raises
    ------
    MrharmonyError
        If there are none, they are damaged, or belong to another network than the shipped one.
    """
    path = directory / ACCENTS
    fitted, lattice = load_fitted(path), LockSettings().lattice()
    try:
        if bytes(fitted.arrays["network"]).hex() != network_hash():
            raise MrharmonyError(
                f"{path}: fitted for another version's network. Fit it again: mrharmony train BIDS_DIR "
                "--method synthesis --output DIR, or adapt from a current model."
            )
        offsets = np.asarray(fitted.arrays["offsets"]).reshape(-1, *lattice.offsets.shape)
        curves = [BilateralGrid(lattice.field_of_view, lattice.knots, part) for part in offsets]
        mixtures = np.asarray(fitted.arrays["mixtures"]).reshape(
            len(curves), shipped_network().references + 1
        )
        accents = {
            name: Accent(mixture, curve)
            for name, mixture, curve in zip(fitted.domains, mixtures, curves, strict=True)
        }
    except (KeyError, ValueError, TypeError) as error:
        raise MrharmonyError(f"{path}: not accents of domains ({error}); fit the method again.") from error
    return SynthesisHarmonizer(statistics, accents, lock_of(extent), extent)


def accent_of(accents: Mapping[str, Accent], target: Domain) -> Accent:
    """Return a target domain's accent.

    Raises
    ------
    MrharmonyError
        If there is none of that name.
    """
    if target.name not in accents:
        raise MrharmonyError(
            f"Unknown target domain {target.name}: it has no accent here. Choose one of: "
            f"{', '.join(sorted(accents))}; or --method diffusion, if the model knows it."
        )
    return accents[target.name]


def _as_fitted(accents: Mapping[str, Accent]) -> Fitted:
    return Fitted(
        tuple(accents),
        {
            "mixtures": np.stack([accent.mixture for accent in accents.values()]),
            "offsets": np.stack([accent.curves.offsets for accent in accents.values()]).astype(np.float32),
            "network": np.frombuffer(bytes.fromhex(network_hash()), np.uint8),
        },
    )


def _domain_accent(brains: Sequence[CanonicalBrain]) -> Accent:
    """Fit an accent on every few voxels of a domain's scans, as many as are needed."""
    step = max(1, sum(int(brain.mask.sum()) for brain in brains) // _VOXELS)
    parts = [
        tuple(
            values[..., ::step].copy() for values in (brain.positions().T, _references(brain), masked(brain))
        )
        for brain in map(_at_working_zoom, brains)
    ]
    places, references, intensities = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return fit_accent(places.T, references, intensities)


def _at_working_zoom(brain: CanonicalBrain) -> CanonicalBrain:
    """Return a brain on the grid that the network works on."""
    grid = Grid.working(STATISTICS_ZOOM)
    if brain.volume.shape == grid.shape and np.allclose(brain.volume.affine, grid.affine):
        return brain
    voxels, mask = resample_brain(brain.volume, brain.mask, grid.shape, grid.affine)
    return CanonicalBrain(Volume(voxels, grid.affine), mask, brain.scale)


def _references(brain: CanonicalBrain) -> FloatArray:
    return reference_looks(shipped_network(), brain.volume.voxels, brain.mask)


def _of_scan(scan: PreparedScan) -> tuple[FloatArray, FloatArray]:
    brain = canonical_brain(scan)
    return brain.positions(), _references(brain)


_scan_references = PerScan(_of_scan)
