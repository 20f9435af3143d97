"""Sources: found where they are known, told where a scan looks like none of them."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.brains import canonical_scan
from helpers.phantoms import SCANNERS, A, B, changed, prepared, virtual_people
from mrharmony.core.domain import Domain
from mrharmony.domains.contrast import scan_contrasts
from mrharmony.domains.recognition import STRANGE, recognise
from mrharmony.methods.registry import fit_method


@pytest.fixture(scope="module")
def heads():
    return virtual_people(2)


@pytest.fixture(scope="module")
def fitted(heads):
    """Two domains, of one scan each of one person."""
    return fit_method("diffusion", {n: [canonical_scan(heads[0], s, 1)] for n, s in SCANNERS.items()})


@pytest.fixture(scope="module")
def brain(heads):
    """Another person in the first domain."""
    return canonical_scan(heads[1], SCANNERS["A"], 2)


@pytest.fixture(scope="module")
def scan(brain):
    return prepared(brain)


def test_a_scan_of_a_known_scanner_is_recognised_and_served_as_if_told_but_for_the_curve(fitted, scan):
    found = recognise(fitted.contrast_models, scan_contrasts(scan))
    assert found.name == "A"
    assert found.distance < STRANGE
    told = replace(fitted, statistics={}).transform(scan, A, B)  # without statistics there is no curve
    assert np.array_equal(fitted.transform(scan, None, B).offsets, told.offsets)
    assert not np.array_equal(fitted.transform(scan, A, B).offsets, told.offsets)


def test_a_recognised_scan_is_not_warned_of(fitted, scan):
    done = fitted.harmonize(scan, None, B)
    assert done.findings == ()
    assert done.provenance["nearest"] == "A"


def test_a_wrong_source_is_told(fitted, scan):
    done = fitted.harmonize(scan, B, A)
    assert [finding.code for finding in done.findings] == ["strange-source"]
    assert "does not look like B" in done.findings[0].message
    assert done.evidence.verdict != "pass"
    assert "strange-source" in done.evidence.reasons


@pytest.mark.parametrize("source", [None, Domain("C", "C")])
def test_a_scan_like_no_known_one_is_told(fitted, brain, source):
    strange = prepared(changed(brain, lambda voxels: 0.5 + 0.5 * voxels))
    done = fitted.harmonize(strange, source, B)
    assert "no known scanner" in done.findings[0].message
    assert done.evidence.verdict != "pass"
