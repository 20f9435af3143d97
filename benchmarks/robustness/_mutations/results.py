"""Folders of harmonized and prepared scans in which one of two is damaged; the other has to be kept.

The damaged one may be refused or named; what is accepted of it holds finite numbers.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.robustness._mutations import Kind, refusals
from benchmarks.robustness._mutations.files import DAMAGED_JSON, Change, any_of, cut, flip, no_file, replace
from mrharmony.core.hashing import file_sha256
from mrharmony.core.sealed import write_sealed
from mrharmony.jobs.bids_app import run_group
from mrharmony.jobs.harmonizing import discard_result, earlier_result
from mrharmony.jobs.preparing import INDEX, Preparation, PrepareJob, finished, write_index
from mrharmony.jobs.records import ListedScan, ScanRecord, record_path, write_list, write_record
from mrharmony.jobs.reporting import REPORT
from mrharmony.jobs.result_names import SUFFIX
from mrharmony.preparation.quality import PreparationFigures
from mrharmony.preparation.saved import VERSION, PreparedFiles, itk_transform, manual_mask, read_prepared
from mrharmony.scans.reading import read_scan
from mrharmony.scans.sidecar import GENERATED_BY, SCHEMA_VERSION, HarmonizedSidecar, Software

SOUND, DAMAGED = "sub-01", "sub-02"
_SHAPE, _AFFINE = (12, 14, 10), np.diag([9.0, 9.0, 9.0, 1.0])
_FIGURES = PreparationFigures(1400.0, 0.95, 3.0, 4.0, 1.02, 300.0)


def _image(random: np.random.Generator, file: Path, around: float = 0.0) -> None:
    """Write a bright ball in black, or in another even grey."""
    file.parent.mkdir(parents=True, exist_ok=True)
    distance = np.linalg.norm((np.indices(_SHAPE).T - np.subtract(_SHAPE, 1) / 2).T, axis=0)
    voxels = np.where(distance < 5, 100 - 8 * distance + random.uniform(0, 1, _SHAPE), around)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), _AFFINE), file)


def _folder(random: np.random.Generator, folder: Path) -> Path:
    """Write two harmonized scans with all that their sidecars may say, prepared in the same folder."""
    out = folder / "out"
    for subject in (SOUND, DAMAGED):
        scan = folder / "study" / subject / "anat" / f"{subject}_T1w.nii.gz"
        _image(random, scan)
        _harmonized(random, out / subject / "anat" / f"{subject}{SUFFIX}", scan)
        _prepared(random, PreparedFiles.of(scan, out), scan)
    listed = [_listed(subject) for subject in (SOUND, DAMAGED)]
    write_list(out, listed)
    for one in listed:
        write_record(out, ScanRecord(scan=one.scan, output=one.output, status="done", seconds=3.0))
    return out


def _listed(subject: str) -> ListedScan:
    name = f"{subject}/anat/{subject}"
    return ListedScan(f"{name}_T1w.nii.gz", f"{name}{SUFFIX}", subject.removeprefix("sub-"), None, "LA")


def _harmonized(random: np.random.Generator, output: Path, scan: Path) -> None:
    _image(random, output)
    note = HarmonizedSidecar(
        schema_version=SCHEMA_VERSION,
        source="LA",
        nearest_domain="LA",
        source_distance=0.1,
        target="NSK",
        source_protocol={"field_strength": 3.0},
        method="diffusion",
        extent="head",  # what lies in it is drawn, not measured, which takes seconds
        model="compact",
        model_sha256="0" * 64,
        sampling={"steps": 3},
        generated_by=(*GENERATED_BY, Software(name="x")),
        versions={"numpy": "2"},
        detail={"gain": 1.0},
        intensity_scale=70.0,
        sources=(os.path.relpath(scan, output.parent),),
        image_sha256=file_sha256(output),
        source_sha256="0" * 64,
        drift={"edge_correlation": 0.97, "csf_drift": 0.1, "mean_change": 0.2, "target_distance": None},
        verdict="warn",
        verdict_reasons=("csf_drift",),
        findings=({"level": "info", "code": "c", "message": "m", "fix": "f"},),
        mean_uncertainty=1.0,
    )
    output.with_name(output.name.replace(".nii.gz", ".json")).write_text(json.dumps(note.record()))


def _prepared(random: np.random.Generator, files: PreparedFiles, scan: Path) -> None:
    for image in (files.bias_field, files.canonical):
        _image(random, image, around=1.0)
    nib.save(nib.Nifti1Image(np.ones(_SHAPE, np.uint8), _AFFINE), files.mask)
    for file in (files.transform, files.similarity):
        file.write_text(itk_transform(np.eye(4)))
    files.page.write_text("x")
    mask = file_sha256(files.mask)
    findings = [{"level": "warning", "code": "c", "message": "m", "fix": "f"}]
    note = {
        "Preparation": VERSION,
        "SourceSHA256": file_sha256(scan),
        "MaskSHA256": mask,
        "BiasFieldSHA256": file_sha256(files.bias_field),
        "FilesSHA256": {
            file.name: file_sha256(file) for file in (files.transform, files.similarity, files.canonical)
        },
        "PageSHA256": file_sha256(files.page),
        "RigidToTemplate": np.eye(4).tolist(),
        "SourceSkullStripped": False,
        "IntensityScale": 300.0,
        "HeadSize": 1.02,
        "Findings": findings,
    }
    log = Preparation(scan, "warned", None, (), _FIGURES).record() | {"findings": findings, "thumbnail": "x"}
    files.mask_note.write_text(json.dumps({"SHA256": mask, "Manual": False}))
    write_sealed(files.note, files.note.name, note)
    files.log.write_text(json.dumps(log))


def _make(random: np.random.Generator, folder: Path, damage: Change, names: tuple[str, ...]) -> Path:
    """Damage one of the second scan's files, by the end of its name."""
    out = _folder(random, folder)
    name = names[random.integers(len(names))]
    (file,) = [path for path in (out / DAMAGED).rglob("*") if path.name == f"{DAMAGED}_{name}"]
    damage(random, file)
    if random.random() < 0.2 and os.path.lexists(file):  # names that are not UTF-8
        file.rename(file.with_name(os.fsdecode(b"sub-\xe9") + file.name.removeprefix(DAMAGED)))
    return out


def _recorded(random: np.random.Generator, folder: Path) -> Path:
    """Damage the record of the second scan of a study."""
    out = _folder(random, folder)
    DAMAGED_JSON(random, record_path(out, _listed(DAMAGED).output))
    return out


def open_harmonized(out: Path) -> None:
    """Write the table and the page of a folder; then discard what is damaged."""
    (files,) = run_group(out)
    rows = [row.split("\t") for row in files.table.read_text("utf-8").splitlines()]
    sound = next(row for row in rows if row[0].startswith(SOUND))
    assert "0.97" in sound, "a sound scan without its figures"
    assert any(row[0].startswith(DAMAGED) for row in rows), "a scan without a row"
    assert not {"nan", "inf", "-inf"} & {cell for row in rows for cell in row}, "figures without value"
    page = (out / REPORT).read_text("utf-8")
    assert "data:image/" in page, "a sound scan without a picture"
    assert ">nan<" not in page and ">inf<" not in page, "figures without value"
    for output in sorted((out / DAMAGED).rglob(f"*{SUFFIX}")):
        earlier_result(output)
        with refusals():
            discard_result(output)


def open_prepared(out: Path) -> None:
    """Write the index of a folder, and take up its preparations."""
    write_index(out)
    assert f"{SOUND}_T1w.nii.gz" in (out / INDEX).read_text("utf-8"), "a sound scan that is not listed"
    for subject in (SOUND, DAMAGED):
        scan = out.parent / "study" / subject / "anat" / f"{subject}_T1w.nii.gz"
        files = PreparedFiles.of(scan, out)
        done = finished(PrepareJob(scan, files, None, False))
        assert done or subject == DAMAGED, "a sound scan that is done again"
        assert done is None or (done.figures and np.isfinite([*vars(done.figures).values()]).all())
        manual_mask(files)
        with refusals():
            prepared = read_prepared(files, read_scan(scan))
            numbers = (prepared.rigid_to_template, prepared.scale, prepared.size, prepared.intensities())
            assert all(np.isfinite(number).all() for number in numbers), "numbers without value"
    json.dumps([one.record() for one in [done] if one], allow_nan=False)


_DAMAGED_IMAGE: Change = any_of(cut, flip, no_file, lambda random, file: replace(file, random.bytes(500)))
_KINDS: dict[str, tuple[Change, tuple[str, ...], Callable[[Path], None]]] = {
    "sidecars of results": (DAMAGED_JSON, ("desc-harmonized_T1w.json",), open_harmonized),
    "images of results": (_DAMAGED_IMAGE, ("desc-harmonized_T1w.nii.gz",), open_harmonized),
    "logs of preparations": (DAMAGED_JSON, ("desc-preparation_log.json",), open_prepared),
    "records of preparations": (
        DAMAGED_JSON,
        ("space-MNI152NLin2009aSym_res-1_desc-canonical_T1w.json", "desc-brain_mask.json"),
        open_prepared,
    ),
}
KINDS = (
    *(
        Kind(name, partial(_make, damage=damage, names=names), opened)
        for name, (damage, names, opened) in _KINDS.items()
    ),
    Kind("records of studies", _recorded, open_harmonized),
)
