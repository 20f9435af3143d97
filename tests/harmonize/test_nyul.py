"""Nyúl's landmarks: as the package does it, but in the target's canonical units."""

import numpy as np
import pytest
from intensity_normalization import NyulNormalizer
from intensity_normalization.adapters.images import NumpyImageAdapter

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.normalizers import NyulRule, fit_scales

SCAN, CONTRAST_B = phantom(0), [phantom(3, 1.8), phantom(4, 1.8)]


@pytest.fixture(scope="module")
def rule():
    return NyulRule(fit_scales({"A": [phantom(1)], "B": CONTRAST_B}))


def test_the_curve_is_that_of_the_package(rule):
    values = [brain.volume.voxels[brain.mask] for brain in CONTRAST_B]
    low, high = np.mean([np.percentile(v, [1, 99]) for v in values], axis=0)
    package = NyulNormalizer(output_min_value=low, output_max_value=high)
    ones = [NumpyImageAdapter(np.ones(v.shape)) for v in values]
    package.fit_population([NumpyImageAdapter(v) for v in values], ones)
    image = NumpyImageAdapter(SCAN.volume.voxels[SCAN.mask])
    expected = package.transform(image, NumpyImageAdapter(np.ones(image.shape))).get_data()
    found = rule.intensities(prepared(SCAN), None, B)[SCAN.mask]
    assert np.allclose(found, expected, rtol=0, atol=5e-3)  # landmarks are kept a little apart here


def test_the_harmonized_scan_has_the_targets_landmarks(rule):
    voxels = rule.intensities(prepared(SCAN), A, B)[SCAN.mask]
    found = np.percentile(voxels, NyulNormalizer().percentiles)
    assert found == pytest.approx(rule.fitted.arrays["scales"][1], abs=5e-3)


def test_the_order_of_grey_values_is_kept(rule):
    voxels = rule.intensities(prepared(SCAN), None, B)
    order = np.argsort(SCAN.volume.voxels[SCAN.mask])
    assert (np.diff(voxels[SCAN.mask][order]) >= 0).all()
    assert not voxels[~SCAN.mask].any()


def test_a_scan_without_contrast_gives_finite_output_but_cannot_be_fitted(rule):
    flat = changed(SCAN, lambda s: 0 * s + 0.5)
    assert np.isfinite(rule.intensities(prepared(flat), None, B)).all()
    with pytest.raises(MrharmonyError, match="no contrast"):
        fit_scales({"A": [flat]})


def test_an_unknown_target_is_refused_by_name(rule):
    with pytest.raises(MrharmonyError, match="NEW"):
        rule.intensities(prepared(SCAN), A, NEW)
