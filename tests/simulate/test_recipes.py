from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.simulate.recipe import Recipe, load_recipe, parse_recipe, plan_subjects

NAMES = ("clean", "confounded", "new-source", "scan-to-scan")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_have_six_sites_eight_to_train_and_twelve_to_test(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert (len(recipe.scanners), recipe.training_subjects, recipe.test_subjects, recipe.zoom) == (
        6,
        8,
        12,
        2.0,
    )
    assert len(plan_subjects(recipe)) == recipe.subjects == 60
    assert parse_recipe(recipe.model_dump_json(), "again") == recipe


def age_by_site(recipe: Recipe) -> dict[str, list[float]]:
    train = [subject for subject in plan_subjects(recipe) if subject.split == "train"]
    return {site: [s.person.age for s in train if s.site == site] for site in recipe.scanners}


@pytest.mark.parametrize("split", ["train", "test"])
def test_only_the_confounded_recipe_confounds_biology_with_site(split: str) -> None:
    between = {}
    for name in NAMES:
        subjects = [subject for subject in plan_subjects(load_recipe(name)) if subject.split == split]
        scales = np.log([subject.person.ventricle_scale for subject in subjects])
        sites = np.array([subject.site for subject in subjects])
        means = np.array([scales[sites == site].mean() for site in sites])
        between[name] = means.var() / scales.var()
    assert between["confounded"] > 0.75
    assert all(between[name] < 0.2 for name in NAMES if name != "confounded"), between


def test_sites_of_the_clean_recipe_are_equal() -> None:
    ages = age_by_site(load_recipe("clean"))
    assert np.ptp([np.mean(site) for site in ages.values()]) < 5
    assert np.ptp([np.mean(site) for site in age_by_site(load_recipe("confounded")).values()]) > 40


def test_training_subjects_stay_at_home_and_test_subjects_travel() -> None:
    recipe = load_recipe("new-source")
    subjects = plan_subjects(recipe)
    for subject in subjects:
        names = tuple(scanner.name for scanner in subject.scanners)
        assert names == (
            (subject.site,) if subject.split == "train" else recipe.scanners + recipe.new_scanners
        )
    visited = {scanner.name for s in subjects if s.split == "train" for scanner in s.scanners}
    assert visited.isdisjoint(recipe.new_scanners)
    homes = [subject.site for subject in subjects if subject.split == "test"]
    assert all(homes.count(site) == 2 for site in recipe.scanners)


@pytest.mark.parametrize("anatomies", [2, 3, 5, 10, 41])
def test_training_and_test_subjects_share_no_anatomy(anatomies: int) -> None:
    used = {split: {s.base for s in plan_subjects(load_recipe("clean"), anatomies) if s.split == split}
            for split in ("train", "test")}  # fmt: skip
    assert used["train"]
    assert used["test"]
    assert used["train"].isdisjoint(used["test"])
    assert used["train"] | used["test"] <= set(range(anatomies))
    assert len(used["train"]) == round(0.6 * anatomies)


def test_one_anatomy_is_not_enough() -> None:
    with pytest.raises(MrharmonyError, match="at least two"):
        plan_subjects(load_recipe("clean"), 1)


def test_scans_vary_more_only_in_the_scan_to_scan_recipe() -> None:
    restless = load_recipe("scan-to-scan").scanner("mprage-3t")
    calm = load_recipe("clean").scanner("mprage-3t")
    assert restless.jitter.timing > calm.jitter.timing == 0
    assert restless.jitter.bias > 2 * calm.jitter.bias


def test_subjects_come_from_the_seed() -> None:
    one, again = (plan_subjects(load_recipe("clean")) for _ in range(2))
    other = plan_subjects(load_recipe("clean").model_copy(update={"seed": 5}))
    assert [s.person for s in one] == [s.person for s in again]
    assert [s.person for s in one] != [s.person for s in other]


def test_a_recipe_of_one_s_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, description: Mine., scanners: [tfe-3t], training_subjects: 0}")
    assert load_recipe(path).scanners == ("tfe-3t",)
    assert load_recipe(str(path)) == load_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{name: x, description: x, scanners: [toaster]}",
            "unknown scanner 'toaster'; known scanners: flash",
        ),
        ("{name: x, description: x, scanners: [tfe-3t], new_scanners: [tfe-3t]}", "'tfe-3t' is named twice"),
        ("{name: x, description: x, scanners: []}", "scanners: .*at least 1"),
        ("{name: x, description: x, scanners: [tfe-3t], sites: {spgr-3t: {}}}", "sites names 'spgr-3t'"),
        ("{name: x, description: x, scanners: [tfe-3t], zoom: 9}", "zoom: "),
        ("{name: x, description: x, scanners: [tfe-3t], colour: red}", "colour: "),
        (
            "{name: x, description: x, scanners: [tfe-3t], training_subjects: 0, test_subjects: 0}",
            "no subjects",
        ),
        ("{name: x, description: x, scanners: [tfe-3t], population: {age: [50, 30]}}", "youngest is 50"),
        ("{name: x, description: [", "is no recipe"),
        ("{name: x, name: y, description: x, scanners: [tfe-3t]}", "name stands twice"),
        ("{name: x, description: x, scanners: [tfe-3t], jitter: {factor: 10000}}", "jitter.factor: "),
        ("{name: x, description: x, scanners: [tfe-3t], jitter: {factor: .inf}}", "jitter.factor: "),
        ("2020-99-99", "month must be in 1..12"),
        ("[" * 5000, "nested too deeply"),
        ("just words", "mine: "),
    ],
)
def test_a_faulty_recipe_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(MrharmonyError, match=message) as caught:
        parse_recipe(text, "mine")
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cake", "known recipes: clean, confounded"),
        ("no.yaml", r"no\.yaml: the recipe cannot be read \(there is no such file\)"),
    ],
)
def test_a_recipe_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(MrharmonyError, match=message):
        load_recipe(name)
