"""A data set harmonized as a whole: nobody is lost, nothing is replaced in silence, and runs may be many."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from helpers.claims import held_by_another
from mrharmony.core.claims import claimed
from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.workers import WorkerEnded
from mrharmony.jobs import group_images, participants
from mrharmony.jobs.bids_app import run_group
from mrharmony.jobs.harmonizing import HarmonizeJob
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.participants import EVERYTHING, Processes, finished, plan_tasks, run_participants
from mrharmony.jobs.records import (
    LOGS,
    ListedScan,
    claims_path,
    read_list,
    read_record,
    record_path,
    write_list,
)
from mrharmony.jobs.result_names import output_path
from mrharmony.jobs.run_log import RunLog
from mrharmony.jobs.sources import Sources
from mrharmony.jobs.study_plan import choose_workers, plan_study
from mrharmony.networks.card import read_card
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.names import sidecar_path
from mrharmony.scans.selection import Selection, read_filter
from mrharmony.weights import shipped_model

PEOPLE = ("1", "2", "3")


def harmonize(study: Path, out: Path, job: HarmonizeJob, count: int = 1, selection: Selection = EVERYTHING):
    sources = Sources(read_card(shipped_model()))
    index = BidsIndex.open(study)
    return run_participants(index, out, selection, job, sources, Processes(count))


def statuses(outcomes) -> list[str]:
    return [outcome.status for outcome in outcomes]


def results(out: Path) -> dict[str, bytes]:
    found = [path for path in sorted(out.rglob("*desc-harmonized*")) if LOGS not in path.parts]
    return {path.name: path.read_bytes() for path in found}


def table(out: Path) -> list[dict[str, str]]:
    (files,) = run_group(out)
    with files.table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture(scope="module")
def whole(study_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an undisturbed run."""
    job = replace(open_job(None, "none", None, "LA"), prepared=study_once / "prepared", force=True)
    out = tmp_path_factory.mktemp("whole") / "out"
    assert statuses(harmonize(study_once / "study", out, job)) == ["done"] * 3
    return out


def test_every_scan_has_a_record_and_a_row_the_refused_ones_first(study: Path, job, tmp_path: Path):
    bad = next(study.glob("sub-2/anat/*.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:5000])
    out = tmp_path / "out"
    assert statuses(harmonize(study, out, job, selection=Selection(["1", "sub-2"]))) == ["done", "refused"]
    rows = table(out)
    assert [(row["participant"], row["status"]) for row in rows] == [
        ("2", "refused"),
        ("3", "left out"),
        ("1", "done"),
    ]
    assert bad.name in rows[0]["reason"]
    assert rows[0]["site"] == "south"
    assert [scan.participant for scan in read_list(out)] == list(PEOPLE)
    record = read_record(out, read_list(out)[0].output)
    assert record.status == "done"
    assert record.seconds > 0
    assert record.peak_memory_gib > 0.05


def test_of_many_scans_a_run_looks_at_some_which_the_group_level_does_not_open_again(
    study: Path, job, tmp_path: Path, monkeypatch
):
    out, index, sources = tmp_path / "out", BidsIndex.open(study), Sources(read_card(shipped_model()))
    assert not any(task.looked_at for task in plan_tasks(index, out, EVERYTHING, job, sources))
    monkeypatch.setattr(participants, "ENOUGH", 2)
    tasks = plan_tasks(index, out, EVERYTHING, job, sources)
    harmonize(study, out, job)
    kept = {path.name for path in (out / LOGS / "looks").rglob("*.json")}
    assert kept == {sidecar_path(task.output).name for task in tasks if task.looked_at}
    assert len(kept) == 2
    pages = []
    for opened in (1, 3):
        read = Mock(wraps=group_images.read_scan)
        monkeypatch.setattr(group_images, "read_scan", read)
        run_group(out)
        pages.append((out / "report.html").read_bytes())
        assert read.call_count == 2 * opened  # scan and result
        shutil.rmtree(out / LOGS / "looks")
    assert pages[0] == pages[1]


def test_what_is_finished_is_kept_and_what_was_damaged_since_is_done_again(
    study: Path, job, whole: Path, tmp_path: Path
):
    out = tmp_path / "out"
    harmonize(study, out, job)
    cut, edited, _ = sorted(out.glob("sub-*/anat/*.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:5000])
    state = edited.stat()
    content = bytearray(edited.read_bytes())
    content[-20] ^= 1
    edited.write_bytes(content)
    os.utime(edited, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copying program leaves it
    assert statuses(harmonize(study, out, job)) == ["done", "done", "kept"]
    assert results(out) == results(whole)
    shutil.rmtree(out / LOGS / "scans")
    assert statuses(harmonize(study, out, job)) == ["kept"] * 3
    assert read_record(out, read_list(out)[0].output).status == "done"


def test_a_result_without_the_page_that_is_wanted_is_not_finished(study: Path, job, whole: Path):
    sources = Sources(read_card(shipped_model()))
    (task, *_) = plan_tasks(BidsIndex.open(study), whole, EVERYTHING, job, sources)
    assert finished(task, task.job(job)).kept
    assert finished(task, task.job(replace(job, page=True))) is None


def test_a_page_that_is_asked_for_later_is_made(study: Path, whole: Path, job, tmp_path: Path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    paged, only = replace(job, page=True), Selection(["1"])
    assert statuses(harmonize(study, out, job, selection=only)) == ["kept"]
    assert statuses(harmonize(study, out, paged, selection=only)) == ["done"]
    assert len(list(out.rglob("*_desc-harmonized_T1w.html"))) == 1
    assert statuses(harmonize(study, out, paged, selection=only)) == ["kept"]


def test_of_two_targets_that_begin_at_once_the_later_is_refused(
    study: Path, job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, other, only = tmp_path / "out", replace(job, target=Domain("NSK", "NSK")), Selection(["1"])

    def plan_while_another_begins(*args):
        monkeypatch.setattr(participants, "plan_tasks", plan_tasks)
        tasks = plan_tasks(*args)
        harmonize(study, out, job, selection=only)
        return tasks

    monkeypatch.setattr(participants, "plan_tasks", plan_while_another_begins)
    with pytest.raises(MrharmonyError, match=r"holds results with target LA, not NSK\. "):
        harmonize(study, out, other, selection=only)
    assert statuses(harmonize(study, out, job, selection=only)) == ["kept"]


def test_a_run_leaves_the_results_alone_that_another_has_begun_to_replace(
    study: Path, job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, only, real = tmp_path / "out", Selection(["1"]), participants._done
    other = replace(job, target=Domain("NSK", "NSK"), overwrite=True)

    def done_late(*args):
        monkeypatch.setattr(participants, "_done", real)
        assert statuses(harmonize(study, out, other, selection=only)) == ["done"]
        return real(*args)

    monkeypatch.setattr(participants, "_done", done_late)
    (late,) = harmonize(study, out, job, selection=only)
    assert (late.status, "replace all results by those with target NSK, not LA" in late.reason) == (
        "refused",
        True,
    )
    assert statuses(harmonize(study, out, replace(other, overwrite=False), selection=only)) == ["kept"]


def test_a_scan_under_way_leaves_no_result_where_another_run_has_begun_to_replace_all(
    study: Path, job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, real = tmp_path / "out", participants.harmonize_scan
    other = replace(job, target=Domain("NSK", "NSK"), overwrite=True)

    def overtaken_meanwhile(*args):
        monkeypatch.setattr(participants, "harmonize_scan", real)
        assert statuses(harmonize(study, out, other, selection=Selection(["2"]))) == ["done"]
        return real(*args)

    monkeypatch.setattr(participants, "harmonize_scan", overtaken_meanwhile)
    (late,) = harmonize(study, out, job, selection=Selection(["1"]))
    assert late.status == "refused" and "replace all results by those with target NSK" in late.reason
    assert not list(out.rglob("sub-1*_desc-harmonized*"))


def test_two_processes_give_the_same_bytes_as_one(study_once: Path, job, whole: Path, tmp_path: Path):
    assert statuses(harmonize(study_once / "study", tmp_path / "out", job, 2)) == ["done"] * 3
    assert results(tmp_path / "out") == results(whole)


def test_another_target_asks_for_another_folder_or_for_overwriting(study: Path, job, tmp_path: Path):
    out, other = tmp_path / "out", replace(job, target=Domain("NSK", "NSK"))
    harmonize(study, out, job, selection=Selection(["1"]))
    before = results(out)
    with pytest.raises(Exception, match=r"holds results with target LA, not NSK\. .*overwrite=True"):
        harmonize(study, out, other)
    anew = replace(other, overwrite=True)
    with pytest.raises(
        MrharmonyError, match=r"sub-1_desc.* has target LA, not NSK, and its scan is not chosen"
    ):
        harmonize(study, out, anew, selection=Selection(["2"]))
    assert results(out) == before
    (path,) = (path.relative_to(study).as_posix() for path in study.glob("sub-1/anat/*.nii.gz"))
    part = Selection(listed=frozenset({path.replace("sub-1", "sub-2")}), elsewhere=frozenset({path}))
    assert statuses(harmonize(study, out, anew, selection=part)) == ["done"]
    rows = {row["participant"]: row for row in table(out)}
    assert [rows[who]["status"] for who in PEOPLE] == ["left out", "done", "left out"]
    assert "was made with target LA, not NSK. Run the participant level again." in rows["1"]["reason"]
    assert statuses(harmonize(study, out, anew)) == ["done", "kept", "done"]
    assert all(b'"Target": "NSK"' in note for name, note in results(out).items() if name.endswith("json"))


@pytest.mark.parametrize("name", ["sub-1_desc-harmonized_T1w.nii.gz", "sub-1_desc-harmonized_T1w.json"])
def test_a_file_of_somebody_else_is_never_replaced_in_silence(study: Path, job, tmp_path: Path, name: str):
    out = tmp_path / "out"
    taken = out / "sub-1" / "anat" / name
    taken.parent.mkdir(parents=True)
    taken.write_text('{"mine": 1}')
    first, *others = harmonize(study, out, job)
    assert (first.status, statuses(others)) == ("refused", ["done", "done"])
    assert str(taken) in first.reason
    assert "overwrite=True" in first.reason
    assert taken.read_text() == '{"mine": 1}'
    assert statuses(harmonize(study, out, replace(job, overwrite=True))) == ["done", "kept", "kept"]


@pytest.mark.parametrize("program", ["another", "mrharmony"])  # which also writes virtual cohorts
def test_a_folder_that_describes_another_data_set_is_left_alone(
    program: str, study: Path, job, tmp_path: Path
):
    described = tmp_path / "dataset_description.json"
    described.write_text(json.dumps({"Name": "mine", "GeneratedBy": [{"Name": program}]}))
    with pytest.raises(Exception, match="describes another data set"):
        harmonize(study, tmp_path, job)
    assert "mine" in described.read_text()


def test_the_results_of_another_data_set_are_left_alone(study: Path, whole: Path, job, tmp_path: Path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    description = out / "dataset_description.json"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for place, added in (("study", False), ("copy", True), ("gone", False)):
        link = json.loads(description.read_text()) | {"DatasetLinks": {"raw": f"../{place}"}}
        if place == "copy":
            shutil.copytree(study, tmp_path / place)
        if added:  # to the data set, since it was copied
            shutil.copytree(study / "sub-1", study / "sub-4")
            (study / "sub-4" / "anat" / "sub-1_T1w.nii.gz").rename(
                study / "sub-4" / "anat" / "sub-4_T1w.nii.gz"
            )
        description.write_text(json.dumps(link))
        assert statuses(harmonize(study, out, job, selection=Selection(["1"]))) == ["kept"]
    link["DatasetLinks"] = {"raw": "../copy"}
    description.write_text(json.dumps(link))
    shutil.rmtree(study / "sub-3")
    with pytest.raises(MrharmonyError, match="has derivatives of another data set"):
        harmonize(study, out, job)
    assert all(path.read_bytes() == before[path] for path in before if "desc-harmonized" in path.name)


@pytest.mark.parametrize("name", ["participants.tsv", ".bidsignore", "group.tsv"])
def test_files_of_a_folder_that_is_not_ours_are_left_alone(study: Path, job, tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(MrharmonyError, match="did not write it, and would replace it"):
        harmonize(study, tmp_path, job)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "dataset_description.json").exists()


def test_a_page_of_somebody_else_is_never_replaced(whole: Path, tmp_path: Path):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "report.html").write_text("<title>mine</title>")
    with pytest.raises(MrharmonyError, match="mrharmony did not write it"):
        run_group(out)
    assert "mine" in (out / "report.html").read_text()
    (out / "report.html").unlink()
    run_group(out)
    run_group(out)


class Fatal:
    """A method whose process is killed by one person's scan, as one that lacks memory is."""

    name = "none"

    def __init__(self, method) -> None:
        self.method = method

    def harmonize(self, scan, source, target):
        if source is not None:
            os._exit(9)
        return self.method.harmonize(scan, source, target)


def test_a_scan_that_kills_its_process_fails_and_the_others_are_done(study: Path, job, tmp_path: Path):
    (study / "participants.tsv").write_text("participant_id\tsite\nsub-1\tx\nsub-2\tNSK\nsub-3\tx\n")
    out = tmp_path / "out"
    found = harmonize(study, out, replace(job, harmonizer=Fatal(job.harmonizer)), 2)
    assert sorted(statuses(found)) == ["done", "done", "failed"]
    row = table(out)[0]
    assert (row["participant"], row["status"]) == ("2", "failed")
    assert "ended from outside" in row["reason"]


def test_a_scan_whose_process_was_ended_after_its_result_is_done(
    study: Path, job, tmp_path: Path, monkeypatch
):
    out = tmp_path / "out"
    harmonize(study, out, job, selection=Selection(["1"]))
    path = record_path(out, read_list(out)[0].output)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "begun"}))
    monkeypatch.setattr(participants, "finished", lambda task, job: None)  # as it was when the run began
    monkeypatch.setattr(participants, "side_by_side", Mock(side_effect=WorkerEnded))
    found = harmonize(study, out, job, selection=Selection(["1"]))
    assert statuses(found) == ["done"]
    assert [row["status"] for row in table(out) if row["participant"] == "1"] == ["done"]


def test_a_record_says_where_a_process_was_killed_or_is_at_work(study: Path, job, tmp_path: Path):
    out = tmp_path / "out"
    harmonize(study, out, job, selection=Selection(["1"]))
    name = read_list(out)[0].output
    path = record_path(out, name)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "begun"}))
    assert table(out)[0]["status"] == "begun"
    assert "ended from outside" in table(out)[0]["reason"]
    claims = claims_path(out)
    with held_by_another(claims, name):
        assert table(out)[0]["status"] == "running"
        with claimed(claims, name) as free:
            assert not free
        with claimed(claims, "another") as free:
            assert free
    with claimed(claims, name) as free:
        assert free  # nothing stale is left


def test_two_runs_at_once_do_each_scan_once(study: Path, study_once: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mrharmony", "bids", study, out, "participant", "--to", "LA", "--force"]
    command += ["--method", "none", "--prepared", study_once / "prepared", "--nprocs", "1", "--json"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(run.communicate(timeout=200)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    done = [record["scan"] for records in said for record in records if record["status"] == "done"]
    assert len(done) == len(set(done)) == 3
    assert results(out) == results(whole)


def test_the_list_of_scans_gives_every_name_back(tmp_path: Path):
    names = ["a\nb", 'a"b', "a\tb", "a\x85b", "a\r\nb", os.fsdecode(b"a\xe9b"), "é", "\\udce9", "n/a"]
    scans = [
        ListedScan(name, f"{name}.nii.gz", name, None, name if name != "n/a" else None) for name in names
    ]
    write_list(tmp_path, scans)
    assert read_list(tmp_path) == scans


def test_settings_keep_the_bytes_of_names_and_are_taken_again(run, study: Path, tmp_path: Path):
    model = tmp_path / os.fsdecode(b"model-\xe9")
    RunLog(tmp_path, ["bids"], {"to": "NSK", "model": str(model)})
    (settings,) = (tmp_path / LOGS).glob("*.toml")
    settings.write_bytes(b"\xef\xbb\xbf" + settings.read_bytes())
    status, _, errors = run("bids", study, tmp_path / "out", "participant", "--config", settings)
    assert (status, "not a model" in errors, "model-" in errors) == (2, True, True)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('seed = "abc"', "settings.toml: seed cannot be 'abc': "),
        (
            "work-dir = 2024-01-01",
            "settings.toml: work-dir cannot be datetime.date(2024, 1, 1). Write a text",
        ),
        ('to = ["LA"]', "settings.toml: to cannot be ['LA']. Write a text or a number."),
        (
            "participant-label = {a=1}",
            """settings.toml: participant-label cannot be {'a': 1}. Write ["01",""",
        ),
        ('config = "other.toml"', "settings.toml: no option 'config'. Choose from"),
        ("n-cpus = 0", "settings.toml: n-cpus cannot be 0: "),
        (
            "name_target = true\nname-target = false",
            "settings.toml: name_target and name-target are the same option. Leave one out.",
        ),
        ("nprocs = 1\nn-cpus = 1", "settings.toml: nprocs and n-cpus are the same option. Leave one out."),
        ('participant-label = "1,2"', "sub-1,2: no T1w scan of this participant. Separate labels by blanks,"),
        ('participant-label = "77"', "sub-77: no T1w scan of this participant."),
    ],
)
def test_settings_of_another_kind_are_told_with_their_file(run, study: Path, tmp_path: Path, setting, said):
    settings = tmp_path / "settings.toml"
    settings.write_text(f"{setting}\n")
    to = () if setting.startswith("to") else ("--to", "LA")
    status, _, errors = run("bids", study, tmp_path / "out", "participant", "--config", settings, *to)
    assert (status, said in errors) == (2, True), errors


def test_a_file_in_the_place_of_the_derivatives_is_told_before_any_work(run, study: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    arguments = ("participant", "--to", "LA", "--dry-run")
    status, _, errors = run("bids", study, tmp_path / "file", *arguments)
    assert (status, "file: is a file. Name a folder for the derivatives." in errors) == (2, True), errors
    status, _, errors = run("bids", study, study / "sub-1" / "out", *arguments)
    assert (status, "lies in the folder of sub-1. Name another, such as" in errors) == (2, True), errors


def test_memory_without_end_is_no_fault(study: Path):
    scans = sorted(study.glob("sub-*/anat/*.nii.gz"))
    assert choose_workers(scans, 2, math.inf) == 2


def test_a_dry_run_writes_nothing_and_counts(study: Path, job, tmp_path: Path):
    out = tmp_path / "out"
    tasks = plan_tasks(BidsIndex.open(study), out, EVERYTHING, job, Sources(read_card(shipped_model())))
    plan = plan_study(tasks, job, 2, memory_gib=1.0)
    assert not out.exists()
    assert (plan.todo, plan.kept, plan.refused, plan.workers) == (3, 0, (), 1)
    assert plan.sources == {None: 3}
    assert plan.seconds_each is None  # of a method that nobody has timed
    harmonize(study, out, job)
    plan = plan_study(tasks, job)
    assert (plan.todo, plan.kept, plan.measured_here) == (0, 3, True)


def test_domains_of_the_same_name_are_the_models_unless_denied(study: Path, job, tmp_path: Path):
    (study / "participants.tsv").write_text("participant_id\tsite\nsub-1\tNSK\nsub-2\tx\nsub-3\tx\n")
    index, card = BidsIndex.open(study), read_card(shipped_model())

    def named(sources: Sources) -> list[str | None]:
        tasks = plan_tasks(index, tmp_path / "out", EVERYTHING, job, sources)
        return [task.source.name if task.source else None for task in tasks]

    assert named(Sources(card)) == ["NSK", None, None]
    assert named(Sources(card, by_name=False)) == [None, None, None]


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ({"session": "x"}, ["ses-x_run-01", "ses-x_run-02"]),
        ({"session": ["y", None], "run": 1}, ["acq-a_run-1", "ses-y_run-1"]),
        ({"run": "Query.NONE"}, ["rec-b"]),
        ({"run": ["0" * 5000 + "2"]}, ["ses-x_run-02"]),
        ({"acquisition": "*"}, ["acq-a_run-1"]),
        ({"suffix": ["T1w"], "datatype": "anat", "reconstruction": "b"}, ["rec-b"]),
    ],
)
def test_a_filter_chooses_by_entities(tmp_path: Path, said, chosen):
    names = ["ses-x_run-01", "ses-x_run-02", "ses-y_run-1", "acq-a_run-1", "rec-b"]
    for name in names:
        session = [part for part in name.split("_") if part.startswith("ses-")]
        path = tmp_path.joinpath("sub-1", *session, "anat", f"sub-1_{name}_T1w.nii")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "filter.json").write_text(json.dumps({"t1w": said}))
    scans = read_filter(tmp_path / "filter.json").of(BidsIndex.open(tmp_path, "session"))
    assert sorted(scan.path.name[6:-8] for scan in scans) == sorted(chosen)


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ({"subject": "1"}, ["sub-1_ses-1", "sub-1_ses-01"]),
        ({"subject": ["sub-01", 1], "session": "01"}, ["sub-01_ses-01", "sub-1_ses-01"]),
        ({"session": 1}, ["sub-1_ses-1"]),
    ],
)
def test_a_filter_takes_labels_of_subjects_and_sessions_to_the_letter(tmp_path: Path, said, chosen):
    for name in ("sub-1_ses-1", "sub-1_ses-01", "sub-01_ses-01", "sub-001_ses-01"):
        path = tmp_path.joinpath(*name.split("_"), "anat", f"{name}_T1w.nii")
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "filter.json").write_text(json.dumps({"t1w": said}))
    scans = read_filter(tmp_path / "filter.json").of(BidsIndex.open(tmp_path, "session"))
    assert sorted(scan.path.name[:-8] for scan in scans) == sorted(chosen)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no BIDS filter"),
        ('{"bold": {}}', "no BIDS filter"),
        ('{"t1w": {"size": 3}}', "no entity 'size'"),
        ('{"t1w": {"suffix": "T2w"}}', "no T1w scan"),
        ('{"t1w": {"run": [{}]}}', "no label"),
        ('{"t1w": {"acquisition": []}}', "acquisition is an empty list. Name labels, or"),
        ('{"t1w": {"subject": true}}', "subject True is no label"),
        ('{"t1w": {"run": [1, false]}}', "run False is no label"),
        ('{"t1w": {"run": 1.0}}', r"run 1\.0 is no label"),
        ('{"t1w": {"run": 1}, "t1w": {"run": 2}}', r"no BIDS filter for T1w scans \(t1w stands twice\)"),
        ('{"t1w": {"run": 1, "run": 2}}', r"no BIDS filter for T1w scans \(run stands twice\)"),
        ('{"t1w": {"inv": 1, "inversion": 2}}', "inversion names the entity inv a second time. Leave one"),
    ],
)
def test_a_file_that_is_no_filter_is_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "filter.json").write_text(content)
    with pytest.raises(Exception, match=said):
        read_filter(tmp_path / "filter.json")


def test_a_filter_may_begin_with_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "filter.json").write_text('{"t1w": {"run": 2}}', encoding="utf-8-sig")
    assert read_filter(tmp_path / "filter.json").entities == {"run": ("2",)}


def test_the_command_takes_what_bids_apps_take(
    run, study: Path, study_once: Path, tmp_path: Path, monkeypatch
):
    out = tmp_path / "out"
    monkeypatch.chdir(study)  # where a label with sub- is the name of a folder
    common = ("--method", "none", "--prepared", study_once / "prepared", "--force")
    status, output, _ = run(
        *("bids", study, out, "participant", "--participant_label", "1", "sub-3", "--to", "LA"),
        *("--n_cpus", 2, "--mem-gb", 4, "--skip-bids-validation", "--json", *common),
    )
    assert status == 0
    assert [Path(record["scan"]).name[:5] for record in json.loads(output)] == ["sub-1", "sub-3"]
    (settings,) = (out / LOGS).glob("run-*.toml")
    (log,) = (out / LOGS).glob("run-*.log")
    assert "sub-3_T1w.nii.gz: done" in log.read_text()
    status, output, errors = run("bids", study, out, "participant", "--config", settings)
    assert status == 0
    assert "2 kept" in errors
    settings.write_text('too = "LA"\n')
    status, _, errors = run("bids", study, out, "participant", "--config", settings)
    assert status == 2
    assert "no option 'too'" in errors
    status, _, errors = run("bids", study, out, "participant")
    assert (status, "--to" in errors) == (2, True)
    status, output, _ = run("bids", study, out, "participant", "--to", "LA", "--dry-run", *common)
    assert status == 0
    assert "1 to do, 2 kept" in output
    kept_at = ("--work-dir", study_once / "prepared", "--method", "none", "--force", "--dry-run")
    status, output, _ = run("bids", ".", out, "participant", "--to", "LA", *kept_at)
    assert (status, "1 to do, 2 kept" in output) == (0, True)
    status, _, errors = run("bids", ".", out, "participant", "--to", "LA", "--work-dir", "w", *common)
    assert (status, "Give --work-dir or --prepared, not both." in errors) == (2, True), errors
    for option in (["--dry-run"], ["--slurm", "."], ["--overwrite"]):
        status, _, errors = run("bids", ".", out, "group", *option)
        said = f"mrharmony: group: {option[0]} is of the participant level. Leave it out.\n"
        assert (status, errors) == (2, said)
    assert not (out / "group.tsv").exists()


def test_people_without_a_t1w_scan_are_told_by_run_log_and_page(run, study: Path, study_once, tmp_path: Path):
    out, told = tmp_path / "out", "1 of 4 people has no T1w scan: sub-4; sub-4 has anat/sub-4_t1w.nii.gz"
    (study / "sub-4/anat").mkdir(parents=True)
    shutil.copy(study / "sub-1/anat/sub-1_T1w.nii.gz", study / "sub-4/anat/sub-4_t1w.nii.gz")
    with (study / "participants.tsv").open("a") as stream:
        stream.write("sub-4\tsouth\n")
    common = ("--to", "LA", "--method", "none", "--force", "--prepared", study_once / "prepared")
    status, _, errors = run("bids", study, out, "participant", *common)
    assert (status, errors.count(told)) == (0, 1), errors
    (log,) = (out / LOGS).glob("run-*.log")
    assert told in log.read_text()
    assert run("bids", study, out, "group")[0] == 0
    assert "Of 1 person in participants.tsv there is no T1w scan: sub-4." in (out / "report.html").read_text()
    status, _, errors = run("bids", study, out, "participant", *common, "--participant-label", "1")
    assert (status, "sub-4" in errors) == (0, False), errors
    status, _, errors = run("bids", study, out, "participant", *common, "--participant-label", "4")
    assert (status, "sub-4: no T1w scan of this participant." in errors) == (2, True), errors


def test_results_that_are_gone_or_cut_are_counted_once_and_have_no_verdict(
    run, study: Path, job, tmp_path: Path
):
    out = tmp_path / "out"
    harmonize(study, out, job)
    first, second, _ = (out / scan.output for scan in read_list(out))
    first.unlink()
    second.write_bytes(second.read_bytes()[:3000])
    assert run("bids", study, out, "group")[0] == 0
    rows = {row["participant"]: row for row in table(out)}
    assert [rows[who]["status"] for who in PEOPLE] == ["missing", "damaged", "done"]
    assert [rows[who]["verdict"] for who in PEOPLE[:2]] == ["n/a", "n/a"]
    assert "has not the size that it was written with" in rows["2"]["reason"]
    page = (out / "report.html").read_text()
    assert "1 scan of 1 site harmonized" in page
    assert "2 scans without a result" in page


def test_results_of_no_scan_of_the_data_set_are_left_out_and_told(
    run, study: Path, whole: Path, tmp_path: Path
):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    shutil.copytree(out / "sub-2", out / "sub-77")
    (out / "sub-1").rename(out / "sub-99")
    assert run("bids", study, out, "group")[0] == 0
    assert [row["status"] for row in table(out)] == ["missing", "done", "done"]
    page = (out / "report.html").read_text()
    assert "2 scans of 1 site harmonized" in page
    for stranger in ("sub-77/anat/sub-2", "sub-99/anat/sub-1"):
        assert f"<strong>{stranger}_desc-harmonized_T1w.json</strong>: is the result of no scan" in page
    text = (out / "CITATION.md").read_text()
    assert "the brain of 2 scans" in text
    assert "1 further scan had no result." in text


def test_an_image_that_shows_its_damage_when_it_is_opened_has_no_verdict(
    run, study: Path, whole: Path, tmp_path: Path
):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    image = out / read_list(out)[1].output
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    assert run("bids", study, out, "group")[0] == 0
    first, *others = table(out)
    assert (first["participant"], first["status"], first["verdict"]) == ("2", "damaged", "n/a")
    assert f"{image}: The compressed data are damaged" in first["reason"]
    assert [row["status"] for row in others] == ["done", "done"]
    page = (out / "report.html").read_text()
    assert "2 scans of 2 sites harmonized" in page
    assert "1 scan without a result" in page
    assert "1 further scan had no result." in (out / "CITATION.md").read_text()


def test_sites_that_the_model_does_not_know_are_named_with_what_teaches_them(
    run, study: Path, tmp_path: Path
):
    words = ("bids", study, tmp_path / "out", "participant", "--to", "LA", "--dry-run")
    _, _, errors = run(*words)
    assert "the model does not know north, south." in errors
    assert "`mrharmony adapt`" in errors
    assert "--model my-model" in errors
    for options in (("--method", "none"), ("--source-unknown",)):
        assert "does not know" not in run(*words, *options)[2]


def test_sessions_that_stand_for_domains_of_the_model_are_told_unless_that_was_asked_for(
    run, study: Path, tmp_path: Path
):
    shutil.rmtree(study / "sub-3")
    (study / "sub-2" / "ses-la").mkdir()
    (study / "sub-2" / "anat").rename(study / "sub-2" / "ses-la" / "anat")
    (study / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\nsub-2\t40\n")
    words = ("bids", study, tmp_path / "out", "participant", "--to", "NSK", "--dry-run")
    _, output, errors = run(*words)
    assert "from    1 unknown, 1 LA" in output
    assert "no table has a column site, so scans of ses-la are said to come from the model's" in errors
    assert "say --source-unknown" in errors
    for options in (("--domain-column", "session"), ("--source-unknown",)):
        assert "are said to come from" not in run(*words, *options)[2]


def test_the_run_ends_in_order_and_tells_how_far_it_came(study: Path, study_once: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mrharmony", "bids", study, out, "participant", "--to", "LA", "--force"]
    command += ["--method", "none", "--prepared", study_once / "prepared", "--nprocs", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        first = output_path(BidsIndex.open(study).scans[0], out)
        end = time.monotonic() + 60
        while not first.with_name(first.name.replace(".nii.gz", ".json")).exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert errors.strip().startswith("mrharmony: ended by SIGTERM")
    assert not list(out.rglob(".mrharmony-*"))
