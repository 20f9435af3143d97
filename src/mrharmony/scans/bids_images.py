"""The T1w images of a BIDS folder, by their names alone, and what stands in the way of finding them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Self

from mrharmony.core.atomic import read_json
from mrharmony.core.findings import Finding, MrharmonyError, ScanRefused, info, warning
from mrharmony.core.wording import some_of
from mrharmony.scans.folders import IN_A_COPY, closed_folder, entries_of, is_kind
from mrharmony.scans.names import DESCRIPTION, T1W_SUFFIXES, entities, scan_stem
from mrharmony.scans.participants import PARTICIPANTS

# Entities of images that mrharmony writes: their names end in `_T1w`, but they are no scans.
OWN_MAPS = frozenset({"desc-uncertainty", "desc-canonical", "desc-volumecorrected"})
NO_MAGNITUDE = frozenset({"part-phase", "part-real", "part-imag"})
NO_SCAN = "bids-no-scan"  # the finding of people without a T1w scan
_TELLING = (PARTICIPANTS, DESCRIPTION)  # files that no folder has but a BIDS folder
_NEARLY = re.compile(r"(?<![a-z0-9])(t1w?|unit1)\.(nii(\.gz)?|mg[hz])$", re.IGNORECASE)  # ends such a name


class T1wImages:
    """The T1w images of a BIDS folder, by their names, and what stands in the way of finding them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: list[Path] = []  # sorted
        self.subjects: list[Path] = []  # their folders
        self.twins: list[Path] = []  # uncompressed images beside compressed ones, not read
        self.beside: list[Path] = []  # UNIT1 images beside T1w ones, not read
        self.nearly: list[Path] = []  # files that are named, or lie, nearly as T1w images do
        self.closed: list[ScanRefused] = []

    @classmethod
    def below(cls, root: Path) -> Self:
        """Look through a folder; `MrharmonyError` where it is none."""
        images = cls(root)
        try:
            images.subjects = [path for path in entries_of(root) if path.name.startswith("sub-")]
        except (FileNotFoundError, NotADirectoryError) as failure:
            message = f"{root}: not a folder. Give the folder that holds the sub-* folders."
            raise MrharmonyError(message) from failure
        except OSError as failure:
            raise ScanRefused(root, (closed_folder(root, failure),)) from failure
        for subject in images.subjects:
            inside = images._inside(subject)
            sessions = (images._inside(path) for path in inside if path.name.startswith("ses-"))
            for path in (path for entries in (inside, *sessions) for path in entries):
                if path.name == "anat":
                    images._add(images._inside(path))
                elif _is_nearly_image(path):
                    images.nearly.append(path)
        images.found.sort()
        return images

    def require_found(self) -> None:
        """Raise `MrharmonyError` where there is no image."""
        if not self.found:
            missing = f"{self.root}: no scans sub-*/[ses-*/]anat/*_T1w.nii[.gz]"
            nearest = self._nearest(self.without)
            remedy = f"Name the scans as BIDS does {IN_A_COPY}." if nearest else "Check the folder."
            raise next(iter(self.closed), MrharmonyError(f"{missing}{nearest}. {remedy}"))

    def findings(self) -> Iterator[Finding]:
        """Say what was not read, and why."""
        for one in self.closed:
            yield from one.findings
        for path in self.twins:
            name = path.relative_to(self.root)
            yield warning(
                "bids-duplicate",
                f"{name} lies beside its compressed twin; {name.name}.gz is read.",
                f"If that is the wrong one, leave it out {IN_A_COPY}.",
            )
        if self.beside:
            subjects = sorted({self._folder(path) for path in self.beside})
            yield info(
                "bids-unit1",
                f"{len(self.beside)} UNIT1 images of {some_of(subjects)} lie beside T1w scans, "
                "which are read.",
                "If they are meant, harmonize them singly into a folder of their own.",
            )
        yield from self.no_scan()

    @property
    def people(self) -> list[str]:
        """Names of the subjects' folders."""
        return [folder.name for folder in self.subjects if not is_kind(folder, stat.S_ISREG)]

    @property
    def without(self) -> list[str]:
        """Of these, those in which no image is found; closed folders are told already."""
        known = {self._folder(path) for path in (*self.found, *(one.path for one in self.closed))}
        return [name for name in self.people if name not in known]

    def no_scan(self) -> Iterator[Finding]:
        """Name the people who have no scan, and a file that may be one."""
        if without := self.without:
            have = "has" if len(without) == 1 else "have"
            yield warning(
                NO_SCAN,
                f"{len(without)} of {len(self.people)} people {have} no T1w scan: "
                f"{some_of(without)}{self._nearest(without)}.",
                f"If that is not meant, name their scans as BIDS does {IN_A_COPY}.",
            )

    def _nearest(self, people: Collection[str]) -> str:
        """Name a file that may be the scan of one of these people; nothing if there is none."""
        path = next((path for path in self.nearly if self._folder(path) in people), None)
        if path is None:
            return ""
        name = self._folder(path)
        return f"; {name} has {path.relative_to(self.root / name)}, which BIDS writes anat/*_T1w.nii.gz"

    def _folder(self, path: Path) -> str:
        return path.relative_to(self.root).parts[0]

    def _inside(self, folder: Path) -> list[Path]:
        try:
            return entries_of(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as failure:
            name = folder.relative_to(self.root)
            self.closed.append(ScanRefused(folder, (closed_folder(name, failure),)))
            return []

    def _add(self, paths: Sequence[Path]) -> None:
        """Add the images of one folder."""
        plain, unit1 = ([path for path in paths if _is_image(path, suffix)] for suffix in T1W_SUFFIXES)
        self.beside += unit1 if plain else []
        images = plain or unit1
        twins = [path for path in images if path.with_name(f"{path.name}.gz") in images]
        self.twins += twins
        self.found += [path for path in images if path not in twins]
        self.nearly += [path for path in paths if path not in images and _is_nearly_image(path)]


def people_without_scan(folder: Path) -> tuple[Finding, ...]:
    """Return what is to be said of a BIDS data set's people without a T1w scan; nothing of any other folder.

    Derivatives, such as a folder of `mrharmony prepare`, need not have scans of their own.
    """
    if (read_json(folder / DESCRIPTION) or {}).get("DatasetType") == "derivative":
        return ()
    try:
        images = T1wImages.below(folder)
    except ScanRefused:  # it cannot be listed
        return ()
    is_bids = images.found or any(os.path.lexists(folder / name) for name in _TELLING)
    return tuple(images.no_scan()) if is_bids else ()


def described_data_sets(folder: Path) -> list[Path]:
    """Return a folder and those directly in it that hold a description of a data set, sorted."""
    return [folder, *sorted(found.parent for found in folder.glob(f"*/{DESCRIPTION}"))]


def _is_image(path: Path, suffix: str) -> bool:
    return path.name.endswith((f"_{suffix}.nii", f"_{suffix}.nii.gz")) and _is_anatomy(path)


def _is_nearly_image(path: Path) -> bool:
    return _NEARLY.search(path.name) is not None and _is_anatomy(path)


def _is_anatomy(path: Path) -> bool:
    return not path.name.startswith(".") and not (OWN_MAPS | NO_MAGNITUDE) & entities(scan_stem(path))
