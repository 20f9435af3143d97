"""What is refused, for `docs/reference/refusals.md`: each case makes its files and gives the command line."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from mrharmony.weights import shipped_model

Words = tuple[str, ...]
Case = Callable[[Path], Words]

SHAPE = (24, 26, 22)
SOUND = np.random.default_rng(0).integers(1, 800, SHAPE).astype(np.int16)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
DATA = ("participant", "--to", "LA")


def _nifti(file: Path, voxels: np.ndarray = SOUND, affine: np.ndarray = AFFINE) -> nib.Nifti1Image:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    nib.save(image, file)
    return image


def _check(name: str, write: Callable[[Path], object]) -> Case:
    """Return the case of one damaged scan."""

    def make(folder: Path) -> Words:
        write(folder / name)
        return ("harmonize", name, "--to", "LA", "--output", "out")

    return make


def _cut(file: Path) -> None:
    _nifti(file)
    file.write_bytes(file.read_bytes()[:9000])


def _flipped(file: Path) -> None:
    _nifti(file)
    content = bytearray(file.read_bytes())
    content[9000] ^= 1
    file.write_bytes(content)


def _claims(file: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_sform(np.eye(4), 1)
    file.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))


def _without_orientation(file: Path) -> None:
    image = _nifti(file)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, file)


def _with_nan(file: Path) -> None:
    voxels = SOUND.astype(np.float32)
    voxels[3, 4, 5] = np.nan
    _nifti(file, voxels)


def _study(folder: Path, table: str = "participant_id\tsite\nsub-1\tA\nsub-2\tB\n") -> None:
    for person in ("1", "2"):
        _nifti(folder / "study" / f"sub-{person}" / "anat" / f"sub-{person}_T1w.nii.gz")
    (folder / "study" / "participants.tsv").write_text(table)


def _bids(*words: str, table: str | None = None) -> Case:
    """Return the case of a command on a study of two people."""

    def make(folder: Path) -> Words:
        _study(folder, *([table] if table else []))
        return words

    return make


def _other_target(folder: Path) -> Words:
    _study(folder)
    description = {
        "GeneratedBy": [{"Name": "mrharmony"}],
        "DatasetLinks": {"raw": "../study"},
        "Harmonization": {"target": "NSK"},
    }
    (folder / "out").mkdir()
    (folder / "out" / "dataset_description.json").write_text(json.dumps(description))
    return ("bids", "study", "out", *DATA)


def _other_program(folder: Path) -> Words:
    _study(folder)
    (folder / "out").mkdir()
    (folder / "out" / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "another"}]}')
    return ("bids", "study", "out", *DATA)


def _foreign_result(folder: Path) -> Words:
    _nifti(folder / "sub-1_T1w.nii.gz")
    (folder / "out").mkdir()
    (folder / "out" / "sub-1_desc-harmonized_T1w.json").write_text('{"mine": 1}')
    return ("harmonize", "sub-1_T1w.nii.gz", "--to", "LA", "--output", "out")


def _empty_choice(folder: Path) -> Words:
    _study(folder)
    (folder / "filter.json").write_text('{"t1w": {"acquisition": []}}')
    return ("bids", "study", "out", *DATA, "--bids-filter-file", "filter.json")


def _annexed_table(folder: Path) -> Words:
    _study(folder)
    table = folder / "study" / "participants.tsv"
    table.unlink()
    table.symlink_to(".git/annex/objects/nowhere")
    return ("train", "study", "--output", "model")


def _folder_as_result(folder: Path) -> Words:
    _nifti(folder / "scan.nii.gz")
    (folder / "out" / "scan_desc-harmonized_T1w.nii.gz").mkdir(parents=True)
    return ("harmonize", "scan.nii.gz", "--to", "LA", "--output", "out")


def _folder_as_file(folder: Path) -> Words:
    _nifti(folder / "scan.nii.gz")
    (folder / "out.nii.gz").mkdir()
    return ("harmonize", "scan.nii.gz", "--to", "LA", "--output", "out.nii.gz")


def _output_to_nothing(folder: Path) -> Words:
    _nifti(folder / "scan.nii.gz")
    (folder / "out").symlink_to("nowhere")
    return ("harmonize", "scan.nii.gz", "--to", "LA", "--output", "out")


def _known_site(folder: Path) -> Words:
    _study(folder, "participant_id\tsite\nsub-1\tLA\nsub-2\tNSK\n")
    return ("adapt", "study", "--output", "model")


def _without_networks(folder: Path) -> Words:
    (folder / "model").mkdir()
    shutil.copy(shipped_model() / "mrharmony.json", folder / "model")
    method = ("--method", "img2img", "--model", "model")
    return ("harmonize", "scan.nii.gz", "--to", "LA", *method, "--output", "out")


def _head_as_mask(folder: Path) -> Words:
    _nifti(folder / "scan.nii.gz")
    _nifti(folder / "mask.nii.gz")
    return ("harmonize", "scan.nii.gz", "--to", "LA", "--mask", "mask.nii.gz", "--output", "out")


def _empty_folder(folder: Path) -> Words:
    (folder / "empty").mkdir()
    return ("check", "empty")


CASES: dict[str, Case] = {
    "a file that is not there": lambda _: ("harmonize", "nowhere.nii.gz", "--to", "LA", "--output", "out"),
    "an empty file": _check("scan.nii.gz", lambda file: file.touch()),
    "another kind of file": _check("scan.mnc", lambda file: file.write_bytes(b"MINC")),
    "a pair of header and image": _check("scan.hdr", lambda file: file.write_bytes(bytes(348))),
    "a file cut off": _check("scan.nii.gz", _cut),
    "a flipped bit in compressed data": _check("scan.nii.gz", _flipped),
    "a name that belies the content": _check("scan.nii.gz", lambda file: file.write_bytes(bytes(2000))),
    "no NIfTI header": _check("scan.nii", lambda file: file.write_bytes(os.urandom(4000))),
    "a link to nothing": _check("scan.nii.gz", lambda file: file.symlink_to("nowhere")),
    "a pointer of git-annex": _check(
        "scan.nii.gz", lambda file: file.write_text("/annex/objects/MD5E-s1--0.nii.gz\n")
    ),
    "a header that claims too much": _check("scan.nii.gz", _claims),
    "several volumes": _check("scan.nii.gz", lambda file: _nifti(file, np.stack([SOUND] * 3, axis=-1))),
    "no orientation": _check("scan.nii.gz", _without_orientation),
    "a voxel that is no number": _check("scan.nii.gz", _with_nan),
    "black everywhere": _check("scan.nii.gz", lambda file: _nifti(file, np.zeros(SHAPE, np.int16))),
    "voxels too large for a head": _check(
        "scan.nii.gz", lambda file: _nifti(file, affine=np.diag([30.0, 30.0, 30.0, 1.0]))
    ),
    "a whole head as its own brain mask": _head_as_mask,
    "a target that nobody knows": _bids("bids", "study", "out", "participant", "--to", "Mars"),
    "a protocol that lacks a figure": _bids(
        "bids", "study", "out", "participant", "--to", "mprage 3T TR=2300"
    ),
    "a decimal comma": _bids("bids", "study", "out", "participant", "--to", "spgr 1,5T TR=20 FA=20"),
    "a scan as the target": _bids("bids", "study", "out", "participant", "--to", "sub-1_T1w.nii.gz"),
    "an option of one value given twice": _bids("bids", "study", "out", *DATA, "--to", "NSK"),
    "no target": _bids("bids", "study", "out", "participant"),
    "a participant without scans": _bids("bids", "study", "out", *DATA, "--participant-label", "9"),
    "a filter that chooses nothing": _empty_choice,
    "a folder of preparations beside another": _bids(
        "bids", "study", "out", *DATA, "--prepared", "study", "--work-dir", "work"
    ),
    "an option that the group level would ignore": _bids("bids", "study", "out", "group", "--dry-run"),
    "a data set as its own output": _bids("bids", "study", "study", *DATA),
    "a folder with results of another target": _other_target,
    "a folder of another program": _other_program,
    "a file of somebody else in a result's place": _foreign_result,
    "a folder in a result's place": _folder_as_result,
    "a folder where a file is to be written": _folder_as_file,
    "an output that is a link to nothing": _output_to_nothing,
    "no results yet": _bids("bids", "study", "out", "group"),
    "a column that is not there": _bids("train", "study", "--output", "model", "--domain-column", "scanner"),
    "a column written otherwise": _bids(
        *("train", "study", "--output", "model"), table="participant_id\tSite\nsub-1\tA\nsub-2\tB\n"
    ),
    "a person with two rows": _bids(
        *("train", "study", "--output", "model"), table="participant_id\tsite\nsub-1\tA\nsub-1\tB\n"
    ),
    "a table without tabs": _bids(
        *("train", "study", "--output", "model"), table="participant_id,site\nsub-1,A\nsub-2,B\n"
    ),
    "a table that was not fetched": _annexed_table,
    "a folder without scans": _empty_folder,
    "sites called like those that the base knows": _known_site,
    "a model whose networks are gone": _without_networks,
    "a model that is none": _bids("bids", "study", "out", *DATA, "--model", "study"),
}
