"""The lowest spatial frequencies of a brain, and what changes where their amplitudes do.

The brain's mean intensity is taken off before the transform, and coefficients are over the square root of the
brain's voxel count. Otherwise the lowest frequencies of a brain on a black ground are those of its outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mrharmony.harmonize.fitted import masked
from mrharmony.harmonize.grid_change import require_grid
from mrharmony.harmonize.per_scan import STATISTICS_ZOOM
from mrharmony.harmonize.population import CanonicalBrain
from mrharmony.prepare import Grid
from mrharmony.volume import FloatArray

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


class Look(NamedTuple):
    """The average of several brains: mean intensity, and amplitudes of a box of frequencies."""

    mean: float
    amplitudes: NDArray[np.float64]


def brain_spectrum(brain: CanonicalBrain) -> Spectrum:
    """Return a brain's lowest frequencies, up to the largest of `BETAS`.

    Raises
    ------
    MrharmonyError
        If the brain is empty, not finite, or not on the 2 mm template grid.
    """
    require_grid(brain.volume.shape, brain.volume.affine)
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


def mean_look(spectra: Sequence[Spectrum]) -> Look:
    """Return the average of at least one spectrum."""
    amplitudes = np.mean([np.abs(spectrum.low) for spectrum in spectra], axis=0)
    return Look(float(np.mean([spectrum.mean for spectrum in spectra])), amplitudes)


def swap_change(spectrum: Spectrum, wanted: Look, beta: float) -> FloatArray:
    """Return what a brain gains where its mean and amplitudes become those wanted and its phases stay.

    Parameters
    ----------
    spectrum, wanted
        Of the frequencies up to `beta`.
    beta
        Highest frequency along each axis, cycles per voxel of 2 mm.

    Returns
    -------
    Canonical units, on the whole 2 mm template grid.
    """
    gained = spectrum.low * (wanted.amplitudes / np.maximum(np.abs(spectrum.low), _TINY) - 1)
    coefficients = np.zeros((*_SHAPE[:2], _SHAPE[2] // 2 + 1), dtype=np.complex128)
    coefficients[_box(beta)] = gained * np.sqrt(spectrum.voxels)
    change = fft.irfftn(coefficients, _SHAPE) + (wanted.mean - spectrum.mean)
    return np.asarray(change, dtype=np.float32)


def _frequencies() -> list[NDArray[np.float64]]:
    """Return the frequencies along each axis of the transform, in cycles per voxel."""
    return [fft.fftfreq(_SHAPE[0]), fft.fftfreq(_SHAPE[1]), fft.rfftfreq(_SHAPE[2])]


def _box(beta: float) -> tuple[NDArray[np.intp], ...]:
    kept = [np.flatnonzero(np.abs(along) <= beta + _TINY) for along in _frequencies()]
    return np.ix_(*kept)
