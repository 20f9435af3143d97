"""The spectrum swap: which frequencies change, the mean that is reached, the choice of β."""

import numpy as np
import pytest

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.methods.spectrum import BETAS, SpectrumRule, fit_spectra
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.grid import Grid

SCAN = phantom(0)
CONTRASTS = {"A": [phantom(1), phantom(2)], "B": [phantom(3, 1.8), phantom(4, 1.8)]}


@pytest.fixture(scope="module")
def rule():
    return SpectrumRule(fit_spectra(CONTRASTS))


def test_the_harmonized_scan_has_nearly_the_targets_mean(rule):
    before = SCAN.volume.voxels[SCAN.mask].mean()
    after = rule.intensities(prepared(SCAN), None, B)[SCAN.mask].mean()
    wanted = np.mean([brain.volume.voxels[brain.mask].mean() for brain in CONTRASTS["B"]])
    assert abs(after - wanted) < 0.1 * abs(before - wanted)


def test_a_bias_of_the_scan_moves_toward_the_targets_amplitudes(rule):
    shade = np.exp(0.3 * np.indices(SCAN.mask.shape)[1] / 112).astype(np.float32)
    shaded = changed(SCAN, lambda s: s * shade)
    expected = SCAN.volume.voxels[SCAN.mask]
    found = rule.intensities(prepared(shaded), None, A)[SCAN.mask]
    assert np.std(found - expected) < 0.8 * np.std(shaded.volume.voxels[SCAN.mask] - expected)


def test_only_frequencies_up_to_beta_change(rule):
    whole = CanonicalBrain(SCAN.volume.with_voxels(SCAN.volume.voxels + 0.5), np.ones_like(SCAN.mask), 1.0)
    change = rule.intensities(prepared(whole), None, B) - whole.volume.voxels
    coefficients = np.abs(np.fft.fftn(change))
    far = [np.abs(np.fft.fftfreq(size)) > rule.beta + 1e-6 for size in change.shape]
    high = far[0][:, None, None] | far[1][None, :, None] | far[2][None, None]
    assert coefficients[high].max() < 1e-3 * coefficients[~high].max()


def test_scans_of_one_look_choose_few_frequencies():
    same = {"A": [phantom(seed) for seed in (1, 2)], "B": [phantom(seed) for seed in (3, 4)]}
    few, many = (float(fit_spectra(domains).arrays["beta"]) for domains in (same, CONTRASTS))
    assert few == min(BETAS)
    assert few < many <= max(BETAS)


def test_one_scan_a_domain_and_a_foreign_grid_are_refused():
    with pytest.raises(MrharmonyError, match="A has 1 training scans"):
        fit_spectra({"A": CONTRASTS["A"][:1]})
    grid = Grid.working(4.0)
    coarse = CanonicalBrain(Volume(np.ones(grid.shape), grid.affine), np.ones(grid.shape, bool), 1.0)
    with pytest.raises(MrharmonyError, match="2 mm template grid"):
        fit_spectra({"A": [coarse, coarse]})


def test_an_unknown_target_is_refused_by_name(rule):
    with pytest.raises(MrharmonyError, match="NEW"):
        rule.intensities(prepared(SCAN), A, NEW)
