"""Virtual cohorts from recipes: sites with training subjects of their own, and test subjects that travel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import mrharmony
from mrharmony.progress import track
from mrharmony.simulate._cohort_files import scan_path, subject_label, write_tables
from mrharmony.simulate._cohort_plan import crop_to_head, digests, field_of_view
from mrharmony.simulate._cohort_records import volume_columns
from mrharmony.simulate._cohort_writing import claim, write_subject
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.pose import random_pose
from mrharmony.simulate.recipe import Recipe, load_recipe, recipe_fault
from mrharmony.simulate.recipe_subjects import Subject, plan_subjects
from mrharmony.volume import Matrix, MrharmonyError

WHAT = "Training subjects were scanned at their own site; test subjects travelled to every scanner."


def write_recipe_cohort(
    out_dir: Path | str,
    recipe: Recipe | str | Path,
    *,
    seed: int | None = None,
    zoom: float | None = None,
    subjects: tuple[int, int] | None = None,
    pose: bool = True,
    anatomies: Sequence[Anatomy] = (),
) -> tuple[Path, ...]:
    """Write a recipe's cohort as a BIDS data set, with the truth under `derivatives/truth`.

    The same arguments give the same bytes. A run that was interrupted continues where it stopped.

    Parameters
    ----------
    out_dir
        New or empty folder, or one that the same call began.
    recipe
        A recipe, the name of one that ships, or the path of a YAML file.
    seed, zoom
        Instead of the recipe's own.
    subjects
        Training subjects of each site, and test subjects, instead of the recipe's own.
    pose
        Whether heads lie a little rotated and shifted in the scanner, as people do.
    anatomies
        Real people's anatomies (`segment_brain`) to base the heads on, at least two: the first 60 % in turn
        for training, the others for testing. The average if empty.

    Returns
    -------
    tuple of Path
        The scans, `sub-*/ses-*/anat/*_T1w.nii.gz`.

    Raises
    ------
    MrharmonyError
        If the folder holds something else, or the recipe, a number or the anatomies are not right.
    """
    training, test = subjects or (None, None)
    changes = {"seed": seed, "zoom": zoom, "training_subjects": training, "test_subjects": test}
    chosen = _with(recipe if isinstance(recipe, Recipe) else load_recipe(recipe), changes)
    everyone = plan_subjects(chosen, len(anatomies))
    root = Path(out_dir)
    claim(root, _record(chosen, everyone, pose, anatomies))

    def make_head(index: int) -> tuple[Anatomy, Matrix]:
        return _head(chosen, everyone[index], index, pose, anatomies)

    rows = []
    for index in track(range(len(everyone)), "simulating heads"):
        truth = write_subject(root, chosen.seed, index, everyone[index].scanners, make_head)
        rows.append(_row(index, everyone[index], truth))
    write_tables(root, rows, [subject.scanners for subject in everyone], WHAT)
    return tuple(
        scan_path(root, index, scanner)
        for index, subject in enumerate(everyone)
        for scanner in subject.scanners
    )


def _with(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    wanted = {name: value for name, value in changes.items() if value is not None}
    try:
        return Recipe.model_validate(recipe.model_dump() | wanted)
    except ValidationError as error:
        raise MrharmonyError(f"{recipe.name}: {recipe_fault(error)}") from error


def _record(
    recipe: Recipe, subjects: Sequence[Subject], pose: bool, anatomies: Sequence[Anatomy]
) -> dict[str, Any]:
    """Return what makes two cohorts the same, as JSON."""
    scanners = {scanner.name: scanner for subject in subjects for scanner in subject.scanners}
    return {
        "Recipe": recipe.model_dump(mode="json"),
        "Scanners": [scanner.model_dump(mode="json") for scanner in scanners.values()],
        "Pose": pose,
        "Anatomies": digests(anatomies),
        "Version": mrharmony.__version__,
    }


def _head(
    recipe: Recipe, subject: Subject, index: int, pose: bool, anatomies: Sequence[Anatomy]
) -> tuple[Anatomy, Matrix]:
    """Make a subject's head, cropped, and scanner mm to template mm."""
    rng = np.random.default_rng([recipe.seed, 0, index])
    lies = random_pose(rng) if pose else np.eye(4)
    person = subject.person
    head = virtual_head(
        rng,
        field_of_view(recipe.zoom),
        None if subject.base is None else anatomies[subject.base],
        person.ventricle_scale,
        pose=lies,
        cortical_thinning=person.cortical_thinning,
        lesions_ml=person.lesions_ml,
    )
    return crop_to_head(head), lies


def _row(index: int, subject: Subject, truth: dict[str, Any]) -> dict[str, str]:
    return {
        "participant_id": subject_label(index),
        "split": subject.split,
        "site": subject.site,
        "age": f"{subject.person.age:.1f}",
        "group": subject.person.group,
        "ventricle_scale": f"{truth['VentricleScale']:.4f}",
        "cortical_thinning": f"{truth['CorticalThinning']:.4f}",
        "lesions_ml": f"{truth['VolumesMl']['Lesions']:.2f}",
        **volume_columns(truth),
    }
