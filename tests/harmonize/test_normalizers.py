"""Normalization by a line: the package's levels, invariances, and that the target's level is reached."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intensity_normalization import FCMNormalizer, KDENormalizer, LSQNormalizer, WhiteStripeNormalizer
from intensity_normalization.adapters.images import NumpyImageAdapter
from scipy.stats import gaussian_kde

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.fitted import Fitted
from mrharmony.methods.normalizers import LineRule, binned_density, fit_levels, least_squares, scan_levels

NAMES = ("zscore", "whitestripe", "fcm", "kde", "lsq")
SCAN, CONTRAST_A, CONTRAST_B = phantom(0), [phantom(1), phantom(2)], [phantom(3, 1.8), phantom(4, 1.8)]


@pytest.fixture(scope="module", params=NAMES)
def rule(request):
    return LineRule(request.param, fit_levels(request.param, {"A": CONTRAST_A, "B": CONTRAST_B}))


def harmonized(rule, brain, target=B):
    return brain._replace(volume=brain.volume.with_voxels(rule.intensities(prepared(brain), None, target)))


def test_the_harmonized_scan_has_the_targets_level(rule):
    wanted = rule.fitted.arrays["levels"][rule.fitted.row(B)]
    if rule.name == "lsq":
        before, after = scan_levels("lsq", SCAN), scan_levels("lsq", harmonized(rule, SCAN))
        residual = after - wanted
        assert abs(residual @ before) < 5e-3 * np.linalg.norm(before)  # least squares: no factor comes closer
    else:
        assert scan_levels(rule.name, harmonized(rule, SCAN)) == pytest.approx(wanted, rel=5e-3, abs=2e-3)


def test_gain_of_the_input_does_not_matter(rule):
    brighter = changed(SCAN, lambda s: 3 * s)
    expected, found = (harmonized(rule, brain).volume.voxels for brain in (SCAN, brighter))
    assert np.allclose(found, expected, rtol=0, atol=5e-3)


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(0.05, 20), offset=st.floats(-1, 5))
def test_z_score_ignores_gain_and_offset_of_the_input(gain, offset):
    rule = LineRule("zscore", Fitted(("B",), {"levels": np.array([[0.6, 0.2]])}))
    moved = changed(SCAN, lambda s: gain * s + offset)
    expected, found = (harmonized(rule, brain).volume.voxels for brain in (SCAN, moved))
    assert np.allclose(found, expected, rtol=0, atol=2e-5 * (1 + (1 + abs(offset)) / gain))


def test_intensities_outside_the_brain_are_black_and_the_order_of_grey_values_is_kept(rule):
    voxels = rule.intensities(prepared(SCAN), None, B)
    assert not voxels[~SCAN.mask].any()
    order = np.argsort(SCAN.volume.voxels[SCAN.mask])
    assert (np.diff(voxels[SCAN.mask][order]) >= 0).all()


def test_the_source_is_not_needed(rule):
    known, unknown = (rule.intensities(prepared(SCAN), source, B) for source in (A, NEW))
    assert np.array_equal(known, unknown)


def test_levels_are_the_same_every_time_and_leave_numpys_random_state_alone(rule):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = scan_levels(rule.name, SCAN)
    assert np.random.rand() == expected  # noqa: NPY002
    assert np.array_equal(first, scan_levels(rule.name, SCAN))


def test_of_threads_one_at_a_time_uses_numpys_random_state(monkeypatch):
    met, meet, fit = [], Barrier(2), FCMNormalizer.fit

    def fit_together(*args):
        with suppress(BrokenBarrierError):
            met.append(meet.wait(0.3))
        return fit(*args)

    alone = scan_levels("fcm", SCAN)
    monkeypatch.setattr(FCMNormalizer, "fit", fit_together)
    with ThreadPoolExecutor(2) as threads:
        at_once = list(threads.map(scan_levels, ["fcm"] * 2, [SCAN] * 2))
    assert not met
    np.testing.assert_array_equal(at_once, [alone] * 2)


def test_fcm_levels_are_those_of_the_package_on_all_voxels():
    image = NumpyImageAdapter(SCAN.volume.voxels[SCAN.mask])
    ones = NumpyImageAdapter(np.ones(image.shape))
    normalized = FCMNormalizer().fit(image, ones).transform(image).get_data()
    ratio = image.get_data().max() / normalized.max()
    assert scan_levels("fcm", SCAN) == pytest.approx([0.0, ratio], rel=5e-3)


@pytest.mark.parametrize(
    ("name", "package"), [("kde", KDENormalizer), ("whitestripe", WhiteStripeNormalizer)]
)
@pytest.mark.parametrize("brain", [SCAN, *CONTRAST_B])
def test_modes_from_a_histogram_are_those_of_the_package_on_all_voxels(name, package, brain):
    image = NumpyImageAdapter(brain.volume.voxels[brain.mask])
    fitted = package().fit(image, NumpyImageAdapter(np.ones(image.shape)))
    intercept, unit = scan_levels(name, brain)
    expected = fitted.transform(image).get_data()
    assert (image.get_data() - intercept) / unit == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_binned_density_is_that_of_all_intensities():
    intensities = SCAN.volume.voxels[SCAN.mask]
    grid, density = binned_density(intensities, 0.05)
    exact = gaussian_kde(intensities.astype(np.float64), 0.05)(grid)
    assert density == pytest.approx(exact, abs=1e-3 * exact.max())


def test_the_least_squares_factor_is_that_of_the_package(tmp_path):
    before, standard = np.array([0.3, 0.6, 0.9]), np.array([0.1, 0.6, 1.1])
    np.save(tmp_path / "standard.npy", standard.reshape(-1, 1))
    package = LSQNormalizer()
    package.load_standard_tissue_means(str(tmp_path / "standard.npy"))
    image, members = NumpyImageAdapter(before), NumpyImageAdapter(np.eye(3))
    expected = package.transform(image, members).get_data()
    assert least_squares(before, standard).slope * before == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_without_contrast_is_refused(name):
    black = changed(SCAN, np.zeros_like)
    with pytest.raises(MrharmonyError, match="mask"):
        fit_levels(name, {"A": [black]})


def test_a_domain_without_scans_and_an_unknown_target_are_refused_by_name(rule):
    with pytest.raises(MrharmonyError, match="EMPTY"):
        fit_levels("zscore", {"A": CONTRAST_A, "EMPTY": []})
    with pytest.raises(MrharmonyError, match="NEW"):
        rule.intensities(prepared(SCAN), A, NEW)
