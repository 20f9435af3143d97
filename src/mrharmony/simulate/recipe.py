"""Recipes of virtual cohorts: which sites scan whom, what differs between scans, who is kept for testing.

Who takes part in a recipe's cohort: people, their sites, their scanners, whose anatomy they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError, model_validator

from mrharmony.core.volume import MrharmonyError
from mrharmony.simulate.person import Person, Population, draw_people
from mrharmony.simulate.scanner import Scanner, load_scanners


class Restlessness(BaseModel):
    """How much more than usual the scans of one site differ, as `Scanner.restless` takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: NonNegativeFloat = 1.0
    timing: float = Field(default=0.0, ge=0, le=0.2)


class Recipe(BaseModel):
    """A virtual cohort, as loaded from `simulate/recipes/*.yaml`.

    Parameters
    ----------
    name, description
        Short name and one line.
    scanners
        The sites; each has training subjects of its own. Test subjects travel to all of them.
    new_scanners
        Scanners that no training subject visits; test subjects travel there too.
    training_subjects
        Of each site.
    test_subjects
        Altogether; their home sites are the scanners in turn.
    population, sites
        Whom sites scan, and where sites differ from that.
    jitter
        What differs between the scans of one site.
    zoom
        Voxel edge in mm, 0.7..5.
    seed
        Of everything random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str
    scanners: tuple[str, ...] = Field(min_length=1)
    new_scanners: tuple[str, ...] = ()
    training_subjects: int = Field(default=8, ge=0, le=90)
    test_subjects: int = Field(default=12, ge=0, le=90)
    population: Population = Population()
    sites: dict[str, Population] = {}
    jitter: Restlessness = Restlessness()
    zoom: float = Field(default=2.0, ge=0.7, le=5)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _scanners_are_known(self) -> Self:
        every, known = (*self.scanners, *self.new_scanners), load_scanners()
        for name in every:
            if name not in known:
                raise ValueError(f"unknown scanner {name!r}; known scanners: {', '.join(known)}")
            if every.count(name) > 1:
                raise ValueError(f"scanner {name!r} is named twice")
        stray = next((site for site in self.sites if site not in self.scanners), None)
        if stray:
            raise ValueError(f"sites names {stray!r}, which is not among the scanners")
        if not self.subjects:
            raise ValueError("there are no subjects")
        return self

    @property
    def subjects(self) -> int:
        """Training and test subjects altogether."""
        return len(self.scanners) * self.training_subjects + self.test_subjects

    def population_of(self, site: str) -> Population:
        """Return whom a site scans."""
        return self.sites.get(site, self.population)

    def scanner(self, name: str) -> Scanner:
        """Return a scanner as it is in this cohort, with the recipe's jitter."""
        return load_scanners()[name].restless(self.jitter.factor, self.jitter.timing)


def load_recipe(name: str | Path) -> Recipe:
    """Return a recipe that ships with the package, by name, or one from a YAML file.

    Parameters
    ----------
    name
        `clean`, `confounded`, `new-source`, `scan-to-scan`, or the path of a file ending in .yaml or .yml.

    Raises
    ------
    MrharmonyError
        If there is none, or it is not a recipe.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = _shipped()
        if str(name) not in known:
            raise MrharmonyError(
                f"no recipe is called {str(name)!r}; known recipes: {', '.join(known)}, or name a .yaml file"
            )
        return parse_recipe(known[str(name)], str(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MrharmonyError(f"{path}: the recipe cannot be read; name a text file in YAML") from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, source: str) -> Recipe:
    """Return the recipe that a YAML text describes; `MrharmonyError` names the source and the first fault."""
    try:
        return Recipe.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise MrharmonyError(f"{source}: is not YAML; see simulate/recipes for examples") from error
    except ValidationError as error:
        raise MrharmonyError(f"{source}: {recipe_fault(error)}") from error


def recipe_fault(error: ValidationError) -> str:
    """Return the first fault of a recipe in one sentence."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def _shipped() -> dict[str, str]:
    folder = resources.files("mrharmony.simulate") / "recipes"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {e.name.removesuffix(".yaml"): e.read_text("utf-8") for e in entries if e.name.endswith(".yaml")}


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
