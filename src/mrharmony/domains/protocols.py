"""The contrast of a protocol that the model has no scans of: its signal equations, and what others teach.

A noise-free contrast is a mixture of the reference contrasts whose weights follow from the signals of the
tissues alone. Scans differ from that in what their scanners have in common: blur, and what the network gets
wrong. So the curves from the mixture to the scans are fitted for each simulated scanner of the model, once
its mixture is fixed by its protocol, and those of a new protocol are their average, near ones most of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import (
    ContrastModel,
    ScanContrasts,
    fit_contrast_model,
    load_contrast_models,
    save_contrast_models,
)
from mrharmony.domains.statistics import DomainStatistics, load_statistics
from mrharmony.lock.bilateral_grid import BilateralGrid
from mrharmony.networks.card import STATISTICS
from mrharmony.networks.diffusion.contrasts import fit_mixture
from mrharmony.networks.diffusion.network import reference_names
from mrharmony.simulate.anatomy import WM
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import Acquisition, contrast
from mrharmony.simulate.signal import Mp2rage
from mrharmony.weights import shipped_model

_Array = NDArray[np.float64]

TISSUE_SHARES = (0.15, 0.42, 0.36, 0.07)  # of a brain: CSF, cortex, white matter, deep grey matter
MYELINATION = (0.25, 0.5, 0.75)
_RIDGE = 1e-6  # ridge penalty of a protocol's mixture, squared canonical units
LARGEST_MISFIT = 0.002  # canonical units; of 200 random T1w protocols the worst has 0.0013
_REACH = 0.03  # canonical units: protocols whose contrasts differ by so much teach each other little
PROTOCOLS = "protocols.safetensors"
NOMINAL_SCALE = 1000.0  # native intensity of 1 canonical unit, where no scan tells


def tissue_contrasts(acquisition: Acquisition) -> _Array:
    """Return the contrast of each tissue at each myelination, canonical units, shape (12,).

    White matter of mean myelination is 1: the canonical scale, the 90th percentile of a brain, is 0.2 to
    0.5 % from a fixed multiple of it in 20 protocols of two virtual heads.
    """
    tissues = np.repeat(np.eye(4, dtype=np.float32), len(MYELINATION), axis=1)
    levels = np.tile(np.array(MYELINATION, np.float32), 4)
    signals = contrast(tissues, levels, acquisition).astype(np.float64)
    return np.asarray(signals / signals[WM * len(MYELINATION) + MYELINATION.index(0.5)])


def protocol_mixture(acquisition: Acquisition) -> _Array:
    """Return the weight of each reference contrast and of a constant, shape (references + 1,).

    Raises `MrharmonyError` where the contrast is no mixture of the references'.
    """
    if isinstance(acquisition.sequence, Mp2rage):
        raise MrharmonyError("MP2RAGE is a ratio of two images, no mixture. Choose a domain that has scans.")
    terms, shares = _reference_terms(), _shares()
    wanted = tissue_contrasts(acquisition)
    weights = fit_mixture(terms, wanted, shares, _RIDGE)
    misfit = float(np.sqrt(np.sum(shares * (weights @ terms - wanted) ** 2)))
    if misfit > LARGEST_MISFIT:
        raise MrharmonyError(
            f"This protocol's contrast is no mixture of those that the model has: it is {misfit:.3f} off, in "
            f"units of white matter, where {LARGEST_MISFIT:g} is allowed. Choose a domain that has scans."
        )
    return weights


def fit_protocol_models(voxels: Mapping[str, ScanContrasts]) -> dict[str, ContrastModel]:
    """Return models of simulated scanners, given their `domain_voxels`, with the mixtures of their protocols.

    Scanners whose contrast is no mixture of the references' are left out.
    """
    scanners, models = load_scanners(), {}
    for name, scans in voxels.items():
        with suppress(MrharmonyError):
            models[name] = fit_contrast_model(scans, protocol_mixture(scanners[name]))
    return models


def save_protocol_models(directory: Path, models: Mapping[str, ContrastModel]) -> None:
    """Write `protocols.safetensors`."""
    save_contrast_models(directory / PROTOCOLS, models)


@cache
def known_protocols() -> dict[str, ContrastModel]:
    """Return the shipped models of `fit_protocol_models`; read once."""
    return load_contrast_models(shipped_model() / PROTOCOLS)


def protocol_model(
    acquisition: Acquisition, known: Mapping[str, ContrastModel] | None = None
) -> ContrastModel:
    """Return the contrast model of a protocol.

    Parameters
    ----------
    acquisition
        The protocol.
    known
        Of `fit_protocol_models`; the shipped ones by default.

    Raises
    ------
    MrharmonyError
        If the contrast is no mixture of the references'.
    """
    mixture, models = protocol_mixture(acquisition), known_protocols() if known is None else known
    shares = neighbours(acquisition, models)
    lattice = next(iter(models.values())).curves
    offsets = np.sum([share * models[name].curves.offsets for name, share in shares.items()], axis=0)
    return ContrastModel(mixture, BilateralGrid(lattice.field_of_view, lattice.knots, offsets))


@cache
def _known_statistics() -> dict[str, DomainStatistics]:
    """Return the shipped statistics; read once."""
    return load_statistics(shipped_model() / STATISTICS)


def protocol_statistics(acquisition: Acquisition) -> DomainStatistics:
    """Return the statistics to expect of a protocol's scans, from those of the shipped scanners."""
    statistics, shares = _known_statistics(), neighbours(acquisition, known_protocols())
    quantiles, regional = (
        np.sum([share * getattr(statistics[name], part) for name, share in shares.items()], axis=0)
        for part in ("quantiles", "regional")
    )
    return DomainStatistics(NOMINAL_SCALE, quantiles, regional, 0)


def neighbours(acquisition: Acquisition, known: Mapping[str, ContrastModel]) -> dict[str, float]:
    """Return how much each known scanner teaches of a protocol, sum 1.

    It is a Gaussian of the distance d of their contrasts, the root mean square over a brain's tissues.
    """
    wanted, scanners = tissue_contrasts(acquisition), load_scanners()
    squares = {
        name: float(np.sum(_shares() * (tissue_contrasts(scanners[name]) - wanted) ** 2)) for name in known
    }
    least = min(squares.values())
    weights = {name: float(np.exp((least - square) / (2 * _REACH**2))) for name, square in squares.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _shares() -> _Array:
    return np.repeat(TISSUE_SHARES, len(MYELINATION)) / len(MYELINATION)


@cache
def _reference_terms() -> _Array:
    """Return the references' contrasts of the tissues, and zeros for the constant, (references + 1, 12)."""
    scanners = load_scanners()
    contrasts = np.stack([tissue_contrasts(scanners[name]) for name in reference_names()])
    return np.vstack([contrasts, np.zeros_like(contrasts[:1])])
