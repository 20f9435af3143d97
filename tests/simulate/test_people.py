from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.simulate.recipe import (
    Population,
    draw_people,
    draw_person,
    load_recipe,
    plan_subjects,
)

AGES = st.floats(18, 95)
TYPICAL = SimpleNamespace(standard_normal=np.zeros)  # draws the means


@given(AGES, AGES)
def test_the_older_have_larger_ventricles_thinner_cortex_and_more_lesions(one: float, other: float) -> None:
    young, old = (draw_person(TYPICAL, age, "control") for age in sorted((one, other)))
    assert young.ventricle_scale <= old.ventricle_scale
    assert young.cortical_thinning <= old.cortical_thinning
    assert young.lesions_ml <= old.lesions_ml


def test_the_means_pass_through_the_published_anchors() -> None:
    def at(age: float) -> tuple[float, float, float]:
        person = draw_person(TYPICAL, age, "control")
        return person.ventricle_scale, person.cortical_thinning, person.lesions_ml

    assert at(50)[0] / at(40)[0] == pytest.approx(1.2)
    assert at(71)[0] / at(70)[0] == pytest.approx(1.03, abs=0.001)
    assert at(75)[1] - at(65)[1] == pytest.approx(0.035)
    assert at(62)[2] == pytest.approx(4.9)
    assert at(40)[2] == 0


def test_patients_differ_from_controls_of_their_age() -> None:
    control, patient = (draw_person(TYPICAL, 60, group) for group in ("control", "patient"))
    assert patient.ventricle_scale == pytest.approx(1.3 * control.ventricle_scale)
    assert patient.cortical_thinning > control.cortical_thinning
    assert patient.lesions_ml > control.lesions_ml


@given(st.integers(0, 2**32), AGES, st.sampled_from(["control", "patient"]))
def test_drawn_people_can_be_made(seed: int, age: float, group: str) -> None:
    person = draw_person(np.random.default_rng(seed), age, group)  # type: ignore[arg-type]
    assert 0.3 <= person.ventricle_scale <= 4
    assert 0 <= person.cortical_thinning <= 0.5
    assert 0 <= person.lesions_ml <= 60
    assert person == draw_person(np.random.default_rng(seed), age, group)  # type: ignore[arg-type]


@given(st.integers(0, 2**32), st.integers(0, 40), st.floats(0, 1))
def test_small_samples_follow_their_population(seed: int, count: int, patients: float) -> None:
    people = draw_people(np.random.default_rng(seed), Population(age=(30, 70), patients=patients), count)
    ages = sorted(person.age for person in people)
    assert len(people) == count
    assert sum(person.group == "patient" for person in people) == round(patients * count)
    for number, age in enumerate(ages):
        assert 30 + 40 * number / count <= age <= 30 + 40 * (number + 1) / count


@pytest.mark.parametrize("name", ["clean", "confounded", "new-source", "scan-to-scan"])
def test_every_shipped_recipe_tests_patients_and_controls(name: str) -> None:
    recipe = load_recipe(name)
    tested = [subject.person.group for subject in plan_subjects(recipe) if subject.split == "test"]
    wanted = sum(recipe.population_of(site).patients for site in recipe.scanners) / len(recipe.scanners)
    assert abs(tested.count("patient") - wanted * len(tested)) <= 1
    assert tested.count("patient") >= 3


def test_ages_that_descend_are_refused() -> None:
    with pytest.raises(ValueError, match="the youngest is 70"):
        Population(age=(70, 30))
