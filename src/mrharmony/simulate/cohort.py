"""Cohorts of virtual heads, written as BIDS with the truth: heads that travel, or the sites of a recipe."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.records import first_fault
from mrharmony.core.version import __version__
from mrharmony.core.volume import Matrix, Volume
from mrharmony.scans.names import sidecar_path
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.cohort_files import (
    claim,
    scan_path,
    scan_sidecar,
    subject_label,
    truth_path,
    truth_record,
    volume_columns,
    write_tables,
)
from mrharmony.simulate.foreign.heads import LabelledHead, labelled_head
from mrharmony.simulate.foreign.scanning import scan_labelled
from mrharmony.simulate.foreign.sites import Site
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.label_maps import LabelMap
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.recipe import ZOOM_RANGE_MM, AnyScanner, Recipe, Subject, load_recipe, plan_subjects
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.sealed_images import SealedImages
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
TRAVELLING = "Every head was scanned by every scanner."
Base = Anatomy | LabelMap
Head = Anatomy | LabelledHead
BY_RECIPE = "Training subjects were scanned at their own site; test subjects travelled to every scanner."


@dataclass(frozen=True)
class Cohort:
    """Everything that decides what a cohort's files contain; numbers and anatomies as in `write_cohort`.

    Without a recipe all heads travel, and their ventricles are drawn with the head.
    """

    recipe: Recipe | None
    subjects: tuple[Subject, ...]
    seed: int
    zoom: float
    pose: bool
    anatomies: Sequence[Base]

    def write(self, root: Path) -> tuple[Path, ...]:
        """Write what is missing of the cohort; return the scans' paths.

        Raises `MrharmonyError` where the folder holds something else, or an image is not the one that was
        written.
        """
        images = SealedImages(self._record())
        claim(root, images.simulation)
        everyone = list(enumerate(self.subjects))
        rows = [self._write_subject(root, index, images) for index, _ in track(everyone, "simulating heads")]
        visits = [subject.scanners for subject in self.subjects]
        whole = any(_is_whole(base) for base in self.anatomies)
        write_tables(root, rows, visits, BY_RECIPE if self.recipe else TRAVELLING, whole=whole)
        return tuple(scan_path(root, index, s) for index, subject in everyone for s in subject.scanners)

    def _record(self) -> dict[str, Any]:
        """Return what makes two cohorts the same, as JSON."""
        distinct = {scanner.name: scanner for subject in self.subjects for scanner in subject.scanners}
        scanners: dict[str, Any] = {
            "Scanners": [scanner.model_dump(mode="json") for scanner in distinct.values()]
        }
        if self.recipe:
            record = {"Recipe": self.recipe.model_dump(mode="json")} | scanners
        else:
            record = {"Subjects": len(self.subjects)} | scanners | {"Seed": self.seed, "Zoom": self.zoom}
        return record | {"Pose": self.pose, "Anatomies": digests(self.anatomies), "Version": __version__}

    def _write_subject(self, root: Path, index: int, images: SealedImages) -> dict[str, str]:
        """Write what is missing of a subject's scans and truth; return its row of `participants.tsv`."""
        subject, truth = self.subjects[index], truth_path(root, index)
        record = read_json(sidecar_path(truth)) if images.finished(truth) else None
        todo = [s for s in subject.scanners if not images.finished(scan_path(root, index, s))]
        if todo or record is None:
            head, pose = self._head(index)
            for scanner in todo:
                # The scanner's own name seeds its noise, so that its scans do not depend on which others ran.
                rng = np.random.default_rng([self.seed, index, zlib.crc32(scanner.name.encode())])
                volume = _scan(head, scanner, rng)
                path = scan_path(root, index, scanner)
                note = scan_sidecar(scanner, whole=_is_whole(head))
                images.write(path, volume.voxels, volume.affine, note)
            if record is None:
                true = head.anatomy if isinstance(head, LabelledHead) else head
                record = truth_record(true, pose)
                images.write(truth, true.labels(), true.affine, record)
        return _row(index, subject, record)

    def _head(self, index: int) -> tuple[Head, Matrix]:
        """Make a subject's head, cropped, and scanner mm to template mm."""
        subject = self.subjects[index]
        base = None if subject.base is None else self.anatomies[subject.base]
        person = subject.person
        rng = np.random.default_rng([self.seed, index] if person is None else [self.seed, 0, index])
        pose = random_pose(rng) if self.pose else np.eye(4)
        factors = person.factors if person else {}
        if isinstance(base, LabelMap):
            scale = factors["ventricle_scale"]
            return labelled_head(rng, field_of_view(self.zoom), base, scale, pose).crop(MARGIN_MM), pose
        return crop_to_head(virtual_head(rng, field_of_view(self.zoom), base, pose=pose, **factors)), pose


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
        Anatomies to base the heads on, in turn: real people's (`segment_brain`), or `shipped_head`; the
        average if empty.

    Returns
    -------
    tuple of Path
        The scans, `sub-*/ses-*/anat/*_T1w.nii.gz`.

    Raises
    ------
    MrharmonyError
        If the folder holds something else, or another file in place of one that was written; a scanner is
        unknown, or a number is out of range.
    """
    if not 1 <= subjects <= 999:
        raise MrharmonyError(f"a cohort has 1 to 999 subjects, not {subjects}")
    if not ZOOM_RANGE_MM[0] <= zoom <= ZOOM_RANGE_MM[1]:
        raise MrharmonyError(f"the voxel size must lie within 0.7 and 5 mm, not {zoom:g}")
    if seed < 0:
        raise MrharmonyError(f"the seed must not be negative, but is {seed}")
    chosen = _choose(scanners)
    bases = [index % len(anatomies) if anatomies else None for index in range(subjects)]
    everyone = tuple(Subject(chosen, base) for base in bases)
    return Cohort(None, everyone, seed, float(zoom), pose, anatomies).write(Path(out_dir))


def write_recipe_cohort(
    out_dir: Path | str,
    recipe: Recipe | str | Path,
    *,
    seed: int | None = None,
    zoom: float | None = None,
    subjects: tuple[int, int] | None = None,
    pose: bool = True,
    anatomies: Sequence[Base] = (),
) -> tuple[Path, ...]:
    """Write a recipe's cohort, and return its scans, as `write_cohort` does for travelling heads.

    Parameters
    ----------
    out_dir, pose
        As in `write_cohort`.
    recipe
        A recipe, the name of one that ships, or the path of a YAML file.
    seed, zoom
        Instead of the recipe's own.
    subjects
        Training subjects of each site, and test subjects, instead of the recipe's own.
    anatomies
        Real people's anatomies (`segment_brain`) to base the heads on, at least two: the first 60 % in turn
        for training, the others for testing. The average if empty. For a recipe of measured sites: label maps
        in template millimetres.

    Raises
    ------
    MrharmonyError
        If the folder holds something else, or another file in place of one that was written; the recipe, a
        number or the anatomies are not right.
    """
    training, test = subjects or (None, None)
    given = {"seed": seed, "zoom": zoom, "training_subjects": training, "test_subjects": test}
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    try:
        chosen = Recipe.model_validate(chosen.model_dump() | changes)
    except ValidationError as error:
        raise MrharmonyError(f"{chosen.name}: {first_fault(error)}") from error
    if chosen.takes_label_maps != any(isinstance(base, LabelMap) for base in anatomies):
        kind = "label maps of whole heads" if chosen.takes_label_maps else "no label maps"
        raise MrharmonyError(f"{chosen.name}: this recipe's scanners take {kind}; give it those as anatomies")
    everyone = plan_subjects(chosen, len(anatomies))
    return Cohort(chosen, everyone, chosen.seed, chosen.zoom, pose, anatomies).write(Path(out_dir))


def _choose(scanners: int | Sequence[str | Scanner]) -> tuple[Scanner, ...]:
    known = load_scanners()
    if isinstance(scanners, int):
        if not 1 <= scanners <= len(USUAL_ORDER):
            raise MrharmonyError(
                f"{len(USUAL_ORDER)} scanners ship, so 1 to {len(USUAL_ORDER)}, not {scanners}"
            )
        return tuple(known[name] for name in USUAL_ORDER[:scanners])
    unknown = [item for item in scanners if isinstance(item, str) and item not in known]
    if unknown or not scanners:
        fault = f"unknown scanner {unknown[0]!r}" if unknown else "no scanner is named"
        raise MrharmonyError(f"{fault}; known scanners: {', '.join(known)}")
    chosen = tuple(known[item] if isinstance(item, str) else item for item in scanners)
    sessions = [scanner.session for scanner in chosen]
    twice = next((label for label in sessions if sessions.count(label) > 1), None)
    if twice:
        raise MrharmonyError(f"two scanners share the session label {twice!r}; name each scanner once")
    return chosen


def digests(anatomies: Sequence[Base]) -> list[str]:
    """Return what distinguishes anatomies: SHA-256 of their labels, or of tissues and what is around them."""
    return [
        hashlib.sha256(b"".join(one.tobytes() for one in _voxels(base))).hexdigest() for base in anatomies
    ]


def _voxels(base: Base) -> list[NDArray[np.generic]]:
    if isinstance(base, LabelMap):
        return [base.labels]
    return [base.tissues] if base.around is None else [base.tissues, base.around]


def _is_whole(base: Base | Head) -> bool:
    """Whether heads on this base, or this head, are not skull-stripped."""
    return isinstance(base, Anatomy) and base.around is not None


def _scan(head: Head, scanner: AnyScanner, rng: np.random.Generator) -> Volume:
    """Scan a head by the simulator that it and the scanner belong to; a recipe holds one kind only."""
    if isinstance(head, LabelledHead):
        assert isinstance(scanner, Site)
        return scan_labelled(head, scanner, rng)
    assert isinstance(scanner, Scanner)
    return scan_head(head, scanner, rng)


def field_of_view(zoom: float) -> Grid:
    """Return the grid of a scan with voxels of `zoom` mm, before it is cropped around the head."""
    counts = np.ceil(np.array(FIELD_OF_VIEW_MM) / zoom).astype(int)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = np.array(FIELD_CENTRE_MM) - (counts - 1) * zoom / 2
    return Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine)


def crop_to_head(head: Anatomy) -> Anatomy:
    """Return the brain, or the whole head, with a margin of 6 mm."""
    return head.crop(*head.box(MARGIN_MM))


def _row(index: int, subject: Subject, truth: dict[str, Any]) -> dict[str, str]:
    row = {"participant_id": subject_label(index)}
    person, scale = subject.person, {"ventricle_scale": f"{truth['VentricleScale']:.4f}"}
    if person is None:
        return row | scale | volume_columns(truth)
    return {
        **row,
        "split": subject.split,
        "site": subject.site,
        "age": f"{person.age:.1f}",
        "group": person.group,
        **scale,
        "cortical_thinning": f"{truth['CorticalThinning']:.4f}",
        "lesions_ml": f"{truth['VolumesMl']['Lesions']:.2f}",
        **volume_columns(truth),
    }
