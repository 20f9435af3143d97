"""Contrast models: how a domain's scans follow from the same heads' contrasts on the reference scanners.

A noise-free image without receive field is linear in the tissues' signals, so the contrast of any scanner is
nearly a mixture of reference contrasts. What is left, the domain's own tone and shading, is a bilateral grid:

    s(x) ≈ T(x, m(x)),    m = max(Σ_r w_r c_r + w_0, 0)

with the scan's intensity s, its head's contrast c_r on reference scanner r, ridge weights w and grid T. Scan
and contrasts show one head, so the fit is paired: a scan or two are enough, whoever was scanned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.tensors import open_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Fitted, Names, require_brains, save_fitted
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.lock.bounds import LockSettings
from mrharmony.lock.gain_prior import fit_lock
from mrharmony.networks.diffusion.contrasts import (
    fit_mixture,
    mixed,
    mixture_terms,
    reference_contrasts,
    sampled_contrasts,
)
from mrharmony.networks.diffusion.network import network_hash, shipped_network
from mrharmony.preparation.canonical import CanonicalBrain, at_working_zoom, canonical_brain
from mrharmony.preparation.prepared import PreparedScan

CONTRAST_MODELS = "diffusion.safetensors"
CONTRAST_SCANS = 12  # at most of a domain; each takes 1.5 s
_DARKEST = 1e-3  # canonical units of the brain, which the network distinguishes from air, 0
_LARGEST = 10.0  # weight of a reference, or change of tone in canonical units, that a model may hold
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
        Contrasts on the reference scanners, canonical units, shape (references, n).
    """

    positions: FloatArray
    intensities: FloatArray
    references: FloatArray

    @classmethod
    def of(cls, brain: CanonicalBrain) -> ScanContrasts:
        """Run the shipped network on a brain that lies on its grid."""
        references = reference_contrasts(shipped_network(), brain.volume.voxels, brain.mask)
        return cls(brain.positions(), np.maximum(brain.volume.voxels[brain.mask], 0), references)

    def every(self, step: int) -> ScanContrasts:
        """Return every `step`-th voxel."""
        positions, intensities, references = self
        return ScanContrasts(
            positions[::step].copy(), intensities[::step].copy(), references[:, ::step].copy()
        )


@dataclass(frozen=True)
class ContrastModel:
    """How a domain's scans follow from the reference contrasts of the same heads.

    Parameters
    ----------
    mixture
        Weight of each reference contrast and a constant, shape (references + 1,).
    curves
        T, from the mixture to the domain's intensities.
    """

    mixture: NDArray[np.float64]
    curves: BilateralGrid

    def contrast(self, scan: ScanContrasts) -> FloatArray:
        """Return the contrast of a scan's head in the domain, canonical units, shape (n,)."""
        mixture = mixed(self.mixture, mixture_terms(scan.references)).astype(np.float32)
        return self.curves.apply(scan.positions, mixture)

    def distance(self, scan: ScanContrasts) -> float:
        """Return the root mean square of scan minus its contrast in the domain, canonical units.

        It is little more than the noise where the domain's scanner has taken the scan.
        """
        return float(np.sqrt(np.mean((scan.intensities - self.contrast(scan)) ** 2)))


def fit_contrast_model(scans: ScanContrasts, mixture: NDArray[np.float64] | None = None) -> ContrastModel:
    """Return the least-squares model of a domain's intensities, given the reference contrasts.

    `scans` are the brain voxels of all scans of the domain, one after the other; `mixture` are the
    weights of the mixture where they need no fit.
    """
    positions, intensities, references = scans
    terms = mixture_terms(references)
    weights = fit_mixture(terms, intensities) if mixture is None else mixture
    expected = mixed(weights, terms).astype(np.float32)
    return ContrastModel(weights, fit_lock(positions, expected, intensities, LockSettings()))


def domain_voxels(domains: Brains) -> dict[str, ScanContrasts]:
    """Return voxels of each domain's first scans with their reference contrasts.

    Scans lie on a template grid; other grids than that of 2 mm are resampled.
    """
    require_brains(domains)
    return {
        name: _some_voxels(brains[:CONTRAST_SCANS])
        for name, brains in track(domains.items(), "fitting contrast models", len(domains))
    }


def fit_contrast_models(voxels: Mapping[str, ScanContrasts]) -> dict[str, ContrastModel]:
    """Return the contrast models of domains, given their `domain_voxels`; one scan of each is enough."""
    return {name: fit_contrast_model(scans) for name, scans in voxels.items()}


def save_contrast_models(
    path: Path, contrast_models: Mapping[str, ContrastModel], owner: Mapping[str, str] | None = None
) -> None:
    """Write contrast models into a safetensors file; `owner` says what it belongs to."""
    models = contrast_models.values()
    arrays: dict[str, NDArray[Any]] = {
        "mixtures": np.stack([model.mixture for model in models]),
        "offsets": np.stack([model.curves.offsets for model in models]).astype(np.float32),
        "network": np.frombuffer(bytes.fromhex(network_hash()), np.uint8),
    }
    save_fitted(path, Fitted(tuple(contrast_models), arrays), owner)


def load_contrast_models(
    path: Path, owner_of: Callable[[Collection[str]], Mapping[str, str]] | None = None
) -> dict[str, ContrastModel]:
    """Return the contrast models that `save_contrast_models` wrote.

    Raises `MrharmonyError` where they are missing, damaged, belong to another network than ours, or say that
    they belong to something else than `owner_of` the names of their domains.
    """
    lattice = LockSettings().lattice()
    current, references = network_hash(), shipped_network().references
    with open_tensors(path, "contrast models of domains", "fit the method again") as file:
        if bytes(file.tensor("network", (32,), (0, 255), "u")).hex() != current:
            raise MrharmonyError(
                f"{path}: fitted for another version's network. Fit it again: mrharmony train BIDS_DIR "
                "--method diffusion --output DIR, or adapt from a current model."
            )
        names = file.record("domains", Names)
        file.require_owner_if_said(owner_of, names)
        offsets = file.tensor("offsets", (len(names), *lattice.offsets.shape), (-_LARGEST, _LARGEST))
        mixtures = file.tensor("mixtures", (len(names), references + 1), (-_LARGEST, _LARGEST))
        grids = [BilateralGrid(lattice.field_of_view, lattice.knots, part) for part in offsets]
        if any(grid.slope_range[0] < 0 for grid in grids):
            raise ValueError("a tone curve falls")
        models = zip(names, mixtures, grids, strict=True)
        return {name: ContrastModel(mixture, grid) for name, mixture, grid in models}


def contrast_model_of(contrast_models: Mapping[str, ContrastModel], target: Domain) -> ContrastModel:
    """Return a domain's contrast model; raises `MrharmonyError` where there is none."""
    if target.name not in contrast_models:
        raise MrharmonyError(
            f"Unknown target domain {target.name}: it has no contrast model here. Choose one of: "
            f"{', '.join(sorted(contrast_models))}."
        )
    return contrast_models[target.name]


def _some_voxels(brains: Sequence[CanonicalBrain]) -> ScanContrasts:
    """Return about `_VOXELS` voxels of a domain's scans, evenly spaced."""
    step = max(1, sum(int(brain.mask.sum()) for brain in brains) // _VOXELS)
    parts = [ScanContrasts.of(at_working_zoom(brain)).every(step) for brain in brains]
    positions, intensities, references = zip(*parts, strict=True)
    return ScanContrasts(
        np.concatenate(positions), np.concatenate(intensities), np.concatenate(references, axis=1)
    )


def scan_contrasts(scan: PreparedScan) -> ScanContrasts:
    """Return the reference contrasts of a prepared scan, computed once a scan."""
    return scan.once(_of_scan)


def own_contrast(scan: PreparedScan) -> FloatArray:
    """Return a prepared scan as its own reference contrasts explain it: without noise, shape (n,)."""
    contrasts = scan_contrasts(scan)
    return fit_contrast_model(contrasts).contrast(contrasts)


def contrasts_after(
    scan: PreparedScan, transform: BilateralGrid, seeds: Sequence[int] | None = None
) -> list[ScanContrasts]:
    """Return a prepared scan with what the network reads from it after a transform; intensities stay.

    Without seeds these are the expected contrasts, else those of heads that it then allows, one a seed.
    """
    voxels, mask = _voxels_after(scan, transform), canonical_brain(scan).mask
    if seeds is None:
        read = [reference_contrasts(shipped_network(), voxels, mask)]
    else:
        read = list(sampled_contrasts(shipped_network(), voxels, mask, seeds))
    return [scan_contrasts(scan)._replace(references=references) for references in read]


def sampled_scan_contrasts(scan: PreparedScan, seeds: Sequence[int]) -> list[ScanContrasts]:
    """Return a prepared scan with the contrasts of heads that it allows, one a seed."""
    brain = canonical_brain(scan)
    samples = sampled_contrasts(shipped_network(), brain.volume.voxels, brain.mask, seeds)
    return [scan_contrasts(scan)._replace(references=references) for references in samples]


def _voxels_after(scan: PreparedScan, transform: BilateralGrid) -> FloatArray:
    """Return a scan's brain on the network's grid after a transform, canonical units, shape (i, j, k)."""
    brain = canonical_brain(scan)
    voxels = np.zeros(brain.mask.shape, np.float32)
    positions, intensities, _ = scan_contrasts(scan)
    voxels[brain.mask] = np.maximum(transform.apply(positions, intensities), _DARKEST)
    return voxels


def _of_scan(scan: PreparedScan) -> ScanContrasts:
    return ScanContrasts.of(canonical_brain(scan))
