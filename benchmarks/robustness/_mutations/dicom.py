"""Folders of DICOM files, one file a slice: files missing, empty, cut, copied, named in other letters, and
slices of which the headers say something else than those of the rest.

`LOSES` names the damage after which a folder no longer holds the whole scan: it has to be refused, or a
finding has to say so. `MOVES` names that after which slices lie elsewhere, which has to be refused. After
`alter_headers` the scan is refused, or the same and whole. After any other it has to be the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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
ZOOM = 4.0  # mm
_CHANGES: tuple[tuple[str, object], ...] = (
    ("EchoTime", "3.01"),
    ("EchoTime", None),
    ("ImageType", ["ORIGINAL", "PRIMARY"]),
    ("ImageType", ["ORIGINAL", "PRIMARY", "P", "ND"]),
    ("SeriesInstanceUID", "1.2.3"),
    ("SeriesNumber", 9),
    ("SeriesNumber", None),
    ("SOPInstanceUID", "1.2.3.4"),
    ("InstanceNumber", None),
    ("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),  # the sound one is another
    ("ImageOrientationPatient", [-1, 0, 0, 0, -0.99995, 0.01]),
    ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
    ("ImageOrientationPatient", None),
    ("ImagePositionPatient", None),
    ("PixelSpacing", [4.2, 4]),
    ("PatientID", "another"),
    ("StudyDate", "20210505"),
    ("AcquisitionTime", "111111"),
    ("RepetitionTime", "2400"),
    ("FlipAngle", "10"),
    ("ProtocolName", "another"),
    ("SeriesDescription", "t1_another"),
    ("SpacingBetweenSlices", "9"),
    ("PhotometricInterpretation", "MONOCHROME1"),
)

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


def alter_headers(folder: Path, rng: np.random.Generator) -> None:
    """Let slices at one end, at both or anywhere differ from the others in one or two attributes."""
    files = _files(folder)
    count = int(rng.integers(1, 6))
    chosen = (
        files[:count],
        files[-count:],
        files[:1] + files[-count:],
        [files[k] for k in rng.choice(len(files), count, replace=False)],
    )[rng.integers(4)]
    changes = rng.choice(len(_CHANGES), int(rng.integers(1, 3)), replace=False)
    for file in chosen:
        header = dcmread(file)
        for keyword, value in (_CHANGES[change] for change in changes):
            setattr(header, keyword, value)
        header.save_as(file)


def shift_slices(folder: Path, rng: np.random.Generator) -> None:
    """Move slices in their plane: some of them by one vector, or each by more than the one before."""
    files = _files(folder)
    vector = np.append(rng.normal(size=2), 0)
    vector *= rng.uniform(1, 30) / np.linalg.norm(vector)
    some = rng.random(len(files)) < rng.uniform(0.1, 0.9)
    some[:2] = False, True
    _move(files, vector * (some if rng.random() < 0.5 else np.linspace(0, 1, len(files)))[:, None])


def bend_stack(folder: Path, rng: np.random.Generator) -> None:
    """Move slices along the stack, by parts of their distance that grow and fall again."""
    files = _files(folder)
    most = rng.uniform(0.15, 0.45) * ZOOM * rng.choice([-1, 1])
    _move(files, np.outer(np.sin(np.linspace(0, np.pi, len(files))), [0, 0, most]))


def _move(files: Sequence[Path], by: FloatArray) -> None:
    for file, vector in zip(files, by, strict=True):
        header = dcmread(file)
        place = np.array(header.ImagePositionPatient, float) + vector
        header.ImagePositionPatient = [f"{value:.6f}" for value in place]
        header.save_as(file)


_MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        drop_middle, drop_first, drop_alternate, empty, cut, rename_series, copy_files, shuffle_names,
        alter_headers, shift_slices, bend_stack,
    )
}  # fmt: skip
LOSES = frozenset({"drop_middle", "drop_first", "drop_alternate", "empty", "cut"})
MOVES = frozenset({"shift_slices", "bend_stack"})


def _converted(folder: Path) -> Scan:
    return read_scan(convert_dicom(folder, folder.with_suffix(".nii.gz"), series=SERIES))


@cache
def _sound() -> tuple[Path, Volume]:
    """Return an examination of 16 slices, and the volume that it is converted to."""
    i, j, k = np.indices((26, 24, 16)) / 24
    volume = Volume((100 + 400 * i * j + 90 * k).astype(np.float32), np.diag([ZOOM, ZOOM, ZOOM, 1]))
    folder = kept_folder() / "examination"
    write_series(folder, volume, SERIES)
    return folder, _converted(folder).volume


def _make(random: np.random.Generator, folder: Path, mutate: Mutation) -> Path:
    examination = folder / "examination"
    shutil.copytree(_sound()[0], examination)
    mutate(examination, random)
    return examination


def _open_part(folder: Path) -> None:
    """Convert what lacks a part: it is refused, or a finding says so."""
    findings = _converted(folder).findings
    assert any(finding.level == "warning" for finding in findings), "a part of a scan without a word"


def _open_never(folder: Path) -> None:
    """Convert what has no straight, even stack."""
    _converted(folder)
    raise AssertionError("slices were stacked elsewhere than the scanner put them")


def _open_same(folder: Path) -> None:
    """Convert what may be refused and else is the scan, of all its slices, where it was."""
    made, sound = _converted(folder).volume, _sound()[1]
    assert np.array_equal(made.voxels, sound.voxels), "a part of the scan, or another one"
    assert np.allclose(made.affine, sound.affine, atol=1e-3), "the scan at another place"


def _open_whole(folder: Path) -> None:
    """Convert what lacks nothing: it is the scan."""
    try:
        voxels = _converted(folder).volume.voxels
    except MrharmonyError as error:
        raise AssertionError("a whole scan was refused") from error
    assert np.array_equal(voxels, _sound()[1].voxels), "another scan"


_OPENED = {
    **dict.fromkeys(LOSES, _open_part),
    **dict.fromkeys(MOVES, _open_never),
    alter_headers.__name__: _open_same,
}
KINDS = tuple(
    Kind(
        f"DICOM, {name.replace('_', ' ')}",
        partial(_make, mutate=mutate),
        _OPENED.get(name, _open_whole),
    )
    for name, mutate in _MUTATIONS.items()
)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


def _any(folder: Path, rng: np.random.Generator) -> Path:
    files = _files(folder)
    return files[rng.integers(len(files))]
