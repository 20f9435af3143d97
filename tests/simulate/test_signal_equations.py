from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mrharmony.simulate.signal import TISSUE_PARAMETERS, Mprage, SpoiledGradientEcho, tissue_signal

T1 = st.floats(300, 4500)


def spgr(repetition_time: float, flip: float) -> SpoiledGradientEcho:
    return SpoiledGradientEcho(repetition_time_ms=repetition_time, echo_time_ms=3, flip_angle_deg=flip)


def mprage(**changes: float) -> Mprage:
    protocol = {
        "repetition_time_ms": 2300,
        "inversion_time_ms": 900,
        "echo_spacing_ms": 7,
        "excitations": 176,
        "flip_angle_deg": 9,
        "echo_time_ms": 3,
    }
    return Mprage.model_validate(protocol | changes)


def bloch_mprage(sequence: Mprage, t1: float) -> float:
    """The same sequence played event by event until it repeats itself."""
    flip = np.deg2rad(sequence.flip_angle_deg)

    def relax(magnetization: float, time: float) -> float:
        return 1 - (1 - magnetization) * np.exp(-time / t1)

    magnetization, centre = 1.0, 0.0
    for _ in range(60):
        magnetization = relax(-sequence.inversion_efficiency * magnetization, sequence.delay_before_ms)
        for excitation in range(sequence.excitations):
            if excitation == sequence.excitations // 2:
                centre = magnetization * np.sin(flip)
            magnetization = relax(magnetization * np.cos(flip), sequence.echo_spacing_ms)
        magnetization = relax(magnetization, sequence.delay_after_ms)
    return centre


@given(T1)
def test_a_full_recovery_and_a_right_angle_return_all_of_the_magnetization(t1: float) -> None:
    assert spgr(50 * t1, 90).magnetization(np.array(t1)) == pytest.approx(1)


@given(T1, st.floats(5, 50))
def test_spgr_is_brightest_at_the_ernst_angle(t1: float, repetition_time: float) -> None:
    ernst = np.rad2deg(np.arccos(np.exp(-repetition_time / t1)))
    best = spgr(repetition_time, ernst).magnetization(np.array(t1))
    for other in (0.8 * ernst, 1.2 * ernst):
        assert spgr(repetition_time, other).magnetization(np.array(t1)) < best


@given(T1, st.integers(100, 200), st.floats(5, 13), st.floats(0.8, 1))
def test_mprage_agrees_with_bloch_event_by_event(
    t1: float, excitations: int, flip: float, efficiency: float
) -> None:
    sequence = mprage(excitations=excitations, flip_angle_deg=flip, inversion_efficiency=efficiency)
    assert sequence.magnetization(np.array(t1)) == pytest.approx(bloch_mprage(sequence, t1), abs=1e-9)


@given(T1)
def test_mprage_with_a_feeble_train_is_an_inversion_recovery(t1: float) -> None:
    sequence = mprage(repetition_time_ms=60_000, flip_angle_deg=0.01, inversion_efficiency=1)
    recovery = 1 - 2 * np.exp(-900 / t1)
    measured = sequence.magnetization(np.array(t1)) / np.sin(np.deg2rad(0.01))
    assert measured == pytest.approx(recovery, abs=1e-4)


def test_mprage_nulls_the_tissue_whose_t1_fits_the_inversion_time() -> None:
    sequence = mprage(repetition_time_ms=60_000, flip_angle_deg=0.01, inversion_efficiency=1)
    assert sequence.magnetization(np.array(900 / np.log(2))) == pytest.approx(0, abs=1e-7)


def test_signal_scales_with_proton_density_and_decays_with_t2_star() -> None:
    grey = TISSUE_PARAMETERS[3.0][1]
    sequence = spgr(20, 20)
    signal = tissue_signal(sequence, grey, np.array(grey.t1_ms))
    expected = (
        sequence.magnetization(np.array(grey.t1_ms)) * grey.proton_density * np.exp(-3 / grey.t2_star_ms)
    )
    assert signal == pytest.approx(expected)


def test_signals_are_computed_for_every_voxel_s_own_t1() -> None:
    t1 = np.array([[700.0, 900.0], [1500.0, 4300.0]])
    together = mprage().magnetization(t1)
    assert together.shape == t1.shape
    assert together[1, 0] == mprage().magnetization(t1[1, 0])


def test_a_train_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="do not fit around the inversion time"):
        mprage(inversion_time_ms=300)
