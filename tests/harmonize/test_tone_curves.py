"""Quantile matching as bilateral grids."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.domains.statistics import LANDMARKS, REGIONS, DomainStatistics
from mrharmony.methods.tone_curves import global_curve, regional_curves


def statistics(seed, ties=False):
    rng = np.random.default_rng(seed)
    shape = (*REGIONS, LANDMARKS.size)
    quantiles = np.sort(rng.uniform(0, 1.2, shape), axis=3)
    if ties:
        quantiles = np.round(quantiles * 4) / 4
    return DomainStatistics(1.0, quantiles.mean(axis=(0, 1, 2)), quantiles, 1)


def gamma_statistics(power, gain):
    quantiles = gain * LANDMARKS**power
    return DomainStatistics(1.0, quantiles, np.broadcast_to(quantiles, (*REGIONS, LANDMARKS.size)), 1)


@given(seed=st.integers(0, 1000), ties=st.booleans())
def test_curves_are_monotone_and_not_too_steep(seed, ties):
    source, target = statistics(seed, ties), statistics(seed + 1, ties)
    for curves in (global_curve(source, target), regional_curves(source, target)):
        lowest, highest = curves.slope_range
        assert lowest >= -1e-9
        assert highest <= 5 + 1e-9


@given(seed=st.integers(0, 1000), ties=st.booleans())
def test_a_domain_to_itself_is_exactly_the_identity(seed, ties):
    domain = statistics(seed, ties)
    assert not global_curve(domain, domain).offsets.any()
    assert not regional_curves(domain, domain).offsets.any()


def test_a_known_curve_is_found():
    source, target = gamma_statistics(1.0, 1.0), gamma_statistics(1.5, 1.1)
    intensities = np.linspace(0.05, 0.95, 50).astype(np.float32)
    positions = np.random.default_rng(0).uniform(-60, 60, (50, 3)).astype(np.float32)
    for curves in (global_curve(source, target), regional_curves(source, target)):
        np.testing.assert_allclose(curves.apply(positions, intensities), 1.1 * intensities**1.5, atol=0.01)


def test_black_stays_black():
    curves = regional_curves(gamma_statistics(0.5, 1.0), statistics(2))
    assert not curves.offsets[..., 0].any()


def test_black_becomes_what_the_targets_darkest_are_where_the_source_has_black_in_its_brain():
    source, target = gamma_statistics(1.0, 1.0), gamma_statistics(1.0, 1.0)
    clipped = replace(source, quantiles=np.where(source.quantiles < 0.2, 0, source.quantiles))
    curve = global_curve(clipped, target)
    wanted = target.quantiles[clipped.quantiles == 0].mean()
    assert curve.offsets[..., 0].item() == pytest.approx(wanted, abs=1e-6)
    assert wanted > 0.05
    assert curve.slope_range[0] >= 0
    assert not curve.grounded().offsets[..., 0].any()


def test_beyond_the_last_landmark_the_slope_is_one():
    curve = global_curve(gamma_statistics(1.0, 1.0), gamma_statistics(1.0, 1.2))
    place = np.zeros((2, 3), dtype=np.float32)
    low, high = curve.apply(place, np.array([1.3, 1.5], dtype=np.float32))
    np.testing.assert_allclose(high - low, 0.2, atol=1e-5)
