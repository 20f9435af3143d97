"""Whether age, sex and group can be seen in a group of scans as well after harmonization as before.

The feature is simple on purpose: the volume of the dark class, mostly fluid, by thresholds of each image
itself. It grows with age, and needs no segmentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.records import number_in
from mrharmony.core.wording import count_of
from mrharmony.evaluate.biology import LEAST_PEOPLE, cohort_biology
from mrharmony.evaluate.site_effect import Change

FACTORS = ("age", "sex", "group")
_RESAMPLES = 500


@dataclass(frozen=True)
class Factor:
    """What a column of the participants' table explains.

    Parameters
    ----------
    name
        Of the column.
    people
        Persons of each site whose value is known and whose scan was changed, and measured before and after.
    levels
        The two values that were compared; empty for a number.
    correlation
        Of the factor with the logarithm of the fluid's volume, given the site; None where it was not taken.
    reason
        Why not, as the end of a sentence; empty if it was.
    """

    name: str
    people: Mapping[str, int]
    levels: tuple[str, ...] = ()
    correlation: Change | None = None
    reason: str = ""

    @property
    def is_seen(self) -> bool:
        """Whether the factor shows before harmonization: its interval leaves 0 out."""
        return self.correlation is not None and not self._holds(0.0)

    @property
    def is_kept(self) -> bool:
        """Whether the correlation after harmonization lies in the interval of the one before."""
        return self.correlation is not None and self._holds(self.correlation.after.value)

    def _holds(self, value: float) -> bool:
        assert self.correlation is not None
        return self.correlation.before.low <= value <= self.correlation.before.high


def factors(
    before_ml: Sequence[float],
    after_ml: Sequence[float],
    participants: Sequence[Mapping[str, str]],
    sites: Sequence[str],
    changed: Sequence[bool],
) -> list[Factor]:
    """Return what age, sex and group explain, of those columns that the table has.

    Persons of whom no scan was changed, since all come from the target, show nothing and do not count.

    Parameters
    ----------
    before_ml, after_ml
        Fluid of each person.
    participants
        Known values of each person by column.
    sites, changed
        Of each person; whether harmonization has changed the scan.
    """
    known = [name for name in FACTORS if any(name in person for person in participants)]
    counted = [number for number, is_changed in enumerate(changed) if is_changed]
    before, after = ([ml[number] for number in counted] for ml in (before_ml, after_ml))
    persons, places = [participants[n] for n in counted], [sites[n] for n in counted]
    return [_factor(name, before, after, persons, places) for name in known]


def _factor(
    name: str,
    before_ml: Sequence[float],
    after_ml: Sequence[float],
    participants: Sequence[Mapping[str, str]],
    sites: Sequence[str],
) -> Factor:
    values, levels = _numbers(name, [person.get(name) for person in participants])
    people = [number for number, value in enumerate(values) if np.isfinite(value)]
    counts = dict(sorted(Counter(sites[number] for number in people).items()))
    if len(people) < LEAST_PEOPLE:
        known = count_of(len(people), "person") if people else "none"
        reason = f"of those whose scans were changed, it is known of {known}; {LEAST_PEOPLE} are needed."
        return Factor(name, counts, reason=reason)
    if name != "age" and len(levels) != 2:
        found = f"{', '.join(levels[:5])}{' and more' if len(levels) > 5 else ''}"
        return Factor(name, counts, reason=f"two values can be compared, and these persons have: {found}.")
    cause, own = [values[number] for number in people], [sites[number] for number in people]
    try:
        before, after = (
            cohort_biology([ml[number] for number in people], cause, own, resamples=_RESAMPLES)
            for ml in (before_ml, after_ml)
        )
    except MrharmonyError as error:
        return Factor(name, counts, reason=f"{error}.")
    change = Change(before.partial_correlation, after.partial_correlation)
    return Factor(name, counts, levels, change)


def _numbers(name: str, said: Sequence[str | None]) -> tuple[list[float], tuple[str, ...]]:
    """Return a column as numbers, NaN where unknown, and its values where it is no age."""
    if name != "age":
        levels = tuple(sorted({value for value in said if value is not None}))
        return [np.nan if value is None else float(levels.index(value)) for value in said], levels
    return [number_in(value or "") for value in said], ()
