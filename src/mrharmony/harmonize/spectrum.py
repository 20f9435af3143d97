"""A swap of the lowest spatial frequencies: the scan's phases, the target's amplitudes.

Fourier domain adaptation (Yang and Soatto 2020, CVPR, equation 3) in three dimensions and within the brain;
see `low_frequencies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrharmony.harmonize.fitted import Brains, Fitted, masked, require_brains
from mrharmony.harmonize.grid_change import add_change
from mrharmony.harmonize.low_frequencies import (
    BETAS,
    Look,
    Spectrum,
    brain_spectrum,
    cut,
    mean_look,
    swap_change,
)
from mrharmony.harmonize.per_scan import PerScan, canonical_brain
from mrharmony.harmonize.population import CanonicalBrain
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain, FloatArray

_SCANS_TRIED = 2  # scans a domain that β is chosen on
_STRIDE = 8  # every so many voxels make the quantiles
_QUANTILES = np.linspace(0.005, 0.995, 100)


@dataclass(frozen=True)
class SpectrumRule:
    """The scan with the target's mean intensity and mean amplitudes of the lowest frequencies.

    Parameters
    ----------
    fitted
        `means` and `amplitudes`, a row a domain; `beta`, the highest frequency that is swapped.
    """

    fitted: Fitted

    @property
    def beta(self) -> float:
        """Highest frequency swapped along each axis, in cycles per voxel of 2 mm."""
        return float(self.fitted.arrays["beta"])

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """Return canonical intensities in the target's look; the source is not needed.

        Raises
        ------
        MrharmonyError
            If the target domain is unknown.
        """
        del source
        row = self.fitted.row(target)
        means, amplitudes = (np.asarray(self.fitted.arrays[name]) for name in ("means", "amplitudes"))
        wanted = Look(float(means[row]), amplitudes[row])
        return add_change(scan, swap_change(cut(_scan_spectrum(scan), self.beta), wanted, self.beta))


def fit_spectra(domains: Brains) -> Fitted:
    """Return each domain's mean intensity and mean amplitudes, and the β that suits the training scans.

    β is that of `BETAS` with the least sum of two mean squared errors, which need no paired scans: how far
    the quantiles of a scan that is sent to another domain stay from that domain's mean quantiles, and how
    much a scan changes that is sent to its own domain, fitted without it.

    Raises
    ------
    MrharmonyError
        If a domain has fewer than two scans, or a scan lies on another grid.
    """
    require_brains(domains, least=2)
    spectra = {name: [brain_spectrum(brain) for brain in brains] for name, brains in domains.items()}
    beta = min(BETAS, key=lambda candidate: _training_error(domains, spectra, candidate))
    looks = [mean_look([cut(spectrum, beta) for spectrum in domain]) for domain in spectra.values()]
    means, amplitudes = [look.mean for look in looks], [look.amplitudes for look in looks]
    arrays = {"means": np.array(means), "amplitudes": np.array(amplitudes), "beta": np.array(beta)}
    return Fitted(tuple(domains), arrays)


def _training_error(domains: Brains, spectra: Mapping[str, list[Spectrum]], beta: float) -> float:
    low = {name: [cut(spectrum, beta) for spectrum in domain] for name, domain in spectra.items()}
    looks = {name: mean_look(domain) for name, domain in low.items()}
    quantiles = {name: _mean_quantiles(brains) for name, brains in domains.items()}
    look_errors, identity_errors = [], []
    for name, brains in domains.items():
        for index, brain in enumerate(brains[:_SCANS_TRIED]):
            own, others = low[name][index], mean_look(low[name][:index] + low[name][index + 1 :])
            identity_errors.append(np.mean(swap_change(own, others, beta)[brain.mask] ** 2))
            for target in sorted(domains.keys() - {name}):
                sent = masked(brain) + swap_change(own, looks[target], beta)[brain.mask]
                look_errors.append(np.mean((_quantiles(sent) - quantiles[target]) ** 2))
    return float(np.mean(identity_errors) + (np.mean(look_errors) if look_errors else 0))


def _mean_quantiles(brains: Sequence[CanonicalBrain]) -> NDArray[np.float64]:
    return np.asarray(np.mean([_quantiles(masked(brain)) for brain in brains], axis=0))


def _quantiles(intensities: FloatArray) -> NDArray[np.float64]:
    return np.asarray(np.quantile(intensities[::_STRIDE], _QUANTILES))


_scan_spectrum = PerScan(lambda scan: brain_spectrum(canonical_brain(scan)))
