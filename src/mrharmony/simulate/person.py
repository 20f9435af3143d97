"""People: age and group, and the known biology that a small model draws from them.

Means over age (years), each an anchor from the literature; what is not is called an assumption.

- Ventricles: +20 % per decade in healthy adults (Kaye et al. 1992, J Am Geriatr Soc 40:225), 3 % per year of
  age in the seventies (community-dwelling people of 73 to 79 years; Lothian Birth Cohort 1936). The change
  at 60 and the scale 1 at 45 are assumptions.
- Cortex: thinner by 0.35 % per year (Storsve et al. 2014, J Neurosci 34:8488), here from 25 years on.
- White-matter lesions: from 43 years on (inflection of total volume; PMC6901174); a mean of 4.9 ml at 60 to
  64 (Wen and Sachdev 2004, NeuroImage 22:144); exponential growth with age (de Kort et al. 2025, Neurobiol
  Aging), its rate of 6 % per year an assumption.
- Patients have larger ventricles, as Alzheimer's disease has (Nestor et al. 2008, Brain 131:2443); the
  factors 1.3 (ventricles), 1.5 (lesions) and 0.04 (cortex) are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Group = Literal["control", "patient"]
Years = Annotated[float, Field(ge=18, le=95)]

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


@dataclass(frozen=True)
class Person:
    """Someone who will be scanned, and the factors that `virtual_head` makes of them.

    Parameters
    ----------
    age, group
        Years, and `control` or `patient`.
    ventricle_scale, cortical_thinning, lesions_ml
        As `virtual_head` takes them.
    """

    age: float
    group: Group
    ventricle_scale: float
    cortical_thinning: float
    lesions_ml: float


class Population(BaseModel):
    """Whom a site scans.

    Parameters
    ----------
    age
        Youngest and oldest, years, 18..95; uniform between them.
    patients
        Share of patients, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: tuple[Years, Years] = (20.0, 80.0)
    patients: float = Field(default=0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _ages_ascend(self) -> Self:
        if self.age[0] > self.age[1]:
            raise ValueError(f"the youngest is {self.age[0]:g} years and the oldest {self.age[1]:g}")
        return self


def expected_person(age: float, group: Group) -> Person:
    """Return the typical person of an age (years) and group: the model's means, within its limits."""
    return _person(age, group, np.zeros(3))


def draw_person(rng: np.random.Generator, age: float, group: Group) -> Person:
    """Draw a person of an age (years) and group: the means, and what differs between people."""
    return _person(age, group, rng.standard_normal(3))


def draw_people(
    rng: np.random.Generator, population: Population, count: int, patients: int | None = None
) -> tuple[Person, ...]:
    """Draw a site's people, spread evenly over its ages and with its share of patients among them.

    Parameters
    ----------
    rng
        Source of all that is random.
    population
        Ages and share of patients.
    count
        How many people; small samples follow the population as closely as they can, so that sites with
        equal populations are equal.
    patients
        How many of them are patients, instead of the population's share of them, rounded.
    """
    ill = round(population.patients * count) if patients is None else patients
    youngest, oldest = population.age
    ages = youngest + (oldest - youngest) * (rng.permutation(count) + rng.random(count)) / max(count, 1)
    are_patients = rng.permutation(count) < ill
    return tuple(
        draw_person(rng, float(age), "patient" if patient else "control")
        for age, patient in zip(ages, are_patients, strict=True)
    )


def _person(age: float, group: Group, scores: np.ndarray) -> Person:
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
