"""What a cohort of virtual heads consists of: arguments checked, and each subject's head.

Cohorts of virtual travelling heads: every head through every scanner, written as BIDS with the truth.

Virtual cohorts from recipes: sites with training subjects of their own, and test subjects that travel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mrharmony.core.progress import track
from mrharmony.core.version import __version__
from mrharmony.core.volume import Matrix, MrharmonyError
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.cohort_files import (
    claim,
    scan_path,
    subject_label,
    volume_columns,
    write_subject,
    write_tables,
)
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.recipe import Recipe, Subject, load_recipe, plan_subjects, recipe_fault
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.space.grid import Grid

# The order in which a mere number of scanners is filled: the first ones differ the most.
USUAL_ORDER = (
    "mprage-3t", "mprage-3t-soft", "spgr-1.5t", "mprage-1.5t",
    "spgr-3t", "mprage-3t-array", "irspgr-3t", "tfe-3t",
    "mp2rage-3t", "tfe-1.5t", "flash-1.5t-thick", "irspgr-3t-motion",
)  # fmt: skip
FIELD_OF_VIEW_MM = (192.0, 256.0, 208.0)
FIELD_CENTRE_MM = (0.0, -17.0, 2.0)
MARGIN_MM = 6.0
ZOOM_RANGE_MM = (0.7, 5.0)


@dataclass(frozen=True)
class CohortPlan:
    """All that decides what a cohort's files contain.

    Parameters
    ----------
    subjects, seed, zoom, pose
        As in `write_cohort`.
    scanners
        In the order of the sessions.
    anatomies
        Base anatomies, used in turn; empty for the average.
    """

    subjects: int
    scanners: tuple[Scanner, ...]
    seed: int
    zoom: float
    pose: bool
    anatomies: tuple[Anatomy, ...]

    def record(self) -> dict[str, Any]:
        """Return what makes two cohorts the same, as JSON."""
        return {
            "Subjects": self.subjects,
            "Scanners": [scanner.model_dump(mode="json") for scanner in self.scanners],
            "Seed": self.seed,
            "Zoom": self.zoom,
            "Pose": self.pose,
            "Anatomies": digests(self.anatomies),
            "Version": __version__,
        }

    def head(self, index: int) -> tuple[Anatomy, Matrix]:
        """Make subject `index`: the anatomy cropped around the head, and scanner mm to template mm."""
        rng = np.random.default_rng([self.seed, index])
        pose = random_pose(rng) if self.pose else np.eye(4)
        base = self.anatomies[index % len(self.anatomies)] if self.anatomies else None
        return crop_to_head(virtual_head(rng, field_of_view(self.zoom), base, pose=pose)), pose


def make_plan(
    subjects: int,
    scanners: int | Sequence[str | Scanner],
    seed: int,
    zoom: float,
    pose: bool,
    anatomies: Sequence[Anatomy],
) -> CohortPlan:
    """Check the arguments of `write_cohort` and gather them; `MrharmonyError` where one is wrong."""
    if not 1 <= subjects <= 999:
        raise MrharmonyError(f"a cohort has 1 to 999 subjects, not {subjects}")
    if not ZOOM_RANGE_MM[0] <= zoom <= ZOOM_RANGE_MM[1]:
        raise MrharmonyError(f"the voxel size must lie within 0.7 and 5 mm, not {zoom:g}")
    if seed < 0:
        raise MrharmonyError(f"the seed must not be negative, but is {seed}")
    return CohortPlan(subjects, _choose(scanners), seed, float(zoom), pose, tuple(anatomies))


def _choose(wanted: int | Sequence[str | Scanner]) -> tuple[Scanner, ...]:
    known = load_scanners()
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(USUAL_ORDER):
            raise MrharmonyError(
                f"{len(USUAL_ORDER)} scanners ship, so 1 to {len(USUAL_ORDER)}, not {wanted}"
            )
        return tuple(known[name] for name in USUAL_ORDER[:wanted])
    unknown = [item for item in wanted if isinstance(item, str) and item not in known]
    if unknown or not wanted:
        fault = f"unknown scanner {unknown[0]!r}" if unknown else "no scanner is named"
        raise MrharmonyError(f"{fault}; known scanners: {', '.join(known)}")
    chosen = tuple(known[item] if isinstance(item, str) else item for item in wanted)
    sessions = [scanner.session for scanner in chosen]
    twice = next((label for label in sessions if sessions.count(label) > 1), None)
    if twice:
        raise MrharmonyError(f"two scanners share the session label {twice!r}; name each scanner once")
    return chosen


def digests(anatomies: Sequence[Anatomy]) -> list[str]:
    """Return what tells anatomies apart: SHA-256 of their tissues."""
    return [hashlib.sha256(base.tissues.tobytes()).hexdigest() for base in anatomies]


def field_of_view(zoom: float) -> Grid:
    """Return the grid of a scan with voxels of `zoom` mm, before it is cropped around the head."""
    counts = np.ceil(np.array(FIELD_OF_VIEW_MM) / zoom).astype(int)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = np.array(FIELD_CENTRE_MM) - (counts - 1) * zoom / 2
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)


def crop_to_head(head: Anatomy) -> Anatomy:
    """Return the head with a margin of 6 mm."""
    margin = round(MARGIN_MM / head.zooms[0])
    spans = []
    for axis, size in enumerate(head.shape):
        found = np.flatnonzero(head.brain_mask.any(axis=tuple(a for a in range(3) if a != axis)))
        spans.append(slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + margin + 1, size)))
    return head.crop(*spans)


def write_cohort(
    out_dir: Path | str,
    subjects: int,
    scanners: int | Sequence[str | Scanner],
    seed: int = 0,
    zoom: float = 2.0,
    *,
    pose: bool = True,
    anatomies: Sequence[Anatomy] = (),
) -> tuple[Path, ...]:
    """Write virtual travelling heads as a BIDS data set, with the truth under `derivatives/truth`.

    The same arguments give the same bytes. A run that was interrupted continues where it stopped.

    Parameters
    ----------
    out_dir
        New or empty folder, or one that the same call began.
    subjects
        How many heads, 1..999.
    scanners
        How many of the shipped scanners, or which: names, or scanners of your own.
    seed
        Of everything random, ≥ 0.
    zoom
        Voxel edge in mm, 0.7..5.
    pose
        Whether heads lie a little rotated and shifted in the scanner, as people do.
    anatomies
        Real people's anatomies (`segment_brain`) to base the heads on, in turn; the average if empty.

    Returns
    -------
    tuple of Path
        The scans, `sub-*/ses-*/anat/*_T1w.nii.gz`.

    Raises
    ------
    MrharmonyError
        If the folder holds something else, a scanner is unknown, or a number is out of range.
    """
    plan = make_plan(subjects, scanners, seed, zoom, pose, anatomies)
    root = Path(out_dir)
    claim(root, plan.record())
    rows = []
    for index in track(range(subjects), "simulating heads"):
        truth = write_subject(root, plan.seed, index, plan.scanners, plan.head)
        rows.append(_row(index, truth))
    write_tables(root, rows, [plan.scanners] * subjects, "Every head was scanned by every scanner.")
    return tuple(scan_path(root, index, scanner) for index in range(subjects) for scanner in plan.scanners)


def scanner_of_session(session: str, scanners: Sequence[Scanner] = ()) -> Scanner:
    """Return the scanner whose BIDS session label this is (`mprage3t` → `mprage-3t`).

    Parameters
    ----------
    session
        With or without `ses-`.
    scanners
        Where to look; the shipped scanners if empty.
    """
    known = {scanner.session: scanner for scanner in scanners or load_scanners().values()}
    label = session.removeprefix("ses-")
    if label not in known:
        raise MrharmonyError(f"no scanner has the session label {label!r}; known: {', '.join(sorted(known))}")
    return known[label]


def _row(index: int, truth: dict[str, Any]) -> dict[str, str]:
    scale = {"ventricle_scale": f"{truth['VentricleScale']:.4f}"}
    return {"participant_id": subject_label(index)} | scale | volume_columns(truth)


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
        rows.append(_subject_row(index, everyone[index], truth))
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
        "Version": __version__,
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


def _subject_row(index: int, subject: Subject, truth: dict[str, Any]) -> dict[str, str]:
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
