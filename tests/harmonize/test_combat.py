"""ComBat: agreement with the package, planted effects, identity, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from neuroCombat import neuroCombat as package
from neuroCombat import neuroCombatFromTraining

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.combat import SCALES_FROM, CombatRule, _smoothed_voxels, fit_combat


def person(seed, shift=0.0, spread=1.0):
    """A small brain whose contrast varies between people, seen by a scanner that shifts and spreads it."""
    strength = 1 + 0.1 * spread * np.random.default_rng(seed).standard_normal()
    return changed(phantom(seed, radius=14.0), lambda s: s * strength + shift)


def domains(count):
    return {
        "A": [person(seed) for seed in range(count)],
        "B": [person(100 + seed, shift=0.3, spread=2.0) for seed in range(count)],
    }


@pytest.fixture(scope="module")
def few():
    return CombatRule(fit_combat(domains(3)))


@pytest.fixture(scope="module")
def many():
    return CombatRule(fit_combat(domains(SCALES_FROM)))


def test_staying_in_the_domain_is_exactly_the_identity(many):
    scan = prepared(person(7))
    assert np.array_equal(many.intensities(scan, A, A)[scan.brain_mask], scan.intensities()[scan.brain_mask])


@pytest.mark.parametrize("rule", ["few", "many"])
def test_a_planted_shift_is_found(rule, request):
    brain = person(50)
    output = request.getfixturevalue(rule).intensities(prepared(brain), A, B)
    change = output - brain.volume.voxels
    assert np.median(change[brain.mask]) == pytest.approx(0.3, abs=0.1)
    assert not output[~brain.mask].any()


def test_spreads_are_fitted_from_eight_scans_on(few, many):
    assert np.array_equal(few.fitted.arrays["spreads"][0], few.fitted.arrays["spreads"][1])
    ratio = many.fitted.arrays["spreads"][1] / many.fitted.arrays["spreads"][0]
    assert np.median(ratio) > 1.2


def test_source_and_target_meet_in_the_packages_own_harmonized_space(many):
    brains = domains(SCALES_FROM)
    rows, mask = np.repeat([0, 1], SCALES_FROM), many.fitted.arrays["mask"]
    values = _smoothed_voxels([brain for domain in brains.values() for brain in domain], rows, mask)
    estimates = package(values.T, pd.DataFrame({"domain": rows}), "domain")["estimates"]
    brain = person(60)
    there = many.intensities(prepared(brain), A, B)[mask]
    as_source = neuroCombatFromTraining(brain.volume.voxels[mask][:, None], [0], estimates)["data"]
    as_target = neuroCombatFromTraining(there[:, None], [1], estimates)["data"]
    assert np.allclose(as_target, as_source, rtol=0, atol=1e-4)


@pytest.mark.parametrize("source", [None, NEW])
def test_a_scan_of_an_unknown_domain_is_refused(source, few):
    with pytest.raises(MrharmonyError, match="unknown domain"):
        few.intensities(prepared(person(7)), source, B)


def test_an_unknown_target_and_too_few_scans_are_refused_by_name(few):
    with pytest.raises(MrharmonyError, match="NEW"):
        few.intensities(prepared(person(7)), A, NEW)
    with pytest.raises(MrharmonyError, match="B has 1 training scans"):
        fit_combat({"A": [person(0), person(1)], "B": [person(2)]})


def test_scans_that_share_no_voxel_are_refused():
    brains = [person(0), person(1)]
    apart = [brain._replace(mask=np.roll(brain.mask, 40 * index, 1)) for index, brain in enumerate(brains)]
    with pytest.raises(MrharmonyError, match="no voxel"):
        fit_combat({"A": apart})
