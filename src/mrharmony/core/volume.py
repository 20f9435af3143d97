"""The types that every part of mrharmony shares: volumes, domains, findings and the one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Matrix = NDArray[np.float64]

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed about a scan, and what to do about it.

    Parameters
    ----------
    level
        `info` is worth knowing, `warning` deserves a look, `error` means the scan is refused.
    code
        Short stable identifier, for scripts: `truncated-gzip`, `missing-affine`, …
    message
        One sentence: what is wrong.
    fix
        One sentence: what to do about it.
    """

    level: Level
    code: str
    message: str
    fix: str


class MrharmonyError(Exception):
    """An expected failure, told in one sentence: which file or value, what is wrong, what to do."""


class ScanRefused(MrharmonyError):
    """A scan that cannot be worked on, with the findings that say why.

    Parameters
    ----------
    path
        The refused file.
    findings
        What the checks found; the first error among them is the reason.
    """

    def __init__(self, path: Path | str, findings: tuple[Finding, ...]) -> None:
        self.path = Path(path)
        self.findings = findings
        reason = next((f for f in findings if f.level == "error"), findings[0])
        super().__init__(f"{self.path}: {reason.message} {reason.fix}")


@dataclass(frozen=True)
class Domain:
    """A site, scanner or protocol: the name users type and the prompt the model understands."""

    name: str
    prompt: str


def same_name(one: str, other: str) -> bool:
    """Whether two names mean the same domain: case, hyphens, dots and spaces make no difference."""
    return _letters(one) == _letters(other)


def require_distinct(names: Iterable[str]) -> None:
    """Refuse names of different domains that mean the same.

    Raises
    ------
    MrharmonyError
        If two of the names are equal but for case, hyphens, dots or spaces.
    """
    for one, other in combinations(names, 2):
        if same_name(one, other):
            raise MrharmonyError(f"{other}: cannot be told from {one}. Rename one of the two domains.")


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image and where it lies in the world; immutable.

    Parameters
    ----------
    voxels
        Intensities, shape (i, j, k), float32.
    affine
        Voxel indices to world millimetres (RAS+), shape (4, 4), float64.
    """

    voxels: FloatArray
    affine: Matrix

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels, dtype=np.float32).view()
        affine = np.array(self.affine, dtype=np.float64)
        if voxels.ndim != 3 or affine.shape != (4, 4):
            raise ValueError(f"expected (i, j, k) and a 4x4 affine, got {voxels.shape}, {affine.shape}")
        voxels.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxel counts along i, j, k."""
        i, j, k = self.voxels.shape
        return i, j, k

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel edge lengths along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def orientation(self) -> str:
        """Axis codes such as `RAS`: the world direction in which each voxel axis grows."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def with_voxels(self, voxels: NDArray[np.generic]) -> Volume:
        """Return a volume on the same grid with other intensities, shape (i, j, k)."""
        if voxels.shape != self.shape:
            raise ValueError(f"expected voxels of shape {self.shape}, got {voxels.shape}")
        return Volume(np.asarray(voxels, dtype=np.float32), self.affine)

    def __repr__(self) -> str:
        zooms = "×".join(f"{zoom:.3g}" for zoom in self.zooms)
        shape = "×".join(str(size) for size in self.shape)
        return f"Volume({shape}, {zooms} mm, {self.orientation})"
