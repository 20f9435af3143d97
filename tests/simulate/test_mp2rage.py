from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, WM, Anatomy
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head, tissue_signals
from mrharmony.simulate.signal import Mp2rage, uniform_image

SCANNER = load_scanners()["mp2rage-3t"]
PARTS = st.floats(-10, 10)


def mp2rage(**changes: object) -> Mp2rage:
    return Mp2rage.model_validate(SCANNER.sequence.model_dump() | changes)


def bloch(sequence: Mp2rage, t1: float) -> tuple[float, float]:
    """The same sequence played event by event until it repeats itself."""

    def relax(magnetization: float, time: float) -> float:
        return 1 - (1 - magnetization) * np.exp(-time / t1)

    before, between, after = sequence.delays_ms
    magnetization, centres = 1.0, [0.0, 0.0]
    for _ in range(30):
        magnetization *= -sequence.inversion_efficiency
        for train, delay in enumerate((before, between)):
            magnetization = relax(magnetization, delay)
            flip = np.deg2rad(sequence.flip_angles_deg[train])
            for excitation in range(sequence.excitations):
                if excitation == sequence.excitations // 2:
                    centres[train] = magnetization * np.sin(flip)
                magnetization = relax(magnetization * np.cos(flip), sequence.echo_spacing_ms)
        magnetization = relax(magnetization, after)
    return centres[0], centres[1]


@pytest.mark.parametrize("t1", [400.0, 838.0, 1607.0, 4300.0])
@pytest.mark.parametrize("excitations", [175, 176])
def test_the_closed_form_is_the_sequence_played_event_by_event(t1: float, excitations: int) -> None:
    sequence = mp2rage(excitations=excitations)
    assert sequence.magnetization(np.array(t1)) == pytest.approx(np.array(bloch(sequence, t1)), abs=1e-9)


@given(PARTS, PARTS, PARTS, PARTS)
def test_the_uniform_image_lies_within_0_and_1(a: float, b: float, c: float, d: float) -> None:
    value = uniform_image(np.array(complex(a, b)), np.array(complex(c, d)))
    assert -1e-6 <= value <= 1 + 1e-6


@given(st.floats(0.01, 10), st.floats(-np.pi, np.pi))
def test_the_uniform_image_has_its_limits_and_ignores_scale_and_common_phase(
    size: float, phase: float
) -> None:
    one = np.array(size * np.exp(1j * phase))
    assert uniform_image(one, one) == pytest.approx(1, abs=1e-5)
    assert uniform_image(one, -one) == pytest.approx(0, abs=1e-5)
    assert uniform_image(0 * one, one) == pytest.approx(0.5)
    assert uniform_image(one, 2 * one) == pytest.approx(0.5 + 2 / 5, abs=1e-5)


def test_tissues_of_shorter_t1_are_brighter() -> None:
    first, second = mp2rage().magnetization(np.linspace(500, 4500, 60))
    assert np.all(np.diff(uniform_image(first, second)) < 0)
    signals = tissue_signals(SCANNER)
    assert signals[CSF] < 0.1 < signals[CORTICAL_GM] < 0.7 * signals[WM]


def test_the_receive_field_and_the_gain_s_part_of_it_cancel(head: Anatomy) -> None:
    clean = SCANNER.model_copy(update={"noise": 0.0})
    flat = clean.model_copy(update={"bias": load_scanners()["mprage-3t"].bias})
    one, other = (scan_head(head, scanner, np.random.default_rng(3)).voxels for scanner in (clean, flat))
    inner = head.tissues[WM] > 0.95
    assert one[inner] == pytest.approx(other[inner], rel=0.02)
    assert one.max() <= SCANNER.gain.mean * (1 + 1e-6)


def test_noise_enters_through_the_two_images(head: Anatomy) -> None:
    # Noise that drowns both images leaves a symmetric distribution about the middle, still within the limits.
    drowned = scan_head(head, SCANNER.model_copy(update={"noise": 1e4}), np.random.default_rng(0)).voxels
    values = drowned[head.brain_mask] / SCANNER.gain.mean
    assert values.mean() == pytest.approx(0.5, abs=0.01)
    assert 0 <= values.min() < 0.02
    assert 0.98 < values.max() <= 1 + 1e-6


def test_trains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="do not fit around inversion times of 700 and 1500"):
        mp2rage(inversion_times_ms=(700, 1500))
