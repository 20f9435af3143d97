"""Virtual people that no result is reported on, as scanners see them; for scripts that choose or calibrate.

They stand on the anatomies of a real site that the cohorts of the benchmark give to training subjects alone
(the first 60 % in their order), so no test head of theirs has the same anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrharmony.jobs.brains import prepare_brains
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.cohort import crop_to_head, field_of_view
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.person import Population, draw_people
from mrharmony.simulate.recipe import TRAINING_SHARE
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid
from virtual_people import scans_in_turn

SEED = 23
ZOOMS = (1.0, 1.5, 2.0)  # mm, of the native grids in turn
SIDES = ("calibration", "check")


@dataclass(frozen=True)
class DevelopmentHeads:
    """Virtual people, made when they are asked for.

    Parameters
    ----------
    scans
        Real scans whose anatomies they have, one each.
    cache
        Folder of prepared brains.
    """

    scans: tuple[Path, ...]
    cache: Path

    @classmethod
    def of(cls, bids_dir: Path, domain: str, cache: Path) -> DevelopmentHeads:
        """Return the people on a site's training anatomies."""
        scans = scans_in_turn(bids_dir, domain)
        return cls(tuple(scans[: round(TRAINING_SHARE * len(scans))]), cache)

    def side(self, number: int) -> str:
        """Return whether a head calibrates or checks: the first half of the subjects calibrates."""
        return SIDES[number >= len(self.scans) // 2]

    def in_turn(self) -> list[int]:
        """Return the numbers of the heads, one of each side in turn."""
        half = len(self.scans) // 2
        return [number for first in range(half) for number in (first, first + half)]

    def head(self, number: int) -> Anatomy:
        """Return a person, in a pose and on a native grid of their own."""
        path = self.scans[number]
        brains, _ = prepare_brains([path], Grid.working(2.0), self.cache)
        base = segment_brain(brains[path].volume, brains[path].mask)
        population = Population(age=(20, 85), patients=0.25)
        person = draw_people(np.random.default_rng(SEED), population, len(self.scans))[number]
        rng = np.random.default_rng([SEED, number])
        head = virtual_head(
            rng,
            field_of_view(ZOOMS[number % len(ZOOMS)]),
            base,
            person.ventricle_scale,
            pose=random_pose(rng),
            cortical_thinning=person.cortical_thinning,
            lesions_ml=person.lesions_ml,
        )
        return crop_to_head(head)


def scanners_of(side: str) -> list[Scanner]:
    """Return the scanners of one side; the other side has the others."""
    every = load_scanners()
    return [every[name] for name in sorted(every)[SIDES.index(side) :: 2]]


def targets_of(side: str, domains: list[str]) -> list[str]:
    """Return the target domains of one side; the other side has the others."""
    return sorted(domains)[SIDES.index(side) :: 2]
