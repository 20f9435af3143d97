"""Measured sites: how bright real scans show each structure, with receive coils, k-space and noise."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Annotated

import numpy as np
import yaml
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat

from mrharmony.core.volume import FloatArray
from mrharmony.simulate.label_maps import STRUCTURES
from mrharmony.simulate.scanner import Gain, session_label

Share = Annotated[float, Field(gt=0, le=1)]

# The rest of the measured variation within a structure is partial volume, which simulated scans have anyway.
TEXTURE_SHARE = 0.5
# Structures that are too small to be measured look like these.
LIKE = {
    "third-ventricle": "lateral-ventricle",
    "fourth-ventricle": "lateral-ventricle",
    "lesion": "cerebral-cortex",
    "accumbens": "caudate",
    "vessel": "outer-csf",
    "choroid-plexus": "hippocampus",
    "optic-chiasm": "ventral-diencephalon",
}


class Brightness(BaseModel, frozen=True, extra="forbid"):
    """The intensity of a structure, relative to the cerebral white matter of the same scan."""

    level: NonNegativeFloat  # mean over people
    people: NonNegativeFloat  # standard deviation between people
    texture: (
        NonNegativeFloat  # standard deviation within the structure, without noise, but with partial volume
    )


class CoilArray(BaseModel, frozen=True, extra="forbid"):
    """Receive loops around the head, whose images are combined by the root of the sum of squares.

    Parameters
    ----------
    elements
        Loops, 1..64, spread evenly over the head down to `lowest`.
    radius_mm
        Of a loop: the larger, the farther it sees.
    standoff_mm
        From the head's surface.
    lowest
        Height of the lowest loops, -1 (below the head) to 1 (at the vertex).
    unequal
        Log standard deviation of the loops' gains, the same in all scans.
    normalised
        Share of the logarithm of the combined field that the scanner divides out, 0..1.
    """

    elements: int = Field(ge=1, le=64)
    radius_mm: PositiveFloat = 60.0
    standoff_mm: NonNegativeFloat = 30.0
    lowest: float = Field(default=-0.5, ge=-1, lt=1)
    unequal: NonNegativeFloat = 0.1
    normalised: float = Field(default=0.0, ge=0, le=1)


class ScanVariation(BaseModel, frozen=True, extra="forbid"):
    """What differs from scan to scan at one site."""

    loops: NonNegativeFloat = 0.05  # log standard deviation of each loop's gain
    shift_mm: NonNegativeFloat = 4.0  # standard deviation of the array's place along each axis
    contrast: NonNegativeFloat = 0.4  # standard deviation of a structure's level, in units of `people`


class Site(BaseModel, frozen=True, extra="forbid"):
    """A real site's T1w scans, as loaded from `simulate/foreign/sites.yaml`.

    Parameters
    ----------
    name, description
        Short name (`site-hh`) and one line.
    contrast
        Whose measurements in `contrasts.yaml` it has.
    coils
        Its receive loops.
    kspace
        Share of the image's k-space along i, j, k that is acquired, or kept by the filter.
    taper
        Share of the acquired k-space over which the window falls as a cosine: 0 rings, 1 is Hann's.
    noise
        Standard deviation of the noise in each channel of a loop at 1 mm³, relative to white matter in the
        middle of the head.
    gain, variation
        Intensity of white matter, and what differs between scans.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str
    contrast: str
    coils: CoilArray
    kspace: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    taper: float = Field(default=0.3, ge=0, le=1)
    noise: NonNegativeFloat = 0.02
    gain: Gain
    variation: ScanVariation = ScanVariation()

    @property
    def session(self) -> str:
        """BIDS session label: the name without hyphens."""
        return session_label(self.name)

    def restless(self, factor: float, timing: float) -> Site:
        """Return the same site with more variation from scan to scan.

        `factor` multiplies the variation of the array's loops and place and of the contrast, and the spread
        of the gain; `timing` is added to the contrast's variation, in units of the standard deviation between
        people, as a site has no sequence whose times could vary.
        """
        old = self.variation
        variation = ScanVariation(
            loops=factor * old.loops, shift_mm=factor * old.shift_mm, contrast=factor * old.contrast + timing
        )
        return self.model_copy(update={"variation": variation, "gain": self.gain.restless(factor)})

    def brightness(self) -> FloatArray:
        """Return level, people and texture of each of `STRUCTURES`, shape (3, structures)."""
        table = _contrasts()[self.contrast]
        rows = [table[LIKE.get(name, name)] for name in STRUCTURES]
        shown = [[row.level, row.people, TEXTURE_SHARE * row.texture] for row in rows]
        return np.array(shown, dtype=np.float32).T


@lru_cache(maxsize=1)
def _contrasts() -> dict[str, dict[str, Brightness]]:
    table = yaml.safe_load(_text("contrasts.yaml"))
    return {
        site: {name: Brightness.model_validate(row) for name, row in rows.items()}
        for site, rows in table.items()
    }


@lru_cache(maxsize=1)
def _shipped_sites() -> tuple[Site, ...]:
    return tuple(Site.model_validate(site) for site in yaml.safe_load(_text("sites.yaml")))


def load_sites() -> dict[str, Site]:
    """Return the measured sites that ship with the package, by name."""
    return {site.name: site for site in _shipped_sites()}


def _text(name: str) -> str:
    return (resources.files("mrharmony.simulate.foreign") / name).read_text("utf-8")
