"""Virtual cohorts by recipe, on the anatomies of real people where there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mrharmony.cohort.preparing import prepare_brains
from mrharmony.prepare import Grid
from mrharmony.scans import BidsIndex
from mrharmony.simulate import Anatomy, anatomies_of, load_recipe, write_recipe_cohort
from mrharmony.volume import MrharmonyError

ZOOM = 2.0  # mm, of the anatomies


def simulate_recipes(
    out: Path, recipes: Sequence[str], subjects: tuple[int, int] | None, anatomies: Sequence[Anatomy]
) -> list[Path]:
    """Write a cohort for each recipe: into `out` itself if there is one, else into folders of their names.

    Parameters
    ----------
    out
        New or empty folder, or one that the same call began.
    recipes
        Names of recipes that ship, or YAML files.
    subjects
        Training subjects of each site, and test subjects, instead of the recipes' own.
    anatomies
        As in `write_recipe_cohort`.
    """
    chosen = [load_recipe(name) for name in recipes]
    folders = [out] if len(chosen) == 1 else [out / recipe.name for recipe in chosen]
    for recipe, folder in zip(chosen, folders, strict=True):
        write_recipe_cohort(folder, recipe, subjects=subjects, anatomies=anatomies)
    return folders


def anatomies_of_bids(bids_dir: Path, only: Sequence[str], cache: Path) -> list[Anatomy]:
    """Prepare and segment the scans of a data set; prepared brains are kept in `cache`.

    Raises
    ------
    MrharmonyError
        If no scan could be used.
    """
    scans = [scan for scan in BidsIndex.open(bids_dir).scans if not only or scan.domain in only]
    # At random but always alike: the first are for training, and folders are sorted by site.
    scans.sort(key=lambda scan: hashlib.sha256(scan.subject.encode()).hexdigest())
    brains, _ = prepare_brains([scan.path for scan in scans], Grid.working(ZOOM), cache)
    found = [brains[scan.path] for scan in scans if scan.path in brains]
    if not found:
        raise MrharmonyError(f"{bids_dir}: no usable scan of {', '.join(only) or 'any domain'}.")
    return anatomies_of((brain.volume, brain.mask) for brain in found)
