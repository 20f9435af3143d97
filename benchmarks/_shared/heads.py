"""Virtual people on the anatomies of real ones, with their prepared scans, where the truth is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paired import peak_ratio
from mrharmony.jobs.brains import prepare_brains
from mrharmony.methods.diffusion import DiffusionHarmonizer, load_diffusion
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex, shuffle_key
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.cohort import crop_to_head, field_of_view
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.recipe import TRAINING_SHARE, Person, Population, draw_people
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid
from mrharmony.weights import shipped_model

GRID = Grid.working(2.0)
DEVELOPMENT_SEED = 23
ZOOMS = (1.0, 1.5, 2.0)  # mm, of the native grids of development heads in turn
SIDES = ("calibration", "check")


@dataclass(frozen=True)
class People:
    """Virtual people, each on the anatomy of another real one; made when one is taken.

    Parameters
    ----------
    scans
        Real scans whose anatomies they have, one each.
    cache
        Folder of prepared brains.
    seed
        Of who they are.
    """

    scans: tuple[Path, ...]
    cache: Path
    seed: int

    @classmethod
    def of(cls, bids_dir: Path, domain: str, places: Sequence[int], cache: Path, seed: int) -> "People":
        """Return people on a site's anatomies.

        `places` says which subjects, in the order of `scans_in_turn`: of 40, the first 24 are the training
        subjects of the benchmark's cohorts, the others their test subjects.
        """
        scans = scans_in_turn(bids_dir, domain)
        return cls(tuple(scans[place] for place in places), cache, seed)

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[Anatomy]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Anatomy:
        if number >= len(self):
            raise IndexError(number)
        person = self._person(number)
        return virtual_head(
            np.random.default_rng([self.seed, number]),
            GRID,
            self._segmented(number),
            ventricle_scale=person.ventricle_scale,
            cortical_thinning=person.cortical_thinning,
            lesions_ml=person.lesions_ml,
        )

    def _person(self, number: int) -> Person:
        population = Population(age=(20, 85), patients=0.25)
        return draw_people(np.random.default_rng(self.seed), population, len(self))[number]

    def _segmented(self, number: int) -> Anatomy:
        path = self.scans[number]
        brain = prepare_brains([path], GRID, self.cache)[0][path]
        return segment_brain(brain.volume, brain.mask)


@dataclass(frozen=True)
class DevelopmentHeads(People):
    """People for scripts that choose or calibrate, on anatomies of training subjects alone.

    No test head of the benchmark has the same anatomy. Each lies in a pose and on a native grid of its own.
    """

    @classmethod
    def on_training_subjects(cls, bids_dir: Path, domain: str, cache: Path) -> "DevelopmentHeads":
        """Return the people on the anatomies of a site's training subjects."""
        scans = scans_in_turn(bids_dir, domain)
        return cls(tuple(scans[: round(TRAINING_SHARE * len(scans))]), cache, DEVELOPMENT_SEED)

    def side(self, number: int) -> str:
        """Return whether a head calibrates or checks: the first half of the subjects calibrates."""
        return SIDES[number >= len(self) // 2]

    def in_turn(self) -> list[int]:
        """Return the numbers of the heads, one of each side in turn."""
        half = len(self) // 2
        return [number for first in range(half) for number in (first, first + half)]

    def __getitem__(self, number: int) -> Anatomy:
        person, rng = self._person(number), np.random.default_rng([self.seed, number])
        head = virtual_head(
            rng,
            field_of_view(ZOOMS[number % len(ZOOMS)]),
            self._segmented(number),
            person.ventricle_scale,
            pose=random_pose(rng),
            cortical_thinning=person.cortical_thinning,
            lesions_ml=person.lesions_ml,
        )
        return crop_to_head(head)


def scans_in_turn(bids_dir: Path, domain: str) -> list[Path]:
    """Return a site's scans in the order in which `simulate --anatomy` takes their subjects."""
    scans = [scan for scan in BidsIndex.open(bids_dir, "site").scans if scan.domain == domain]
    return [scan.path for scan in sorted(scans, key=lambda scan: shuffle_key(scan.subject))]


def scanners_of(side: str) -> list[Scanner]:
    """Return the scanners of one side; the other side has the others."""
    every = load_scanners()
    return [every[name] for name in sorted(every)[SIDES.index(side) :: 2]]


def targets_of(side: str, domains: Sequence[str]) -> list[str]:
    """Return the target domains of one side; the other side has the others."""
    return sorted(domains)[SIDES.index(side) :: 2]


def seen(head: Anatomy, scanner: Scanner, seed: Sequence[int]) -> PreparedScan:
    """Return a head as a scanner sees it, prepared; `seed` is that of the head's scans."""
    rng = np.random.default_rng([*seed, *scanner.name.encode()])
    return prepare_scan(scan_head(head, scanner, rng), brain_mask=head.brain_mask)


def shipped_method() -> DiffusionHarmonizer:
    """Return the default method of the shipped model."""
    model = shipped_model()
    return load_diffusion(model)


def domain(name: str) -> Domain:
    """Return a domain by its name alone."""
    return Domain(name, name)


def psnr(made: FloatArray, truth: FloatArray) -> float:
    """Return the PSNR, dB."""
    return peak_ratio(float(np.mean((made.astype(np.float64) - truth) ** 2)))


def spread(values: Sequence[float] | NDArray[np.floating], *percentiles: int) -> list[float]:
    """Return the median and percentiles."""
    return [float(value) for value in np.percentile(values, (50, *percentiles))]
