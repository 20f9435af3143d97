"""Mutations of a folder of DICOM files, one file a slice, in place; each says what it did.

`MUTATIONS` maps a name to a function of the folder and a random generator, and `LOSES` names those after
which the folder no longer holds the whole scan: it has to be refused, or a finding has to say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread

Mutation = Callable[[Path, np.random.Generator], str]

_NAMES = (
    ("ISO 2022 IR 87", "t1_頭部撮影"),
    ("ISO 2022 IR 149", "t1_머리"),
    ("ISO_IR 100", "t1_tête"),
    ("ISO_IR 192", "t1_頭"),
    ("GB18030", "t1_头部"),
)


def drop_middle(folder: Path, rng: np.random.Generator) -> str:
    """Remove one to five slices from between the others."""
    files = _files(folder)[1:-1]
    gone = rng.choice(len(files), size=rng.integers(1, 6), replace=False)
    for k in gone:
        files[k].unlink()
    return f"{len(gone)} middle slices removed"


def drop_first(folder: Path, rng: np.random.Generator) -> str:
    """Remove one to five slices at the beginning, which the numbers of the rest reveal."""
    count = int(rng.integers(1, 6))
    for file in _files(folder)[:count]:
        file.unlink()
    return f"first {count} slices removed"


def drop_alternate(folder: Path, rng: np.random.Generator) -> str:
    """Keep every second slice."""
    for file in _files(folder)[int(rng.integers(2)) :: 2]:
        file.unlink()
    return "every second slice removed"


def empty(folder: Path, rng: np.random.Generator) -> str:
    """Leave one slice without content."""
    file = _any(folder, rng)
    file.write_bytes(b"")
    return f"{file.name} empty"


def cut(folder: Path, rng: np.random.Generator) -> str:
    """Cut one file short anywhere."""
    file = _any(folder, rng)
    content = file.read_bytes()
    size = int(rng.integers(1, len(content)))
    file.write_bytes(content[:size])
    return f"{file.name} cut to {size} bytes"


def rename_series(folder: Path, rng: np.random.Generator) -> str:
    """Name the series in Japanese, Korean, French or Chinese, in a character set for it."""
    charset, name = _NAMES[rng.integers(len(_NAMES))]
    for file in _files(folder):
        header = dcmread(file)
        header.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
        header.SeriesDescription = name
        header.save_as(file)
    return f"named in {charset}"


def copy_files(folder: Path, rng: np.random.Generator) -> str:
    """Put copies of some files beside them."""
    files = _files(folder)
    count = int(rng.integers(1, len(files) + 1))
    for file in files[:count]:
        shutil.copy(file, file.with_name(f"copy_{file.name}"))
    return f"{count} files copied"


def shuffle_names(folder: Path, rng: np.random.Generator) -> str:
    """Exchange the files' names."""
    files = _files(folder)
    waiting = [file.rename(file.with_suffix(".moved")) for file in files]
    for k, file in zip(rng.permutation(len(files)), waiting, strict=True):
        file.rename(files[k])
    return "names shuffled"


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        drop_middle, drop_first, drop_alternate, empty, cut, rename_series, copy_files, shuffle_names,
    )
}  # fmt: skip
LOSES = frozenset({"drop_middle", "drop_first", "drop_alternate", "empty", "cut"})


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


def _any(folder: Path, rng: np.random.Generator) -> Path:
    files = _files(folder)
    return files[rng.integers(len(files))]
