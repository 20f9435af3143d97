"""What a cohort of virtual heads consists of: arguments checked, and each subject's head."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mrharmony
from mrharmony.prepare.grid import Grid
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.pose import random_pose
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.volume import Matrix, MrharmonyError

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
            "Version": mrharmony.__version__,
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
