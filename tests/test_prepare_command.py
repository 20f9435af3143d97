"""`mrharmony prepare` as scripts use it, and what follows it."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from benchmarks._shared.dicom_files import PATIENT, write_series
from pydicom import dcmread

from helpers.commands import sentences
from mrharmony.core.volume import Volume
from mrharmony.scans.reading import read_scan


def test_scans_refused_by_parallel_processes_are_told_with_status_3(run, scan: Path, tmp_path: Path):
    for label in ("1", "2"):
        path = tmp_path / "study" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(scan.read_bytes()[:5000])
    (tmp_path / "study" / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    arguments = ("prepare", tmp_path / "study", tmp_path / "out")
    status, output, errors = run(*arguments, "--workers", 2, "--json")
    assert status == 3
    assert [record["verdict"] for record in json.loads(output)] == ["refused", "refused"]
    assert errors.count("refused: ") == 2
    assert "Traceback" not in errors
    assert (tmp_path / "out" / "index.html").read_text().count("sub-") >= 2


def test_a_dicom_examination_is_prepared_once_and_then_harmonized(run, scan: Path, tmp_path: Path):
    head = read_scan(scan).volume
    folder = tmp_path / "DOE_JANE"
    write_series(folder, Volume(np.maximum(head.voxels, 0), head.affine), 3)
    assert dcmread(next(folder.iterdir())).PatientName == PATIENT
    out = tmp_path / "prepared"
    status, output, errors = run("prepare", folder, out, "--workers", 1, "--json")
    assert status == 0
    assert not sentences(errors)
    assert json.loads(output)[0]["verdict"] in ("passed", "warned")
    converted = out / "sourcedata" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    mask = nib.load(out / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    assert mask.shape == nib.load(converted).shape

    arguments = ("--to", "LA", "--method", "none", "--prepared", out, "--output", tmp_path / "results")
    assert run("harmonize", folder, *arguments)[0] == 0
    result = nib.load(tmp_path / "results" / "sub-01_desc-harmonized_T1w.nii.gz")
    assert np.array_equal(result.get_fdata() != 0, (mask.get_fdata() > 0) & (result.get_fdata() != 0))
    assert (tmp_path / "results" / "sub-01_T1w.nii.gz").read_bytes() == converted.read_bytes()
    written = [path for path in tmp_path.rglob("*") if folder not in path.parents and path.is_file()]
    assert len(written) > 10
    for secret in (PATIENT, folder.name, "Saint Elsewhere"):
        assert not [path for path in written if secret.encode() in path.read_bytes()]

    shutil.copytree(out / "sourcedata", tmp_path / "study")
    whole = ("bids", tmp_path / "study", tmp_path / "all", "participant", "--domain-column", "session")
    assert run(*whole, "--to", "LA", "--method", "none", "--prepared", out)[0] == 0
    note = json.loads((tmp_path / "all/sub-01/anat/sub-01_desc-harmonized_T1w.json").read_text())
    assert len(note["Preparation"]) == 64


def test_results_inside_a_dicom_folder_do_not_stop_the_next_call_and_other_scans_are_named(
    run, scan: Path, tmp_path: Path
):
    head = read_scan(scan).volume
    folder = tmp_path / "exam"
    write_series(folder, Volume(np.maximum(head.voxels, 0), head.affine), 3)
    out = folder / "prepared"
    harmonize = ("harmonize", folder, "--to", "LA", "--method", "none", "--force")
    for command in (
        ("prepare", folder, out, "--workers", 1),
        (*harmonize, "--prepared", out, "--output", out),
    ):
        for _ in range(2):
            status, _, errors = run(*command)
            assert status == 0, errors
    nowhere = tmp_path / "out"
    for status, *command in (
        (3, *harmonize, "--output", nowhere),
        (2, "prepare", folder, nowhere),
        (2, "prepare", folder, nowhere, "--series", 3),
    ):
        found, _, errors = run(*command)
        assert found == status
        assert f"{folder}: holds DICOM files, but also the scan prepared/sourcedata/sub-01/anat/" in errors
        assert not list(nowhere.rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("harmonize", "SCAN", "--to", "LA", "--mask", "m.nii.gz", "--prepared", "."), "not both"),
        (("harmonize", "SCAN", "--to", "LA", "--series", "4"), "DICOM"),
    ],
)
def test_options_that_cannot_be_meant_are_told(run, scan: Path, tmp_path: Path, arguments, message: str):
    given = [scan if argument == "SCAN" else argument for argument in arguments]
    status, _, errors = run(*given, "--output", tmp_path / "out")
    assert status == 2
    assert message in errors
    assert not (tmp_path / "out").exists()
