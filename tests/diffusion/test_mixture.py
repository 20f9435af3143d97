"""Mixtures of reference looks."""

import numpy as np
import pytest

from mrharmony.networks.diffusion.contrasts import fit_mixture, mixed, mixture_terms

CONTRASTS = np.random.default_rng(0).uniform(0, 1, (3, 4000))
MEAN = [1 / 3, 1 / 3, 1 / 3, 0]


def test_the_mean_of_the_looks_is_told_as_such():
    np.testing.assert_allclose(
        fit_mixture(mixture_terms(CONTRASTS), CONTRASTS.mean(axis=0)), MEAN, atol=1e-12
    )


def test_other_mixtures_and_a_constant_are_found_but_for_the_pull():
    wanted = 0.8 * CONTRASTS[0] + 0.1 * CONTRASTS[2] + 0.05
    terms = mixture_terms(CONTRASTS)
    weights = fit_mixture(terms, wanted)
    np.testing.assert_allclose(weights, [0.8, 0, 0.1, 0.05], atol=0.02)
    assert np.abs(mixed(weights, terms) - wanted).max() < 0.01


def test_untrusted_voxels_do_not_count():
    wanted = CONTRASTS.mean(axis=0)
    wanted[2000:] = 7
    trust = np.where(np.arange(4000) < 2000, 1 / 2000, 0)
    np.testing.assert_allclose(fit_mixture(mixture_terms(CONTRASTS), wanted, trust), MEAN, atol=1e-12)
    assert np.abs(fit_mixture(mixture_terms(CONTRASTS), wanted) - MEAN).max() > 0.1


def test_where_nothing_is_to_be_seen_the_mean_stays():
    assert fit_mixture(mixture_terms(np.zeros((3, 10))), np.zeros(10)) == pytest.approx(MEAN)


def test_a_mixture_is_never_negative():
    assert mixed(np.array([-1.0, 0, 0, 0]), mixture_terms(CONTRASTS)).min() == 0
