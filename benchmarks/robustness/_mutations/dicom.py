"""Folders of DICOM files, one file a slice: files missing, empty, cut, copied, named in other letters.

`LOSES` names the damage after which a folder no longer holds the whole scan: it has to be refused, or a
finding has to say so. After any other the scan has to be the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from pydicom import dcmread

from benchmarks._shared.dicom_files import write_series
from benchmarks.robustness._mutations import Kind, kept_folder
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.scans.dicom import convert_dicom
from mrharmony.scans.reading import Scan, read_scan

Mutation = Callable[[Path, np.random.Generator], None]
SERIES = 4

_NAMES = (
    ("ISO 2022 IR 87", "t1_頭部撮影"),
    ("ISO 2022 IR 149", "t1_머리"),
    ("ISO_IR 100", "t1_tête"),
    ("ISO_IR 192", "t1_頭"),
    ("GB18030", "t1_头部"),
)


def drop_middle(folder: Path, rng: np.random.Generator) -> None:
    """Remove one to five slices from between the others."""
    files = _files(folder)[1:-1]
    gone = rng.choice(len(files), size=rng.integers(1, 6), replace=False)
    for k in gone:
        files[k].unlink()


def drop_first(folder: Path, rng: np.random.Generator) -> None:
    """Remove one to five slices at the beginning, which the numbers of the rest reveal."""
    count = int(rng.integers(1, 6))
    for file in _files(folder)[:count]:
        file.unlink()


def drop_alternate(folder: Path, rng: np.random.Generator) -> None:
    """Keep every second slice."""
    for file in _files(folder)[int(rng.integers(2)) :: 2]:
        file.unlink()


def empty(folder: Path, rng: np.random.Generator) -> None:
    """Leave one slice without content."""
    file = _any(folder, rng)
    file.write_bytes(b"")


def cut(folder: Path, rng: np.random.Generator) -> None:
    """Cut one file short anywhere."""
    file = _any(folder, rng)
    content = file.read_bytes()
    size = int(rng.integers(1, len(content)))
    file.write_bytes(content[:size])


def rename_series(folder: Path, rng: np.random.Generator) -> None:
    """Name the series in Japanese, Korean, French or Chinese, in a character set for it."""
    charset, name = _NAMES[rng.integers(len(_NAMES))]
    for file in _files(folder):
        header = dcmread(file)
        header.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
        header.SeriesDescription = name
        header.save_as(file)


def copy_files(folder: Path, rng: np.random.Generator) -> None:
    """Put copies of some files beside them."""
    files = _files(folder)
    count = int(rng.integers(1, len(files) + 1))
    for file in files[:count]:
        shutil.copy(file, file.with_name(f"copy_{file.name}"))


def shuffle_names(folder: Path, rng: np.random.Generator) -> None:
    """Exchange the files' names."""
    files = _files(folder)
    waiting = [file.rename(file.with_suffix(".moved")) for file in files]
    for k, file in zip(rng.permutation(len(files)), waiting, strict=True):
        file.rename(files[k])


_MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        drop_middle, drop_first, drop_alternate, empty, cut, rename_series, copy_files, shuffle_names,
    )
}  # fmt: skip
LOSES = frozenset({"drop_middle", "drop_first", "drop_alternate", "empty", "cut"})


def _converted(folder: Path) -> Scan:
    return read_scan(convert_dicom(folder, folder.with_suffix(".nii.gz"), series=SERIES))


@cache
def _sound() -> tuple[Path, FloatArray]:
    """Return an examination of 16 slices, and the voxels that it is converted to."""
    i, j, k = np.indices((26, 24, 16)) / 24
    volume = Volume((100 + 400 * i * j + 90 * k).astype(np.float32), np.diag([4.0, 4, 4, 1]))
    folder = kept_folder() / "examination"
    write_series(folder, volume, SERIES)
    return folder, _converted(folder).volume.voxels


def _make(random: np.random.Generator, folder: Path, mutate: Mutation) -> Path:
    examination = folder / "examination"
    shutil.copytree(_sound()[0], examination)
    mutate(examination, random)
    return examination


def _open_part(folder: Path) -> None:
    """Convert what lacks a part: it is refused, or a finding says so."""
    findings = _converted(folder).findings
    assert any(finding.level == "warning" for finding in findings), "a part of a scan without a word"


def _open_whole(folder: Path) -> None:
    """Convert what lacks nothing: it is the scan."""
    try:
        voxels = _converted(folder).volume.voxels
    except MrharmonyError as error:
        raise AssertionError("a whole scan was refused") from error
    assert np.array_equal(voxels, _sound()[1]), "another scan"


KINDS = tuple(
    Kind(
        f"DICOM, {name.replace('_', ' ')}",
        partial(_make, mutate=mutate),
        _open_part if name in LOSES else _open_whole,
    )
    for name, mutate in _MUTATIONS.items()
)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


def _any(folder: Path, rng: np.random.Generator) -> Path:
    files = _files(folder)
    return files[rng.integers(len(files))]
