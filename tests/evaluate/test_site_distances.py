"""Distances between sites: zero on average where there is no difference, larger where it is larger."""

import numpy as np
import pytest

from helpers.site_people import SITES, SUBJECTS, at_second_site
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.site_distances import (
    cubic_kernel,
    frechet_distance,
    rbf_kernel,
    site_distances,
    squared_discrepancy,
)


@pytest.fixture(scope="module")
def alike(brains, tissues):
    return site_distances(brains, SITES, SUBJECTS, tissues)


def discrepancy(samples, people=None):
    """Of the first and the second half of the samples."""
    half = np.arange(len(samples) // 2)
    numbers = np.arange(len(samples)) if people is None else people
    return squared_discrepancy(rbf_kernel(samples), half, half + len(half), numbers)


def test_mmd_is_equation_3_of_gretton():
    samples = np.random.default_rng(0).standard_normal((12, 3))
    kernel, m = rbf_kernel(samples), 6
    within = [kernel[i, j] for i in range(m) for j in range(m) if i != j]
    other = [kernel[m + i, m + j] for i in range(m) for j in range(m) if i != j]
    across = [kernel[i, m + j] for i in range(m) for j in range(m)]
    expected = sum(within) / (m * (m - 1)) + sum(other) / (m * (m - 1)) - 2 * sum(across) / m**2
    assert discrepancy(samples) == pytest.approx(expected)


@pytest.mark.parametrize("travelled", [False, True])
def test_mmd_is_unbiased_for_equal_populations_also_of_the_same_people(travelled):
    rng, found = np.random.default_rng(1), []
    for _ in range(200):
        person = rng.standard_normal((2, 20, 4))
        samples = (person[[0, 0 if travelled else 1]] + 0.1 * rng.standard_normal((2, 20, 4))).reshape(40, 4)
        found.append(discrepancy(samples, np.tile(np.arange(20), 2) if travelled else None))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)
    assert min(found) < 0


def test_mmd_grows_with_the_difference():
    samples = np.random.default_rng(2).standard_normal((60, 4))
    found = [discrepancy(samples + shift * (np.arange(60) >= 30)[:, None]) for shift in (0, 0.5, 1, 2)]
    assert abs(found[0]) < 0.05
    assert found == sorted(found)


def test_the_frechet_distance_of_gaussians_is_the_known_one():
    rng = np.random.default_rng(3)
    first = rng.standard_normal((20_000, 3))
    second = rng.standard_normal((20_000, 3)) * [1, 2, 3] + [0, 0, 2]
    assert frechet_distance(first, second) == pytest.approx(4 + 0 + 1 + 4, rel=0.03)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_kernel_of_kid_is_the_published_polynomial():
    samples = np.array([[1.0, 2.0], [3.0, -1.0]])
    np.testing.assert_allclose(cubic_kernel(samples), (np.array([[5, 1], [1, 10]]) / 2 + 1) ** 3)


def test_sites_that_are_alike_are_close_in_every_distance(alike):
    assert max(alike.wasserstein.values()) < 0.005
    assert abs(alike.mmd2) < 0.05
    assert alike.fid < 0.005
    assert abs(alike.kid) < 0.002


def test_every_distance_grows_with_the_difference(brains, tissues, alike):
    weak, strong = (
        site_distances(
            at_second_site(brains, SITES, lambda _, x, power=power: x**power), SITES, SUBJECTS, tissues
        )
        for power in (1.1, 1.3)
    )
    assert alike.mmd2 + 0.1 < weak.mmd2 < strong.mmd2
    assert 5 * alike.fid < weak.fid < strong.fid
    assert alike.kid + 0.01 < weak.kid < strong.kid
    for tissue, near in alike.wasserstein.items():
        assert near < weak.wasserstein[tissue] < strong.wasserstein[tissue]


def test_a_site_left_in_one_tissue_shows_in_that_tissue_only(brains, tissues, alike):
    left = at_second_site(brains, SITES, lambda n, x: np.where(tissues[n] == 3, 1.05 * x, x))
    found = site_distances(left, SITES, SUBJECTS, tissues)
    white = np.mean(
        [brain.volume.voxels[labels == 3].mean() for brain, labels in zip(brains, tissues, strict=True)]
    )
    assert found.wasserstein["white"] == pytest.approx(0.05 * white, rel=0.1)
    assert found.wasserstein["grey"] == alike.wasserstein["grey"]
    assert found.wasserstein["csf"] == alike.wasserstein["csf"]


def test_scans_segment_themselves_where_no_tissues_are_given(brains):
    plain, brighter = (
        site_distances(
            at_second_site(brains[:4], SITES[:4], lambda _, x, g=g: g * x), SITES[:4], SUBJECTS[:4]
        )
        for g in (1.0, 1.1)
    )
    assert min(brighter.wasserstein[name] - plain.wasserstein[name] for name in plain.wasserstein) > 0.01


def test_labels_that_do_not_fit_the_scans_are_refused(brains, tissues):
    with pytest.raises(MrharmonyError, match="tissue maps"):
        site_distances(brains, SITES, SUBJECTS, tissues[1:])
    without = [np.where(labels == 3, 0, labels) for labels in tissues]
    with pytest.raises(MrharmonyError, match="white"):
        site_distances(brains, SITES, SUBJECTS, without)
