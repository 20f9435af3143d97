"""Contrast models: how a domain's scans follow from the looks of the same heads on the reference scanners.

Scan and contrasts show one head, so a contrast model is fitted on pairs, needs a scan or two, and does not
depend on who was scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Fitted, load_fitted, require_brains, save_fitted
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.networks.reference.contrasts import fit_mixture, mixed, mixture_terms, reference_contrasts
from mrharmony.networks.reference.network import network_hash, shipped_network
from mrharmony.prepare.canonical import CanonicalBrain, at_working_zoom, canonical_brain
from mrharmony.prepare.prepared import PreparedScan

CONTRAST_MODELS = "synthesis.safetensors"
CONTRAST_SCANS = 12  # of a domain that are looked at: 1.5 s each
_VOXELS = 60_000  # of a domain, enough for 2,000 unknowns


class ScanContrasts(NamedTuple):
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
    def of(cls, brain: CanonicalBrain) -> ScanContrasts:
        """Let the shipped network look at a brain on its grid."""
        references = reference_contrasts(shipped_network(), brain.volume.voxels, brain.mask)
        return cls(brain.positions(), np.maximum(brain.volume.voxels[brain.mask], 0), references)

    def every(self, step: int) -> ScanContrasts:
        """Return every so many voxels."""
        return ScanContrasts(
            self.positions[::step].copy(),
            self.intensities[::step].copy(),
            self.references[:, ::step].copy(),
        )


@dataclass(frozen=True)
class ContrastModel:
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

    def contrast(self, scan: ScanContrasts) -> FloatArray:
        """Return the look of a scan's head in the domain, canonical units, shape (n,)."""
        told = mixed(self.mixture, mixture_terms(scan.references)).astype(np.float32)
        return self.curves.apply(scan.positions, told)

    def distance(self, scan: ScanContrasts) -> float:
        """Return the root mean square of scan minus its look in the domain, canonical units.

        It is small, noise and little else, where the domain's scanner has taken the scan.
        """
        return float(np.sqrt(np.mean((scan.intensities - self.contrast(scan)) ** 2)))


def fit_contrast_model(scans: ScanContrasts) -> ContrastModel:
    """Return the least-squares model of a domain's intensities, given the reference contrasts.

    Parameters
    ----------
    scans
        Brain voxels of all scans of the domain, one after the other.
    """
    positions, intensities, references = scans
    terms = mixture_terms(references)
    mixture = fit_mixture(terms, intensities)
    told = mixed(mixture, terms).astype(np.float32)
    return ContrastModel(mixture, fit_lock(positions, told, intensities, LockSettings()))


def fit_contrast_models(domains: Brains) -> dict[str, ContrastModel]:
    """Return the contrast models of domains, each fitted on its first scans; one scan is enough.

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
        name: fit_contrast_model(_some_voxels(brains[:CONTRAST_SCANS]))
        for name, brains in track(domains.items(), "fitting contrast models", len(domains))
    }


def save_contrast_models(directory: Path, contrast_models: Mapping[str, ContrastModel]) -> None:
    """Write `synthesis.safetensors`."""
    arrays: dict[str, NDArray[Any]] = {
        "mixtures": np.stack([contrast_model.mixture for contrast_model in contrast_models.values()]),
        "offsets": np.stack(
            [contrast_model.curves.offsets for contrast_model in contrast_models.values()]
        ).astype(np.float32),
        "network": np.frombuffer(bytes.fromhex(network_hash()), np.uint8),
    }
    save_fitted(directory / CONTRAST_MODELS, Fitted(tuple(contrast_models), arrays))


def load_contrast_models(directory: Path) -> dict[str, ContrastModel]:
    """Return the contrast models that `save_contrast_models` wrote.

    Raises
    ------
    MrharmonyError
        If there are none, they are damaged, or belong to another network than the shipped one.
    """
    path = directory / CONTRAST_MODELS
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
            name: ContrastModel(mixture, curve)
            for name, mixture, curve in zip(fitted.domains, mixtures, curves, strict=True)
        }
    except (KeyError, ValueError, TypeError) as error:
        raise MrharmonyError(
            f"{path}: not contrast models of domains ({error}); fit the method again."
        ) from error


def contrast_model_of(contrast_models: Mapping[str, ContrastModel], target: Domain) -> ContrastModel:
    """Return a target domain's contrast model.

    Raises
    ------
    MrharmonyError
        If there is none of that name.
    """
    if target.name not in contrast_models:
        raise MrharmonyError(
            f"Unknown target domain {target.name}: it has no contrast model here. Choose one of: "
            f"{', '.join(sorted(contrast_models))}; or --method diffusion, if the model knows it."
        )
    return contrast_models[target.name]


def _some_voxels(brains: Sequence[CanonicalBrain]) -> ScanContrasts:
    """Return every few voxels of a domain's scans, as many as are needed."""
    step = max(1, sum(int(brain.mask.sum()) for brain in brains) // _VOXELS)
    parts = [ScanContrasts.of(brain).every(step) for brain in map(at_working_zoom, brains)]
    return ScanContrasts(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.intensities for part in parts]),
        np.concatenate([part.references for part in parts], axis=1),
    )


def scan_contrasts(scan: PreparedScan) -> ScanContrasts:
    """Return the reference contrasts of a prepared scan, computed once a scan."""
    return scan.once(_of_scan)


def _of_scan(scan: PreparedScan) -> ScanContrasts:
    return ScanContrasts.of(canonical_brain(scan))
