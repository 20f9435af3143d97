"""Who takes part in a recipe's cohort: people, their sites, their scanners, whose anatomy they have."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Literal

import numpy as np

from mrharmony.simulate.person import Person, draw_people
from mrharmony.simulate.recipe import Recipe
from mrharmony.simulate.scanner import Scanner
from mrharmony.volume import MrharmonyError

TRAINING_SHARE = 0.6  # of the anatomies


@dataclass(frozen=True)
class Subject:
    """One subject of a cohort.

    Parameters
    ----------
    split
        `train` or `test`.
    site
        Name of the home scanner.
    person
        Age, group and known factors.
    scanners
        Where the subject is scanned.
    base
        Number of the anatomy that the head is based on, or `None` for the average.
    """

    split: Literal["train", "test"]
    site: str
    person: Person
    scanners: tuple[Scanner, ...]
    base: int | None


def plan_subjects(recipe: Recipe, anatomies: int = 0) -> tuple[Subject, ...]:
    """Draw who takes part: training subjects site by site, then test subjects.

    Parameters
    ----------
    recipe
        The cohort.
    anatomies
        How many anatomies there are to base heads on; the average is used if 0.

    Raises
    ------
    MrharmonyError
        If there is one anatomy, which training and test subjects would share.
    """
    if anatomies == 1:
        raise MrharmonyError("training and test subjects need different anatomies; give at least two")
    everywhere = tuple(recipe.scanner(name) for name in (*recipe.scanners, *recipe.new_scanners))
    drawn: list[tuple[Literal["train", "test"], str, Person]] = []
    for number, site in enumerate(recipe.scanners):
        rng = np.random.default_rng([recipe.seed, 1, number])
        people = draw_people(rng, recipe.population_of(site), recipe.training_subjects)
        drawn += [("train", site, person) for person in people]
    drawn += [("test", site, person) for site, person in _test_people(recipe)]
    first = round(TRAINING_SHARE * anatomies)
    bases = {"train": cycle(range(first) or [None]), "test": cycle(range(first, anatomies) or [None])}
    subjects = []
    for split, site, person in drawn:
        scanners = everywhere if split == "test" else (recipe.scanner(site),)
        subjects.append(Subject(split, site, person, scanners, next(bases[split])))
    return tuple(subjects)


def _test_people(recipe: Recipe) -> list[tuple[str, Person]]:
    """Test subjects: sites in turn, each with people of its own population.

    Sites test too few to hold their share of patients each, so what is rounded off at one is made up at the
    next.
    """
    count, sites = recipe.test_subjects, recipe.scanners
    people, owed = [], 0.0
    for number, site in enumerate(sites):
        share = len(range(number, count, len(sites)))
        rng = np.random.default_rng([recipe.seed, 2, number])
        population = recipe.population_of(site)
        owed += population.patients * share
        patients = min(max(round(owed), 0), share)
        owed -= patients
        people.append([(site, person) for person in draw_people(rng, population, share, patients)])
    return [people[index % len(sites)][index // len(sites)] for index in range(count)]
