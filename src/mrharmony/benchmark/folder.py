"""The files of a benchmark: brains, fitted methods, records; a folder belongs to one set of arguments."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrharmony.benchmark.plan import BenchmarkScan
from mrharmony.core.atomic import begin_json, kept_arrays, read_json, write_arrays, write_json
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.hashing import file_sha256
from mrharmony.core.sealed import read_sealed, write_sealed
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.tissues import TissueSegmentation, TissueVolumes, segment_tissues
from mrharmony.preparation.canonical import CanonicalBrain

SETTINGS = "benchmark-settings.json"
FITTED = "fitted.json"  # beside a fitted method: how long it took, and what its files hold
FORMAT = 6  # of the settings, and of the files in `work`
_DAMAGED = "was damaged since it was kept. Move its folder away, and call again."


@dataclass(frozen=True)
class BenchmarkFolder:
    """The output folder of a benchmark.

    Results lie in `root`, fitted methods in `methods`, and what a run that was killed resumes from in `work`.
    Records of either that were changed since, or that belong to another scan or method, count as missing.
    """

    root: Path

    def claim(self, settings: dict[str, Any], models: Mapping[str, str]) -> None:
        """Begin the benchmark, or recognise it as begun with the same settings.

        `settings` must stay the same between runs into one folder; another benchmark or other files in it are
        refused, also where another process has just begun it. `models` holds the SHA-256 of each method's
        model: files that another model of a method has left are removed; the other methods do not depend on
        them.
        """
        path = self.root / SETTINGS
        given = json.loads(json.dumps(settings))
        record = given | {"models": dict(models)}
        if self.root.exists() and not self.root.is_dir():
            raise MrharmonyError(f"{self.root}: is a file. Name a new or empty folder.")
        # A run killed at its very start may have left a hidden temporary file.
        if not self.root.exists() or all(entry.name.startswith(".") for entry in self.root.iterdir()):
            begin_json(path, record)
        elif not path.is_file():
            raise MrharmonyError(f"{self.root}: is not empty and holds no benchmark. Choose an empty folder.")
        earlier = read_json(path)
        if earlier is None or not isinstance(earlier.get("models"), dict):
            raise MrharmonyError(f"{path}: is damaged. Name a new or empty folder.")
        odd = [name for name in given if earlier.get(name) != given[name]]
        if odd:
            raise MrharmonyError(
                f"{self.root}: holds a benchmark with another {odd[0]}. Name a new or empty folder."
            )
        for method, model in models.items():
            if earlier["models"].get(method) != model:
                self._forget(method)
        write_json(path, record)

    def _forget(self, method: str) -> None:
        """Remove a method's records, brains, figures and fits."""
        self.forget_figures(method)
        for left in (self.root / "work" / method, *self.root.glob(f"methods/fold-*/{method}")):
            shutil.rmtree(left, ignore_errors=True)

    @property
    def brains(self) -> Path:
        """Folder of the prepared brains."""
        return self.root / "work" / "brains"

    def fitted(self, fold: int, method: str) -> Path:
        """Return the folder of a method fitted on fold number `fold`'s training scans."""
        return self.root / "methods" / f"fold-{fold + 1}" / method

    def fit_seconds(self, fold: int, method: str) -> float | None:
        """Return how long a method's fit took, s; None where it is not finished."""
        record = self._read(self.fitted(fold, method) / FITTED)
        return None if record is None else float(record["seconds"])

    def add_fit(self, fold: int, method: str, seconds: float) -> None:
        """Record that a method is fitted, what its files hold, and how long that took, s."""
        folder = self.fitted(fold, method)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != FITTED)
        hashes = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
        self._write(folder / FITTED, {"seconds": seconds, "files": hashes})

    def spoilt_fit(self, fold: int, method: str) -> list[Path]:
        """Return the files of a finished fit that are gone, or do not hold what the fit wrote."""
        folder = self.fitted(fold, method)
        hashes = (self._read(folder / FITTED) or {}).get("files", {})
        files = {folder / name: known for name, known in hashes.items()}
        return [path for path, known in files.items() if not path.is_file() or file_sha256(path) != known]

    def read_scores(self, method: str, scan: BenchmarkScan) -> dict[str, Any] | None:
        """Return the record of a scan's paired scores by one method; None where it is missing."""
        return self._read(self._scores(method, scan))

    def write_scores(self, method: str, scan: BenchmarkScan, record: dict[str, Any]) -> None:
        """Keep the record of a scan's paired scores by one method."""
        self._write(self._scores(method, scan), record)

    def read_figures(self, method: str) -> dict[str, Any] | None:
        """Return a method's figures over the whole cohort; None where they are missing."""
        return self._read(self._figures(method))

    def write_figures(self, method: str, figures: dict[str, Any]) -> None:
        """Keep a method's figures over the whole cohort."""
        self._write(self._figures(method), figures)

    def forget_figures(self, method: str) -> None:
        """Remove a method's figures, which new scores make out of date."""
        self._figures(method).unlink(missing_ok=True)

    def add_session(self, taken: dict[str, Any]) -> None:
        """Record the methods and the time of a run into this folder."""
        self._write(self._sessions, {"sessions": [*self.sessions(), taken]})

    def sessions(self) -> list[dict[str, Any]]:
        """Return the records of `add_session`, in their order."""
        return list((self._read(self._sessions) or {}).get("sessions", []))

    @property
    def _sessions(self) -> Path:
        return self.root / "work" / "sessions.json"

    def _scores(self, method: str, scan: BenchmarkScan) -> Path:
        return self.root / "work" / method / f"{scan.key}.json"

    def _figures(self, method: str) -> Path:
        return self.root / "work" / f"{method}.json"

    def _read(self, path: Path) -> dict[str, Any] | None:
        return read_sealed(path, self._place(path))

    def _write(self, path: Path, record: dict[str, Any]) -> None:
        write_sealed(path, self._place(path), record)

    def _place(self, path: Path) -> str:
        """Return where a file lies in this folder, which may be moved."""
        return path.relative_to(self.root).as_posix()

    def save_brain(self, method: str, scan: BenchmarkScan, voxels: FloatArray, mask: BoolArray) -> None:
        """Keep a scan brought to the target, in canonical units, inside the mask, in half precision."""
        path = self._brain(method, scan)
        write_arrays(path, {"brain": voxels[mask].astype(np.float16)}, self._place(path))

    def has_brain(self, method: str, scan: BenchmarkScan) -> bool:
        """Whether a method has brought a scan to the benchmark's target."""
        return self._brain(method, scan).is_file()

    def load_brain(self, method: str, scan: BenchmarkScan, like: CanonicalBrain) -> CanonicalBrain:
        """Read what `save_brain` kept, with the mask and the grid of the prepared brain."""
        path = self._brain(method, scan)
        with kept_arrays(path, _DAMAGED, self._place(path)) as archive:
            voxels = np.zeros(like.mask.shape, np.float32)
            voxels[like.mask] = archive["brain"]
            return like._replace(volume=like.volume.with_voxels(voxels))

    def segmentation(self, scan: BenchmarkScan, brain: CanonicalBrain) -> TissueSegmentation:
        """Return the tissues of a scan before harmonization; segmented once, then kept."""
        path = self.root / "work" / "tissues" / f"{scan.key}.npz"
        if not path.is_file():
            found = segment_tissues(brain)
            inside = found.labels[brain.mask]
            write_arrays(path, {"inside": inside, "volumes": astuple(found.volumes)}, self._place(path))
        with kept_arrays(path, _DAMAGED, self._place(path)) as archive:
            labels = np.zeros(brain.mask.shape, np.uint8)
            labels[brain.mask] = archive["inside"]
            return TissueSegmentation(labels, TissueVolumes(*archive["volumes"].tolist()))

    def _brain(self, method: str, scan: BenchmarkScan) -> Path:
        return self.root / "work" / method / f"{scan.key}.npz"
