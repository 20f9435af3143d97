from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import tissue_signals

SCANNERS = load_scanners()


def test_twelve_scanners_ship_at_both_fields_and_with_both_sequences() -> None:
    assert len(SCANNERS) == 12
    assert {scanner.field_strength for scanner in SCANNERS.values()} == {1.5, 3.0}
    assert {scanner.sequence.kind for scanner in SCANNERS.values()} == {"mprage", "spgr", "mp2rage"}


@pytest.mark.parametrize("name", SCANNERS)
def test_shipped_scanners_are_t1_weighted(name: str) -> None:
    signals = np.abs(tissue_signals(SCANNERS[name]))
    assert signals[CSF] < 0.7 * signals[CORTICAL_GM]
    assert signals[CORTICAL_GM] < 0.9 * signals[WM]
    assert signals[CORTICAL_GM] < signals[DEEP_GM] < signals[WM]


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_random_scanners_are_t1_weighted_and_come_from_their_seed(seed: int) -> None:
    scanner = random_scanner(np.random.default_rng(seed))
    signals = np.abs(tissue_signals(scanner))
    assert signals[CSF] < signals[CORTICAL_GM] < signals[WM]
    assert scanner == random_scanner(np.random.default_rng(seed))
    assert scanner == Scanner.model_validate_json(scanner.model_dump_json())


def test_session_labels_are_alphanumeric_and_differ() -> None:
    sessions = {scanner.session for scanner in SCANNERS.values()}
    assert len(sessions) == len(SCANNERS)
    assert all(session.isalnum() for session in sessions)


@pytest.mark.parametrize("change", [{"coil": "birdcage"}, {"field_strength": 2.0}, {"noise": -0.1}])
def test_a_scanner_with_a_wrong_or_unknown_entry_is_refused(change: dict[str, object]) -> None:
    record = SCANNERS["mprage-3t"].model_dump() | change
    with pytest.raises(ValidationError, match=next(iter(change))):
        Scanner.model_validate(record)
