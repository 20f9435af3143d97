"""Recipes of virtual cohorts: which people each site scans, how they age, and who is kept for testing.

A small model draws a person's known biology from age and group. Means over age (years), each an anchor from
the literature; everything else is called an assumption.

- Ventricles: +20 % per decade in healthy adults (Kaye et al. 1992, J Am Geriatr Soc 40:225), 3 % per year of
  age in the seventies (community-dwelling people of 73 to 79 years; Lothian Birth Cohort 1936). The change
  at 60 and the scale 1 at 45 are assumptions.
- Cortex: thinner by 0.35 % per year (Storsve et al. 2014, J Neurosci 34:8488), here from 25 years on.
- White-matter lesions: from 43 years on (inflection of total volume; PMC6901174); a mean of 4.9 ml at 60 to
  64 (Wen and Sachdev 2004, NeuroImage 22:144); exponential growth with age (de Kort et al. 2025, Neurobiol
  Aging), its rate of 6 % per year an assumption.
- Patients have larger ventricles, as in Alzheimer's disease (Nestor et al. 2008, Brain 131:2443); the
  factors 1.3 (ventricles), 1.5 (lesions) and 0.04 (cortex) are assumptions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import parse_yaml, read_text
from mrharmony.simulate.foreign.sites import Site, load_sites
from mrharmony.simulate.scanner import Scanner, load_scanners

Group = Literal["control", "patient"]
AnyScanner = Scanner | Site
Years = Annotated[float, Field(ge=18, le=95)]

ZOOM_RANGE_MM = (0.7, 5.0)  # with smaller voxels a head takes too long, with larger ones it is none
VENTRICLES_AT_1 = 45.0
VENTRICLES_PER_YEAR = (np.log(1.2) / 10, 0.03)  # before and after 60, in the logarithm
VENTRICLES_FASTER = 60.0
VENTRICLES_LIMITS = (0.5, 3.8)
THINNING_FROM, THINNING_PER_YEAR = 25.0, 0.0035
THINNING_LIMITS = (0.0, 0.35)
LESIONS_FROM, LESIONS_AT, LESIONS_ML, LESIONS_PER_YEAR = 43.0, 62.0, 4.9, 0.06
LESIONS_LIMITS = (0.0, 30.0)
PATIENT_VENTRICLES, PATIENT_THINNING, PATIENT_LESIONS = 1.3, 0.04, 1.5
# What differs between people of one age and group (assumptions): log, share, log.
VENTRICLES_SD, THINNING_SD, LESIONS_SD = 0.15, 0.02, 0.5
TRAINING_SHARE = 0.6  # of the anatomies


@dataclass(frozen=True)
class Person:
    """Someone who will be scanned, with age (years), group, and the known factors of `virtual_head`."""

    age: float
    group: Group
    ventricle_scale: float
    cortical_thinning: float
    lesions_ml: float

    @property
    def factors(self) -> dict[str, float]:
        """The known factors, as keyword arguments of `virtual_head`."""
        return {name: value for name, value in asdict(self).items() if name not in ("age", "group")}


class Population(BaseModel, frozen=True, extra="forbid"):
    """The people that a site scans.

    Parameters
    ----------
    age
        Youngest and oldest, years, 18..95; uniform between them.
    patients
        Share of patients, 0..1.
    """

    age: tuple[Years, Years] = (20.0, 80.0)
    patients: float = Field(default=0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _ages_ascend(self) -> Self:
        if self.age[0] > self.age[1]:
            raise ValueError(f"the youngest is {self.age[0]:g} years and the oldest {self.age[1]:g}")
        return self


def draw_person(rng: np.random.Generator, age: float, group: Group) -> Person:
    """Draw a person of an age (years) and group: the means, plus what differs between people."""
    scores = rng.standard_normal(3)
    patient = group == "patient"
    early, late = VENTRICLES_PER_YEAR
    growth = early * (min(age, VENTRICLES_FASTER) - VENTRICLES_AT_1) + late * max(age - VENTRICLES_FASTER, 0)
    ventricles = np.exp(growth + VENTRICLES_SD * scores[0]) * (PATIENT_VENTRICLES if patient else 1)
    thinning = THINNING_PER_YEAR * max(age - THINNING_FROM, 0) + THINNING_SD * scores[1]
    lesions = 0.0
    if age > LESIONS_FROM:
        lesions = LESIONS_ML * np.exp(LESIONS_PER_YEAR * (age - LESIONS_AT) + LESIONS_SD * scores[2])
    return Person(
        age=age,
        group=group,
        ventricle_scale=float(np.clip(ventricles, *VENTRICLES_LIMITS)),
        cortical_thinning=float(np.clip(thinning + PATIENT_THINNING * patient, *THINNING_LIMITS)),
        lesions_ml=float(np.clip(lesions * (PATIENT_LESIONS if patient else 1), *LESIONS_LIMITS)),
    )


def draw_people(
    rng: np.random.Generator, population: Population, count: int, patients: int | None = None
) -> tuple[Person, ...]:
    """Draw a site's people, spread evenly over its ages and with its share of patients among them.

    Even small samples follow the population as closely as possible, so that sites with equal populations
    are equal. `patients` of them are patients; by default the population's share of `count`, rounded.
    """
    ill = round(population.patients * count) if patients is None else patients
    youngest, oldest = population.age
    ages = youngest + (oldest - youngest) * (rng.permutation(count) + rng.random(count)) / max(count, 1)
    are_patients = rng.permutation(count) < ill
    return tuple(
        draw_person(rng, float(age), "patient" if patient else "control")
        for age, patient in zip(ages, are_patients, strict=True)
    )


class Restlessness(BaseModel, frozen=True, extra="forbid"):
    """How much more than usual the scans of one site differ; the arguments of `Scanner.restless`."""

    factor: float = Field(default=1.0, ge=0, le=10)
    timing: float = Field(default=0.0, ge=0, le=0.2)


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """A virtual cohort, as loaded from `simulate/recipes/*.yaml`.

    Parameters
    ----------
    name, description
        Short name and one line.
    scanners
        The sites, all of `load_scanners()` or all of `load_sites()`; each has training subjects of its own.
        Test subjects travel to all of them.
    new_scanners
        Scanners that no training subject visits; test subjects travel there too.
    training_subjects
        Of each site.
    test_subjects
        Altogether; their home sites are the scanners in turn.
    population, sites
        Whom sites scan, and the sites that differ from that.
    jitter
        What differs between the scans of one site.
    zoom
        Voxel edge in mm, 0.7..5.
    seed
        Of everything random.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str
    scanners: tuple[str, ...] = Field(min_length=1)
    new_scanners: tuple[str, ...] = ()
    training_subjects: int = Field(default=8, ge=0, le=90)
    test_subjects: int = Field(default=12, ge=0, le=90)
    population: Population = Population()
    sites: dict[str, Population] = {}
    jitter: Restlessness = Restlessness()
    zoom: float = Field(default=2.0, ge=ZOOM_RANGE_MM[0], le=ZOOM_RANGE_MM[1])
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _scanners_are_known(self) -> Self:
        every, known = (*self.scanners, *self.new_scanners), load_scanners() | load_sites()
        for name in every:
            if name not in known:
                raise ValueError(f"unknown scanner {name!r}; known scanners: {', '.join(known)}")
            if every.count(name) > 1:
                raise ValueError(f"scanner {name!r} is named twice")
        if len({name in load_sites() for name in every}) > 1:
            raise ValueError("measured sites and simulated sequences cannot be in one recipe")
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
        """Return the people that a site scans."""
        return self.sites.get(site, self.population)

    @property
    def takes_label_maps(self) -> bool:
        """Whether heads are label maps that measured sites scan (`simulate.foreign`)."""
        return self.scanners[0] in load_sites()

    def scanner(self, name: str) -> AnyScanner:
        """Return a scanner as it is in this cohort, with the recipe's jitter."""
        known: dict[str, Any] = load_scanners() | load_sites()
        scanner: AnyScanner = known[name].restless(self.jitter.factor, self.jitter.timing)
        return scanner


def load_recipe(name: str | Path) -> Recipe:
    """Return a recipe that ships with the package, by name, or one from a .yaml or .yml file.

    Raises `MrharmonyError` if there is none, or it is not a recipe.
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
        text = read_text(path)
    except ValueError as error:
        raise MrharmonyError(
            f"{path}: the recipe cannot be read ({error}); name a text file in YAML"
        ) from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, source: str) -> Recipe:
    """Return the recipe that a YAML text describes; `MrharmonyError` names the source and the first fault."""
    try:
        return parse_yaml(Recipe, text)
    except ValueError as error:
        raise MrharmonyError(
            f"{source}: is no recipe ({error}). Correct it; the recipes that ship are examples, such as "
            "simulate/recipes/clean.yaml."
        ) from error


def _shipped() -> dict[str, str]:
    folder = resources.files("mrharmony.simulate") / "recipes"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {e.name.removesuffix(".yaml"): e.read_text("utf-8") for e in entries if e.name.endswith(".yaml")}


@dataclass(frozen=True)
class Subject:
    """One subject of a cohort; without a recipe, there is neither split, site nor person."""

    scanners: tuple[AnyScanner, ...]  # where the subject is scanned
    base: int | None  # number of the anatomy that the head is based on, or None for the average
    split: Literal["train", "test", ""] = ""
    site: str = ""  # name of the home scanner
    person: Person | None = None


def plan_subjects(recipe: Recipe, anatomies: int = 0) -> tuple[Subject, ...]:
    """Draw who takes part: training subjects site by site, then test subjects.

    Heads are based on so many `anatomies`, or the average if 0; `MrharmonyError` if there is only one, which
    training and test subjects would share.
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
        subjects.append(Subject(scanners, next(bases[split]), split, site, person))
    return tuple(subjects)


def _test_people(recipe: Recipe) -> list[tuple[str, Person]]:
    """Draw the test subjects: sites in turn, each with people of its own population.

    Sites have too few test subjects to hold their share of patients each, so what is rounded off at one is
    made up at the next.
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
