"""Images of a cohort, with a seal in their sidecars by which a later call knows them again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrharmony.core.atomic import read_json, staged, write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.volume import Matrix
from mrharmony.scans.names import sidecar_path
from mrharmony.scans.writing import write_gzip

_SEAL = "SimulationSHA256"  # of the simulation, the image's name and content, and its sidecar


@dataclass(frozen=True)
class SealedImages:
    """The images of one simulation.

    Parameters
    ----------
    simulation
        Everything that decides what they contain, as JSON.
    """

    simulation: dict[str, Any]

    def finished(self, path: Path) -> bool:
        """Whether an image and its sidecar are there as they were written.

        One of which either is missing is unfinished. Raises `MrharmonyError` where another file has the name
        of either.
        """
        if not (os.path.lexists(path) and os.path.lexists(sidecar_path(path))):
            return False
        note = read_json(sidecar_path(path)) or {}
        seal = note.pop(_SEAL, None)
        if not path.is_file() or seal != self._seal(path.name, file_sha256(path), note):
            raise _other_file(path)
        return True

    def write(self, path: Path, voxels: NDArray[np.generic], affine: Matrix, note: dict[str, Any]) -> None:
        """Write an image that is not `finished`: its sealed sidecar first, then itself, each atomically.

        It is written in scanner coordinates, and the same voxels give the same bytes; where just these are
        there already, they stay. Raises `MrharmonyError` where another file has the image's name, which a run
        that was ended does not leave, or the operating system refuses.
        """
        image = nib.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        with staged(path) as file:
            file.fill(lambda stream: write_gzip(stream, image))
            sha256 = file_sha256(file.temporary)
            there = os.path.lexists(path)
            if there and not (path.is_file() and file_sha256(path) == sha256):
                raise _other_file(path)
            write_json(sidecar_path(path), note | {_SEAL: self._seal(path.name, sha256, note)})
            if not there:
                file.commit()

    def _seal(self, name: str, sha256: str, note: dict[str, Any]) -> str:
        about = json.dumps([self.simulation, name, sha256, note], sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()


def _other_file(path: Path) -> MrharmonyError:
    return MrharmonyError(
        f"{path}: is not the file that was simulated here, or its sidecar was changed. "
        "Move it away and call again; it is made anew, with its sidecar."
    )
