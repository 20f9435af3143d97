"""Accents: how a domain's scans follow from the looks of the same heads on the reference scanners.

Scan and looks show one head, so an accent is fitted on pairs, needs a scan or two, and does not depend on who
was scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.progress import track
from mrharmony.core.volume import Domain, FloatArray, MrharmonyError
from mrharmony.domains.fitted import Brains, Fitted, load_fitted, require_brains, save_fitted
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.networks.reference.contrasts import fit_mixture, mixed, mixture_terms, reference_looks
from mrharmony.networks.reference.network import network_hash, shipped_network
from mrharmony.prepare.canonical import CanonicalBrain, PerScan, at_working_zoom, canonical_brain
from mrharmony.prepare.prepared import PreparedScan

ACCENTS = "synthesis.safetensors"
ACCENT_SCANS = 12  # of a domain that are looked at: 1.5 s each
_VOXELS = 60_000  # of a domain, enough for 2,000 unknowns


class ScanLooks(NamedTuple):
    """A scan's brain voxels on the network's grid, as they are and as the reference scanners would see them.

    Parameters
    ----------
    positions
        Template mm, shape (n, 3).
    intensities
        Canonical units, at least 0, shape (n,).
    references
        Looks on the reference scanners, canonical units, shape (references, n).
    """

    positions: FloatArray
    intensities: FloatArray
    references: FloatArray

    @classmethod
    def of(cls, brain: CanonicalBrain) -> ScanLooks:
        """Let the shipped network look at a brain on its grid."""
        references = reference_looks(shipped_network(), brain.volume.voxels, brain.mask)
        return cls(brain.positions(), np.maximum(brain.volume.voxels[brain.mask], 0), references)

    def every(self, step: int) -> ScanLooks:
        """Return every so many voxels."""
        return ScanLooks(
            self.positions[::step].copy(),
            self.intensities[::step].copy(),
            self.references[:, ::step].copy(),
        )


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

    def look(self, scan: ScanLooks) -> FloatArray:
        """Return the look of a scan's head in the domain, canonical units, shape (n,)."""
        told = mixed(self.mixture, mixture_terms(scan.references)).astype(np.float32)
        return self.curves.apply(scan.positions, told)

    def distance(self, scan: ScanLooks) -> float:
        """Return the root mean square of scan minus its look in the domain, canonical units.

        It is small, noise and little else, where the domain's scanner has taken the scan.
        """
        return float(np.sqrt(np.mean((scan.intensities - self.look(scan)) ** 2)))


def fit_accent(scans: ScanLooks) -> Accent:
    """Return the accent that best gives a domain's intensities from the reference looks, least squares.

    Parameters
    ----------
    scans
        Brain voxels of all scans of the domain, one after the other.
    """
    positions, intensities, references = scans
    terms = mixture_terms(references)
    mixture = fit_mixture(terms, intensities)
    told = mixed(mixture, terms).astype(np.float32)
    return Accent(mixture, fit_lock(positions, told, intensities, LockSettings()))


def fit_accents(domains: Brains) -> dict[str, Accent]:
    """Return the accents of domains, each fitted on its first scans; one scan is enough.

    Parameters
    ----------
    domains
        Training scans by domain, on a template grid; other grids than that of 2 mm are resampled.

    Raises
    ------
    MrharmonyError
        If a domain has no scan.
    """
    require_brains(domains)
    return {
        name: fit_accent(_some_voxels(brains[:ACCENT_SCANS]))
        for name, brains in track(domains.items(), "fitting accents", len(domains))
    }


def save_accents(directory: Path, accents: Mapping[str, Accent]) -> None:
    """Write `synthesis.safetensors`."""
    arrays: dict[str, NDArray[Any]] = {
        "mixtures": np.stack([accent.mixture for accent in accents.values()]),
        "offsets": np.stack([accent.curves.offsets for accent in accents.values()]).astype(np.float32),
        "network": np.frombuffer(bytes.fromhex(network_hash()), np.uint8),
    }
    save_fitted(directory / ACCENTS, Fitted(tuple(accents), arrays))


def load_accents(directory: Path) -> dict[str, Accent]:
    """Return the accents that `save_accents` wrote.

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
        return {
            name: Accent(mixture, curve)
            for name, mixture, curve in zip(fitted.domains, mixtures, curves, strict=True)
        }
    except (KeyError, ValueError, TypeError) as error:
        raise MrharmonyError(f"{path}: not accents of domains ({error}); fit the method again.") from error


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


def _some_voxels(brains: Sequence[CanonicalBrain]) -> ScanLooks:
    """Return every few voxels of a domain's scans, as many as are needed."""
    step = max(1, sum(int(brain.mask.sum()) for brain in brains) // _VOXELS)
    parts = [ScanLooks.of(brain).every(step) for brain in map(at_working_zoom, brains)]
    return ScanLooks(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.intensities for part in parts]),
        np.concatenate([part.references for part in parts], axis=1),
    )


def _of_scan(scan: PreparedScan) -> ScanLooks:
    return ScanLooks.of(canonical_brain(scan))


scan_looks = PerScan(_of_scan)  # of a prepared scan; the last ones are kept
