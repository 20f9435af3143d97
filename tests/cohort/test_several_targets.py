"""Several targets in one folder of results, each with its label in the names."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from bids import BIDSLayout
from test_bids_validity import COLUMNS, DESCRIPTION, problems
from test_study import PEOPLE, harmonize, results, statuses

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.bids_app import run_group
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.records import read_list
from mrharmony.jobs.reporting import write_report
from mrharmony.jobs.result_names import label_in, page_path, result_stem, target_label, uncertainty_path
from mrharmony.scans.names import sidecar_path
from mrharmony.scans.selection import Selection


def named_job(study_once: Path, target: str) -> HarmonizeJob:
    job = open_job(None, "none", None, target)
    return replace(job, prepared=study_once / "prepared", force=True, name_target=True)


@pytest.fixture(scope="module")
def both_once(study_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, and with the results of two targets in `out`."""
    folder = tmp_path_factory.mktemp("both")
    study = Path(shutil.copytree(study_once / "study", folder / "study"))
    (study / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (study / "participants.json").write_text(json.dumps(COLUMNS))
    for target in ("LA", "NSK"):
        assert statuses(harmonize(study, folder / "out", named_job(study_once, target))) == ["done"] * 3
    return folder


@pytest.fixture
def both(both_once: Path, tmp_path: Path) -> Path:
    """The results of two targets, which the test may spoil."""
    shutil.copytree(both_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "out"


@pytest.fixture
def study(both: Path) -> Path:
    """The data set beside them."""
    return both.with_name("study")


def test_targets_share_a_folder_and_each_is_kept(study: Path, study_once: Path, both: Path):
    names = sorted(path.name for path in both.glob("sub-1/anat/*"))
    stems = [f"sub-1_desc-harmonizedTo{target}_T1w" for target in ("LA", "NSK")]
    assert names == [f"{stem}.{ending}" for stem in stems for ending in ("json", "nii.gz")]
    before = results(both)
    for target in ("LA", "NSK"):
        assert statuses(harmonize(study, both, named_job(study_once, target))) == ["kept"] * 3
        sidecar = sidecar_path(both / read_list(both, target)[0].output)
        assert json.loads(sidecar.read_text())["Target"] == target
    assert results(both) == before
    plain = replace(named_job(study_once, "LA"), name_target=False)
    assert statuses(harmonize(study, both, plain)) == ["done"] * 3
    assert {name: content for name, content in results(both).items() if "-harmonizedTo" in name} == before


def test_each_target_has_a_table_a_page_and_a_methods_text(study: Path, study_once: Path, both: Path):
    harmonize(study, both, named_job(study_once, "NSK"), selection=Selection(["1"]))
    next(both.glob("sub-2/anat/*ToNSK_T1w.nii.gz")).unlink()
    for files, target, states in zip(
        run_group(both), ("LA", "NSK"), (["done"] * 3, ["missing", "done", "done"]), strict=True
    ):
        assert files.table == both / f"group_desc-harmonizedTo{target}.tsv"
        assert files.report == both / f"report_desc-harmonizedTo{target}.html"
        with files.table.open() as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        assert [row["status"] for row in rows] == states
        assert sorted(row["participant"] for row in rows) == list(PEOPLE)
        assert {row["target"] for row in rows} - {"n/a"} == {target}
        assert f"{target}" in (both / f"CITATION_desc-harmonizedTo{target}.md").read_text()
        page = files.report.read_text()
        assert f"{states.count('done')} scans of 2 sites harmonized to {target}" in page
        assert files.table.name in page
    with pytest.raises(MrharmonyError, match="holds results of several targets, each with a page of its own"):
        write_report(both)
    assert not (both / "report.html").exists()


def test_the_folder_is_valid_and_pybids_tells_the_targets_apart(both: Path):
    result = next(both.rglob("*ToLA_T1w.nii.gz"))
    shutil.copy(result, uncertainty_path(result))
    shutil.copy(sidecar_path(result), sidecar_path(uncertainty_path(result)))
    assert problems(both) == {}
    run_group(both)
    assert problems(both) == {}
    layout = BIDSLayout(both, validate=False, is_derivative=True)
    images = layout.get(suffix="T1w", desc="harmonizedToNSK", extension=".nii.gz")
    assert sorted(image.entities["subject"] for image in images) == list(PEOPLE)


def test_another_target_of_the_same_label_and_other_settings_are_refused(
    study: Path, study_once: Path, both: Path
):
    twin = replace(named_job(study_once, "LA"), target=Domain("L-A", ""))
    with pytest.raises(MrharmonyError, match=r"not L-A; names of files have harmonizedToLA for both\. Name"):
        harmonize(study, both, twin)
    with pytest.raises(MrharmonyError, match="has no letter or digit that a BIDS name may have"):
        harmonize(study, both, replace(twin, target=Domain("北", "")))


def test_the_command_names_the_way_to_keep_both(run, study: Path, study_once: Path, tmp_path: Path):
    out, common = tmp_path / "own", ("--method", "none", "--prepared", study_once / "prepared", "--force")
    words = ("bids", study, out, "participant", *common)
    assert run(*words, "--to", "LA")[0] == 0
    status, _, errors = run(*words, "--to", "NSK")
    assert status == 2
    assert "Name another folder, keep both in this one with --name-target, or replace all" in errors
    assert run(*words, "--to", "NSK", "--name-target")[0] == 0
    status, output, _ = run("bids", study, out, "group", "--json")
    assert status == 0
    assert [Path(files["report"]).name for files in json.loads(output)] == [
        "report.html",
        "report_desc-harmonizedToNSK.html",
    ]
    assert "3 scans of 2 sites harmonized to LA" in (out / "report.html").read_text()


def test_what_lies_beside_a_result_has_its_label():
    result = Path("a/sub-1_desc-harmonizedToNSK_T1w.nii.gz")
    assert uncertainty_path(result) == Path("a/sub-1_desc-uncertaintyToNSK_stdmap.nii.gz")
    assert page_path(result) == Path("a/sub-1_desc-harmonizedToNSK_T1w.html")
    assert (result_stem(result), label_in(result)) == ("sub-1", "NSK")
    broken = Path("a/new\nline_desc-harmonized_T1w.nii.gz")
    assert page_path(broken) == Path("a/new\nline_desc-harmonized_T1w.html")
    free = Path("a/mine.nii.gz")
    assert uncertainty_path(free) == Path("a/mine_desc-uncertainty_stdmap.nii.gz")
    assert page_path(free) == Path("a/mine_desc-harmonized_T1w.html")
    assert (result_stem(free), label_in(free)) == ("mine", None)
    assert target_label(Domain("spgr-1.5t", "")) == "spgr15t"
