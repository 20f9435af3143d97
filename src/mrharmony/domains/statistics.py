"""The average intensities of a domain's brains: quantiles, of the whole brain and by region.

Quantile functions averaged over scans are the landmarks of Nyúl, Udupa and Zhang (2000), "New variants of a
method of MRI scale standardization"; here they are also kept for overlapping regions of template space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import TensorFile, open_tensors, save_tensors
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import masked
from mrharmony.lock.bilateral_grid import FIELD_OF_VIEW, BilateralGrid, corner_strides, locate
from mrharmony.preparation.canonical import CanonicalBrain

LANDMARKS = np.linspace(0.01, 0.99, 33)  # probabilities
LEAST_GAP = 1e-4  # canonical units between landmarks, so that a curve is defined where intensities tie
REGIONS = (4, 5, 4)  # along right, anterior, superior
_BIN_WIDTH = 0.005  # canonical units; far below the noise of a scan
_BINS = 600  # up to 3 canonical units, brighter voxels count as 3
_BRIGHTEST = _BIN_WIDTH * _BINS
_BORROWED_MM3 = 2_000.0  # of the whole brain's composition, added to every region so that none is empty


@dataclass(frozen=True)
class DomainStatistics:
    """The average intensities of one domain's brains, in canonical units.

    Parameters
    ----------
    scale
        Native intensity that 1 canonical unit typically is: the median over the scans.
    quantiles
        Intensities at the probabilities `LANDMARKS` in the whole brain, shape (33,).
    regional
        The same in each region of template space, shape (4, 5, 4, 33).
    scans
        How many scans were averaged.
    """

    scale: float
    quantiles: NDArray[np.float64]
    regional: NDArray[np.float64]
    scans: int


def region_lattice() -> BilateralGrid:
    """Return the identity on the regions: a node at each centre, windows that reach the next centres.

    Centres lie in the middle of the cells of a regular division of the field of view.
    """
    lower, upper = np.array(FIELD_OF_VIEW)
    margin = (upper - lower) / np.array(REGIONS) / 2
    centres = np.stack([lower + margin, upper - margin])
    return BilateralGrid(centres, np.array([0.0, 1.0]), np.zeros((*REGIONS, 2)))


def brain_statistics(brain: CanonicalBrain) -> DomainStatistics:
    """Return the statistics of a single scan; raises as `masked`."""
    intensities = masked(brain)
    histograms = _regional_histograms(brain.positions(), intensities) * brain.volume.voxel_mm3
    whole = histograms.sum(axis=0)
    shrunk = histograms + whole * (_BORROWED_MM3 / whole.sum())
    regional = np.array([_quantiles(histogram) for histogram in shrunk])
    return DomainStatistics(brain.scale, _quantiles(whole), regional.reshape(*REGIONS, -1), 1)


def fit_statistics(domains: Mapping[str, Iterable[CanonicalBrain]]) -> dict[str, DomainStatistics]:
    """Return each domain's statistics, averaged over one or more scans; they are taken one at a time."""
    return {
        name: _average(name, [brain_statistics(brain) for brain in brains])
        for name, brains in domains.items()
    }


def target_statistics(statistics: Mapping[str, DomainStatistics], target: Domain) -> DomainStatistics:
    """Return a target domain's statistics; raises `MrharmonyError` where there are none."""
    if target.name not in statistics:
        known = ", ".join(sorted(statistics))
        raise MrharmonyError(f"Unknown target domain {target.name}; choose one of: {known}.")
    return statistics[target.name]


def save_statistics(path: Path, statistics: Mapping[str, DomainStatistics]) -> None:
    """Write the statistics of several domains into one safetensors file."""
    tensors: dict[str, NDArray[np.float64]] = {}
    records = {}
    for name, domain in sorted(statistics.items()):
        tensors |= {f"{name}/quantiles": domain.quantiles, f"{name}/regional": domain.regional}
        records[name] = {"scale": domain.scale, "scans": domain.scans}
    save_tensors(path, tensors, {"domains": records})


def load_statistics(path: Path) -> dict[str, DomainStatistics]:
    """Read what `save_statistics` wrote; raises `MrharmonyError` where it is missing or damaged."""
    with open_tensors(path, "a file of domain statistics", "restore it, or train the model again") as file:
        records = file.record("domains", dict[str, _Record])
        return {
            name: DomainStatistics(
                record.scale,
                _increasing(file, f"{name}/quantiles", (LANDMARKS.size,)),
                _increasing(file, f"{name}/regional", (*REGIONS, LANDMARKS.size)),
                record.scans,
            )
            for name, record in records.items()
        }


def owner_of(
    method: str, statistics: Mapping[str, DomainStatistics], domains: Iterable[str]
) -> dict[str, str]:
    """Return what a method's file belongs to: its method, and the scans that its domains were fitted on.

    Raises `ValueError` where a domain has no statistics.
    """
    digest = hashlib.sha256()
    for name in sorted(domains):
        if name not in statistics:
            raise ValueError(f"there are no statistics of {name}")
        one = statistics[name]
        digest.update(repr((name, float(one.scale), one.scans)).encode())
        digest.update(one.quantiles.tobytes() + one.regional.tobytes())
    return {"method": method, "model": digest.hexdigest()}


class _Record(BaseModel):
    """What the file records of a domain beside its quantiles."""

    model_config = ConfigDict(extra="forbid")

    scale: Annotated[float, Field(gt=1e-12, lt=1e12)]
    scans: Annotated[int, Field(ge=0)]


def _increasing(file: TensorFile, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return quantiles of a file; `ValueError` where they fall, or are no canonical units of a brain."""
    quantiles = np.asarray(file.tensor(name, shape, (0.0, _BRIGHTEST)), np.float64)
    if (np.diff(quantiles) < -1e-6).any():
        raise ValueError(f"{name} does not rise")
    return quantiles


def _regional_histograms(positions: FloatArray, intensities: FloatArray) -> NDArray[np.float64]:
    """Return voxel counts by region and intensity bin, each voxel shared by the regions around it."""
    lattice = region_lattice()
    cells, fractions = locate(lattice, positions, intensities)
    strides = corner_strides(lattice.offsets.shape)
    bins = np.clip(intensities / _BIN_WIDTH, 0, _BINS - 1).astype(np.intp)
    counts = np.zeros(int(np.prod(REGIONS)) * _BINS)
    for corner in np.ndindex(2, 2, 2):
        share = np.prod([f if up else 1 - f for up, f in zip(corner, fractions[:3], strict=True)], axis=0)
        regions = (cells + np.dot(corner, strides[:3])) // lattice.knots.size
        counts += np.bincount(regions * _BINS + bins, share, counts.size)
    return counts.reshape(-1, _BINS)


def _quantiles(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intensities at `LANDMARKS`, linear within a bin."""
    reached = np.concatenate([[0.0], np.cumsum(histogram)])
    edges = np.arange(_BINS + 1) * _BIN_WIDTH
    increasing = reached / reached[-1] + 1e-9 * np.arange(_BINS + 1)  # empty bins would leave it undefined
    return np.asarray(np.interp(LANDMARKS, increasing, edges))


def _average(name: str, scans: list[DomainStatistics]) -> DomainStatistics:
    if not scans:
        raise MrharmonyError(f"Domain {name} has no scans to take statistics of.")
    return DomainStatistics(
        scale=float(np.median([scan.scale for scan in scans])),
        quantiles=np.mean([scan.quantiles for scan in scans], axis=0),
        regional=np.mean([scan.regional for scan in scans], axis=0),
        scans=len(scans),
    )
