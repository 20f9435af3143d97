"""A result of mrharmony that is given as a scan is told as such, wherever scans are read or learnt from."""

import json
import shutil
from pathlib import Path

import pytest

from mrharmony.jobs.data_sets import DataSet, training_scans

OPTIONS = ("--method", "none", "--to", "LA")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty data set of one site."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "participants.tsv").write_text("participant_id\tsite\nsub-1\tA\n")
    (folder / "sub-1" / "anat").mkdir(parents=True)
    return folder


@pytest.fixture
def result(run, scan: Path, study: Path) -> Path:
    """The scan harmonized, as the scan of a data set."""
    output = study / "sub-1" / "anat" / "sub-1_desc-harmonized_T1w.nii.gz"
    if not output.exists():
        assert run("harmonize", scan, *OPTIONS, "--output", output)[0] == 0
    return output


def test_check_and_harmonize_say_that_a_scan_was_harmonized_before(run, scan: Path, result: Path, tmp_path):
    said = f"The scan is a result of mrharmony: {scan.name}, harmonized to LA. Give the original scan instead"
    status, output, _ = run("check", result)
    assert status == 0
    assert said in output
    status, _, errors = run("harmonize", result, *OPTIONS, "--output", tmp_path / "sub-2_T1w.nii.gz")
    assert status == 0
    assert said in errors
    note = json.loads((tmp_path / "sub-2_T1w.json").read_text())
    assert "harmonized-before" in [finding["code"] for finding in note["Findings"]]


def test_the_scan_itself_is_not_told_so(run, scan: Path):
    assert "result of mrharmony" not in run("check", scan)[1]


@pytest.mark.parametrize("sidecar", [None, '{"Target": "LA", "Method": 3}'])
@pytest.mark.parametrize("name", ["a_desc-harmonized_T1w.nii.gz", "a_desc-harmonizedToLA_T1w.nii.gz"])
def test_the_name_tells_it_without_a_whole_sidecar(
    run, result: Path, tmp_path: Path, name: str, sidecar: str | None
):
    copy = tmp_path / name
    shutil.copy(result, copy)
    if sidecar:
        copy.with_name(copy.name.replace(".nii.gz", ".json")).write_text(sidecar)
    assert "a result of mrharmony: another scan, harmonized before." in run("check", copy)[1]


def test_bids_says_it_of_a_data_set_of_results(run, study: Path, result: Path, tmp_path: Path):
    status, _, errors = run("bids", study, tmp_path / "out", "participant", *OPTIONS)
    assert status == 0
    assert f"{result.name}: The scan is a result of mrharmony" in errors


def test_who_learns_from_results_hears_it(study: Path, result: Path, capsys):
    assert [scan.path for scan in training_scans(DataSet(study).open(), None, None)] == [result]
    told = f"1 of 1 scans to learn from are results of mrharmony, such as {result.name}. Learn from the orig"
    assert told in capsys.readouterr().err
