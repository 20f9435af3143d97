"""A swap of the lowest spatial frequencies: the scan's phases, the target's amplitudes.

Fourier domain adaptation (Yang and Soatto 2020, CVPR, equation 3) in three dimensions and within the brain.
The brain's mean is subtracted first and swapped by itself, and coefficients are divided by the square root of
its voxel count: otherwise the lowest frequencies of a brain on a black ground are those of its outline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.tensors import LARGEST
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import LARGEST_CANONICAL, Brains, Expected, Fitted, masked, require_brains
from mrharmony.methods.rendering import add_change, require_grid
from mrharmony.preparation.canonical import STATISTICS_ZOOM, CanonicalBrain, canonical_brain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid

BETAS = tuple(waves / 80 for waves in (0, 1, 2, 3, 4, 6, 8))  # cycles per voxel of 2 mm
_SHAPE = Grid.working(STATISTICS_ZOOM).shape
_TINY = 1e-9


class Spectrum(NamedTuple):
    """The lowest frequencies of a brain.

    Parameters
    ----------
    mean
        Mean intensity in canonical units; the coefficients do not hold it.
    low
        Fourier coefficients of the frequencies up to β along each axis, a box of them.
    voxels
        How many voxels the brain has.
    """

    mean: float
    low: NDArray[np.complex128]
    voxels: int


class Amplitudes(NamedTuple):
    """The average of several brains: mean intensity, and amplitudes of the lowest frequencies."""

    mean: float
    amplitudes: NDArray[np.float64]


def brain_spectrum(brain: CanonicalBrain) -> Spectrum:
    """Return a brain's lowest frequencies, up to the largest of `BETAS`; refuses any grid but 2 mm."""
    require_grid(brain)
    intensities = masked(brain)
    mean = float(intensities.mean())
    contrast = np.zeros(_SHAPE)
    contrast[brain.mask] = intensities - mean
    low = fft.rfftn(contrast)[_box(max(BETAS))]
    return Spectrum(mean, low / np.sqrt(intensities.size), intensities.size)


def cut(spectrum: Spectrum, beta: float) -> Spectrum:
    """Return a spectrum of `brain_spectrum` up to a lower frequency."""
    largest = [along[np.abs(along) <= max(BETAS) + _TINY] for along in _frequencies()]
    kept = [np.flatnonzero(np.abs(along) <= beta + _TINY) for along in largest]
    return spectrum._replace(low=spectrum.low[np.ix_(*kept)])


def mean_amplitudes(spectra: Sequence[Spectrum]) -> Amplitudes:
    """Return the average of at least one spectrum."""
    amplitudes = np.mean([np.abs(spectrum.low) for spectrum in spectra], axis=0)
    return Amplitudes(float(np.mean([spectrum.mean for spectrum in spectra])), amplitudes)


def swap_change(spectrum: Spectrum, target: Amplitudes, beta: float) -> FloatArray:
    """Return the change that brings a brain's mean and amplitudes to the target's and keeps its phases.

    Δ = F⁻¹[c · (A' / |c| - 1)] + (m' - m), with the brain's coefficients c and mean m, the target's A', m',
    all up to the frequency `beta`; in canonical units, on the whole 2 mm template grid.
    """
    gained = spectrum.low * (target.amplitudes / np.maximum(np.abs(spectrum.low), _TINY) - 1)
    coefficients = np.zeros((*_SHAPE[:2], _SHAPE[2] // 2 + 1), dtype=np.complex128)
    coefficients[_box(beta)] = gained * np.sqrt(spectrum.voxels)
    change = fft.irfftn(coefficients, _SHAPE) + (target.mean - spectrum.mean)
    return np.asarray(change, dtype=np.float32)


def _frequencies() -> list[NDArray[np.float64]]:
    """Return the frequencies along each axis of the transform, in cycles per voxel."""
    return [fft.fftfreq(_SHAPE[0]), fft.fftfreq(_SHAPE[1]), fft.rfftfreq(_SHAPE[2])]


def _box(beta: float) -> tuple[NDArray[np.intp], ...]:
    kept = [np.flatnonzero(np.abs(along) <= beta + _TINY) for along in _frequencies()]
    return np.ix_(*kept)


_SCANS_TRIED = 2  # scans a domain that β is chosen on
_STRIDE = 8  # every so many voxels make the quantiles
_QUANTILES = np.linspace(0.005, 0.995, 100)


@dataclass(frozen=True)
class SpectrumRule:
    """The scan with the target's mean intensity and mean amplitudes of the lowest frequencies.

    Of `fitted`, `means` and `amplitudes` have a row a domain; `beta` is the highest frequency swapped.
    """

    expected: ClassVar = {
        "means": Expected((), (0.0, LARGEST_CANONICAL)),
        "amplitudes": Expected(bounds=(0.0, LARGEST)),
        "beta": Expected((1,), (0.0, max(BETAS)), rows=False),
    }
    fitted: Fitted

    def __post_init__(self) -> None:
        shape = tuple(len(along.ravel()) for along in _box(self.beta))
        if self.fitted.arrays["amplitudes"].shape[1:] != shape:
            raise MrharmonyError("spectrum.safetensors: amplitudes do not fit β. Fit the method again.")

    @property
    def beta(self) -> float:
        """Highest frequency swapped along each axis, in cycles per voxel of 2 mm."""
        return float(self.fitted.arrays["beta"].item())

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        row = self.fitted.row(target)
        means, amplitudes = (np.asarray(self.fitted.arrays[name]) for name in ("means", "amplitudes"))
        average = Amplitudes(float(means[row]), amplitudes[row])
        return add_change(scan, swap_change(cut(scan.once(_spectrum), self.beta), average, self.beta))


def fit_spectra(domains: Brains) -> Fitted:
    """Return each domain's mean intensity and mean amplitudes, and the β that suits the training scans.

    β is that of `BETAS` with the least sum of two mean squared errors, which need no paired scans: between
    the quantiles of a scan sent to another domain and that domain's mean quantiles, and between a scan and
    itself sent to its own domain, fitted without it. Needs two scans a domain.
    """
    require_brains(domains, least=2)
    spectra = {name: [brain_spectrum(brain) for brain in brains] for name, brains in domains.items()}
    beta = min(BETAS, key=lambda candidate: _training_error(domains, spectra, candidate))
    averages = [mean_amplitudes([cut(spectrum, beta) for spectrum in domain]) for domain in spectra.values()]
    means, amplitudes = (np.array(part) for part in zip(*averages, strict=True))
    arrays = {"means": means, "amplitudes": amplitudes, "beta": np.array(beta)}
    return Fitted(tuple(domains), arrays)


def _training_error(domains: Brains, spectra: Mapping[str, list[Spectrum]], beta: float) -> float:
    low = {name: [cut(spectrum, beta) for spectrum in domain] for name, domain in spectra.items()}
    contrasts = {name: mean_amplitudes(domain) for name, domain in low.items()}
    quantiles = {name: _mean_quantiles(brains) for name, brains in domains.items()}
    contrast_errors, identity_errors = [], []
    for name, brains in domains.items():
        for index, brain in enumerate(brains[:_SCANS_TRIED]):
            own, others = low[name][index], mean_amplitudes(low[name][:index] + low[name][index + 1 :])
            identity_errors.append(np.mean(swap_change(own, others, beta)[brain.mask] ** 2))
            for target in sorted(domains.keys() - {name}):
                sent = masked(brain) + swap_change(own, contrasts[target], beta)[brain.mask]
                contrast_errors.append(np.mean((_quantiles(sent) - quantiles[target]) ** 2))
    return float(np.mean(identity_errors) + (np.mean(contrast_errors) if contrast_errors else 0))


def _mean_quantiles(brains: Sequence[CanonicalBrain]) -> NDArray[np.float64]:
    return np.asarray(np.mean([_quantiles(masked(brain)) for brain in brains], axis=0))


def _quantiles(intensities: FloatArray) -> NDArray[np.float64]:
    return np.asarray(np.quantile(intensities[::_STRIDE], _QUANTILES))


def _spectrum(scan: PreparedScan) -> Spectrum:
    return brain_spectrum(canonical_brain(scan))
