"""The command line as scripts use it: what is written, what is said, and with which status it ends."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import typer

from helpers.commands import sentences
from mrharmony.cli.app import app, in_options, one_of
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.registry import METHOD_NAMES
from mrharmony.scans.participants import read_participants

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.fixture
def broken(tmp_path: Path, scan: Path) -> Path:
    """The scan with the second half of its file missing."""
    path = tmp_path / "sub-broken_T1w.nii.gz"
    path.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    return path


def test_the_front_help_tells_a_newcomer_where_to_start(run):
    status, output, _ = run("--help")
    assert status == 0
    assert "New here?" in output
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_several_lines(run, command: str):
    status, output, _ = run(command, "--help")
    assert status == 0
    assert "Usage" in output
    assert len(output.splitlines()) > 10
    assert not re.search(r"--[a-z-]+ .*<[^|=]+>", output)  # types of values are in words


def test_a_method_is_named_as_in_the_registry_or_by_an_old_name():
    parse = one_of(METHOD_NAMES)
    assert [parse(name) for name in METHOD_NAMES] == list(METHOD_NAMES)
    assert parse("synthesis") == "diffusion"
    with pytest.raises(typer.BadParameter, match="'nowhere' is not one of none, "):
        parse("nowhere")


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("Give source=..., or choose method='nyul'.", "Give --from, or choose --method nyul."),
        ("Leave lock=False and detail=True out.", "Leave --no-lock and --detail out."),
        ("name one: pairs=[('A', 'B')].", "name one: --pair A B."),
        ("T1=1.2 and slope=None stay", "T1=1.2 and slope=None stay"),
    ],
)
def test_arguments_of_the_library_are_shown_as_options(sentence, shown):
    assert in_options(sentence) == shown


def test_the_version_is_printed(run):
    assert run("--version")[:2] == (0, "mrharmony 0.1.0\n")


def test_a_sound_scan_is_found_fine(run, scan: Path):
    status, output, _ = run("check", scan)
    assert status == 0
    assert "fine" in output


def test_a_truncated_scan_is_told_with_status_3(run, scan: Path, broken: Path):
    status, output, _ = run("check", scan, broken, "--json")
    findings = {record["scan"]: record["findings"] for record in json.loads(output)}
    assert status == 3
    assert "truncated-gzip" in {finding["code"] for finding in findings[str(broken)]}
    assert not [finding for finding in findings[str(scan)] if finding["level"] == "error"]


def test_what_nibabel_repairs_is_told_though_its_own_messages_are_silenced(run, scan: Path, tmp_path: Path):
    image = nib.load(scan)
    image.header["qform_code"] = 77
    path = tmp_path / "sub-odd_T1w.nii"
    path.write_bytes(image.to_bytes())
    _, output, _ = run("check", path, "--json")
    (record,) = json.loads(output)
    assert "header-repaired" in {finding["code"] for finding in record["findings"]}


@pytest.mark.parametrize(
    "command",
    [
        ("harmonize", "missing.nii.gz", "--to", "NSK", "--output", "out"),
        ("evaluate", "identity", "missing.nii.gz", "--domain", "NSK"),
        ("train", "missing", "--method", "histogram", "--output", "out"),
        ("adapt", "missing", "--output", "out"),
        ("demo", "out"),
    ],
    ids=lambda command: command[0],
)
def test_a_gpu_that_is_not_there_is_refused_before_any_work(
    run, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, output, errors = run(*command, "--device", "cuda")
    assert (status, output) == (2, "")
    assert errors == "mrharmony: cuda: no usable GPU on this machine. Choose the device cpu or auto.\n"
    assert not any(tmp_path.iterdir())


def test_an_empty_folder_is_a_usage_error(run, tmp_path: Path):
    status, _, errors = run("check", tmp_path)
    assert status == 2
    assert "no scans" in errors


def test_a_folder_is_checked_without_its_derivatives_which_are_told(run, scan: Path, tmp_path: Path):
    shutil.copy(scan, tmp_path)
    truth = tmp_path / "derivatives" / "truth" / "sub-1_dseg.nii.gz"
    truth.parent.mkdir(parents=True)
    truth.touch()
    status, output, errors = run("check", tmp_path, "--json")
    assert [entry["scan"] for entry in json.loads(output)] == [str(tmp_path / scan.name)]
    assert status == 0
    assert f"left out: {tmp_path / 'derivatives'}. Derivatives, label maps and masks are no scans" in errors
    assert run("check", truth)[0] == 3


def test_people_of_a_data_set_without_a_t1w_scan_are_told_and_a_plain_folder_has_none(
    run, scan: Path, tmp_path: Path
):
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_t1w.nii.gz", "sub-03/anat/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(scan, tmp_path / name)
    status, output, _ = run("check", tmp_path, "--json")
    (finding,) = {entry["scan"]: entry["findings"] for entry in json.loads(output)}[str(tmp_path)]
    assert (status, finding["code"], finding["level"]) == (0, "bids-no-scan", "warning")
    assert finding["message"].startswith(
        "2 of 3 people have no T1w scan: sub-02, sub-03; sub-02 has anat/sub-0"
    )
    assert f"warning bids-no-scan: {finding['message']} {finding['fix']}" in run("check", tmp_path)[1]
    (tmp_path / "sub-01/anat/sub-01_T1w.nii.gz").rename(tmp_path / "sub-01/anat/scan.nii.gz")
    assert "bids-no-scan" not in run("check", tmp_path)[1]
    (tmp_path / "dataset_description.json").write_text('{"DatasetType": "derivative"}')
    assert "bids-no-scan" not in run("check", tmp_path)[1]
    (tmp_path / "dataset_description.json").unlink()
    (tmp_path / "participants.tsv").touch()
    assert "3 of 3 people have no T1w scan" in run("check", tmp_path)[1]


def test_people_without_a_scan_are_told_of_each_data_set_in_a_folder(run, scan: Path, tmp_path: Path):
    for study, name in (("one", "sub-01_T1w.nii.gz"), ("two", "sub-01_t1w.nii.gz")):
        (tmp_path / study / "sub-01" / "anat").mkdir(parents=True)
        (tmp_path / study / "dataset_description.json").write_text("{}")
        shutil.copy(scan, tmp_path / study / "sub-01" / "anat" / name)
    entries = json.loads(run("check", tmp_path, "--json")[1])
    told = {entry["scan"]: found for entry in entries for found in entry["findings"]}
    assert {scan: found["code"] for scan, found in told.items()} == {str(tmp_path / "two"): "bids-no-scan"}


def test_harmonizing_keeps_the_grid_and_leaves_the_evidence(run, scan: Path, tmp_path: Path):
    options = ("--uncertainty", "--output", tmp_path, "--json")
    status, output, _ = run("harmonize", scan, "--to", "NSK", *options)
    record = json.loads(output)[0]
    result = Path(record["output"])
    before, after = nib.load(scan), nib.load(result)
    assert status == 0
    assert result.name == scan.name.replace("_T1w", "_desc-harmonized_T1w")
    assert after.shape == before.shape
    assert np.array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.get_data_dtype() == np.float32
    assert np.isfinite(after.get_fdata()).all()
    note = json.loads(result.with_name(result.name.replace(".nii.gz", ".json")).read_text())
    assert note["Target"] == "NSK"
    assert note["Source"] is None
    assert note["Method"] == "diffusion"
    assert len(note["ModelSHA256"]) == 64
    assert note["SkullStripped"] is True
    assert (result.parent / note["Sources"][0]).samefile(scan)
    assert note["Verdict"] in ("pass", "warn", "fail")
    assert {"SpatialReference", "Seed", "Versions", "Drift"} <= set(note)
    uncertainty = nib.load(tmp_path / scan.name.replace("_T1w", "_desc-uncertainty_stdmap"))
    voxels, brain = uncertainty.get_fdata(), after.get_fdata() != 0
    assert np.array_equal(uncertainty.affine, before.affine)
    assert uncertainty.get_data_dtype() == np.float32
    assert voxels[brain].mean() == pytest.approx(note["MeanUncertainty"], rel=1e-2)
    assert not voxels[~brain].any()


def test_the_same_seed_gives_the_same_bytes(run, scan: Path, tmp_path: Path, request):
    arguments = ("harmonize", scan, "--to", "LA", "--seed", 7, "--output")
    assert run(*arguments, tmp_path / "one")[0] == 0
    request.getfixturevalue("worked_out_anew")
    assert run(*arguments, tmp_path / "two")[0] == 0
    one, two = (sorted((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 2


def test_a_scan_harmonized_to_its_own_domain_is_the_prepared_scan(run, scan: Path, tmp_path: Path):
    own = ("--from", "mprage-3t", "--to", "mprage3t")
    assert run("harmonize", scan, *own, "--output", tmp_path / "ours.nii.gz")[0] == 0
    assert run("harmonize", scan, *own, "--method", "none", "--output", tmp_path / "none.nii.gz")[0] == 0
    ours, prepared = (nib.load(tmp_path / name).get_fdata() for name in ("ours.nii.gz", "none.nii.gz"))
    assert np.array_equal(ours, prepared)


def test_a_bad_scan_in_a_batch_leaves_the_others_done(run, scan: Path, broken: Path, tmp_path: Path):
    scans = (broken, scan, tmp_path / "missing.nii.gz")
    arguments = ("--to", "LA", "--method", "histogram", "--output", tmp_path / "out", "--json")
    status, output, errors = run("harmonize", *scans, *arguments)
    assert status == 3
    assert [bool(record["output"]) for record in json.loads(output)] == [False, True, False]
    assert broken.name in errors
    assert "missing.nii.gz" in errors
    assert "Traceback" not in errors
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1


def test_specks_without_a_brain_are_refused_in_one_sentence(run, tmp_path: Path):
    specks = np.diag(np.arange(100))[:, :, None] * np.eye(100)[50]  # noise is refused too, but takes long
    nib.save(nib.Nifti1Image(specks.astype(np.int16), np.diag([2.0, 2, 2, 1])), tmp_path / "specks.nii.gz")
    status, _, errors = run(
        "harmonize", tmp_path / "specks.nii.gz", "--to", "LA", "--output", tmp_path / "out"
    )
    assert status == 3
    assert "specks.nii.gz: no brain was found" in errors
    assert len(sentences(errors)) == 1
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "mars"), "mars"),
        (("--to", "LA", "--from", "mars"), "mars"),
        (("--to", "sub-1_T1w.nii.gz"), "is a scan, no domain. Give its sidecar, sub-1_T1w.json, for its"),
        (("--to", "LA", "--model", "nowhere"), "nowhere"),
        (("--to", "LA", "--method", "magic"), "magic"),
        (("--to", "LA", "--extent", "leg"), "leg"),
        (("--to", "LA", "--to", "NSK"), "--to: is given 2 times, but takes one value. Give it once."),
        (("--to", "LA", "--lock", "--no-lock"), "--lock/--no-lock: is given 2 times"),
        (("--to", "LA", "--output", "result.nii"), "result.nii"),
        (("--to", "LA", "--method", "histogram", "--uncertainty"), "histogram has no seeds"),
        (("--to", "LA", "--prepared", ""), "mrharmony: the argument after --prepared is empty. Give one;"),
        (("--to", "LA", "--mask="), "mrharmony: the argument after --mask is empty. Give one;"),
    ],
)
def test_wrong_arguments_end_with_status_2_before_any_work(
    run, scan: Path, tmp_path: Path, arguments, message
):
    output = () if "--output" in arguments else ("--output", tmp_path / "out")
    status, _, errors = run("harmonize", scan, *output, *arguments)
    assert status == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_results_that_would_collide_are_refused(run, scan: Path, tmp_path: Path):
    twin = tmp_path / "elsewhere" / scan.name
    twin.parent.mkdir()
    shutil.copy(scan, twin)
    status, _, errors = run("harmonize", scan, twin, "--to", "LA", "--output", tmp_path / "out")
    assert status == 2
    assert f"name: {scan}, {twin}. Harmonize them in calls" in errors


def test_a_scan_named_twice_is_taken_once(run, broken: Path, tmp_path: Path):
    arguments = ("--to", "LA", "--method", "none", "--output", tmp_path / "out", "--json")
    status, output, errors = run("harmonize", broken, broken, *arguments)
    assert (status, len(json.loads(output))) == (3, 1), errors


def test_the_folder_one_is_in_is_no_scan_and_no_mask(run, scan: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("--to", "LA", "--method", "none", "--output", tmp_path / "out")
    for given in (["."], [scan, "--mask", "."]):
        status, _, errors = run("harmonize", *given, *arguments)
        assert (status, "This is a folder" in errors) == (3, True), errors


def test_a_file_in_the_place_of_a_folder_is_told(run, scan: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    arguments = ("--to", "LA", "--method", "none", "--output", tmp_path / "file" / "below")
    status, _, errors = run("harmonize", scan, *arguments)
    assert (status, "A file is where a folder would have to be; choose" in errors) == (2, True), errors


def test_what_is_found_is_a_line_of_its_own_however_long_the_path(run, scan: Path, tmp_path: Path):
    path = tmp_path / "far" / ("down " * 20) / scan.name
    path.parent.mkdir(parents=True)
    path.symlink_to(scan)
    _, output, _ = run("check", path)
    assert f"{path}: fine" in output.splitlines()


def test_a_link_that_leads_to_itself_is_refused_alone(run, scan: Path, tmp_path: Path):
    loop = tmp_path / "sub-loop_T1w.nii.gz"
    loop.symlink_to(loop.name)
    arguments = ("--to", "LA", "--method", "none", "--output", tmp_path / "out", "--json")
    status, output, errors = run("harmonize", scan, loop, *arguments)
    assert status == 3, errors
    assert [bool(record["output"]) for record in json.loads(output)] == [True, False]
    assert f"{loop}: " in errors


def test_whether_a_scan_may_be_read_is_asked_of_each_scan_alone(run, scan: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode, **_: asked.append(path))
    status, _, errors = run("check", scan)  # the system lets us open it, and that decides
    assert (status, asked) == (0, []), errors


def test_a_result_never_replaces_its_scan(run, scan: Path):
    before = scan.read_bytes()
    status, _, errors = run("harmonize", scan, "--to", "LA", "--output", scan)
    assert status == 2
    assert "never replace" in errors
    assert scan.read_bytes() == before


def test_a_mask_on_another_grid_is_refused(run, scan: Path, tmp_path: Path):
    nib.save(nib.Nifti1Image(np.ones((30, 30, 30), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    arguments = (
        "harmonize",
        scan,
        "--to",
        "LA",
        "--mask",
        tmp_path / "mask.nii.gz",
        "--output",
        tmp_path / "out",
    )
    status, _, errors = run(*arguments)
    assert status == 3
    assert "mask.nii.gz" in errors


def test_a_given_mask_that_holds_no_brain_is_told_as_such(run, scan: Path, tmp_path: Path):
    image = nib.load(scan)
    empty = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nib.save(empty, tmp_path / "mask.nii.gz")
    arguments = ("--to", "LA", "--mask", tmp_path / "mask.nii.gz", "--output", tmp_path / "out")
    status, _, errors = run("harmonize", scan, *arguments)
    assert status == 3
    assert f"{tmp_path / 'mask.nii.gz'}: Its voxels above 0 hold 0 ml" in errors


def test_a_mask_on_the_grid_decides_what_is_brain(run, scan: Path, tmp_path: Path):
    image = nib.load(scan)
    mask = image.get_fdata() > 0
    mask[:, : mask.shape[1] // 4] = False
    stripped = np.where(mask, image.get_fdata(dtype=np.float32), 0)
    nib.save(nib.Nifti1Image(stripped, image.affine), tmp_path / "mask.nii.gz")
    arguments = ("--method", "histogram", "--mask", tmp_path / "mask.nii.gz")
    status, _, errors = run("harmonize", scan, "--to", "LA", *arguments, "--output", tmp_path / "out.nii.gz")
    assert status == 0
    assert "mask.nii.gz holds many different values; all voxels above 0 are taken for brain." in errors
    assert not nib.load(tmp_path / "out.nii.gz").get_fdata()[~mask].any()


def test_every_domain_of_the_shipped_model_is_listed(run):
    status, output, _ = run("domains", "--json")
    names = {domain["name"] for domain in json.loads(output)}
    assert status == 0
    assert {"NSK", "LA", "mprage-3t", "spgr-1.5t"} <= names


def test_a_whole_data_set_is_done_once_and_summed_up(run, cohort: Path, tmp_path: Path):
    arguments = ("bids", cohort, tmp_path, "participant", "--to", "LA", "--domain-column", "session")
    status, output, _ = run(*arguments, "--method", "regional", "--json")
    results = [Path(record["output"]) for record in json.loads(output)]
    assert status == 0
    assert len(results) == 2
    assert all(result.parent.name == "anat" and result.is_file() for result in results)
    times = [result.stat().st_mtime_ns for result in results]
    note = results[0].with_name(results[0].name.replace(".nii.gz", ".json"))
    note.write_text(json.dumps(json.loads(note.read_text()) | {"Sampling": {"steps": 2}}))
    assert run(*arguments, "--method", "regional")[0] == 0
    kept = [result.stat().st_mtime_ns == time for result, time in zip(results, times, strict=True)]
    assert kept == [False, True]  # the first had been sampled otherwise
    assert run("bids", cohort, tmp_path, "group", "--to", "LA")[0] == 0
    lines = (tmp_path / "group.tsv").read_text().splitlines()
    assert len(lines) == 3
    assert "mprage-3t" in lines[1]


def test_a_data_set_without_a_table_comes_from_an_unknown_source(run, scan: Path, tmp_path: Path):
    path = tmp_path / "study" / "sub-7" / "anat" / "sub-7_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    shutil.copy(scan, path)
    arguments = ("bids", tmp_path / "study", tmp_path / "out", "participant", "--to", "LA")
    status, _, errors = run(*arguments)
    assert status == 0, errors
    note = json.loads((tmp_path / "out/sub-7/anat/sub-7_desc-harmonized_T1w.json").read_text())
    assert note["Source"] is None
    assert note["NearestDomain"] is not None
    status, _, errors = run(*arguments, "--domain-column", "site")
    assert status == 2
    assert "participants.tsv: cannot be read (there is no such file)" in errors


def test_simulating_into_a_full_folder_loses_nothing(run, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    status, _, errors = run("simulate", tmp_path, "--subjects", 1)
    assert status == 2
    assert "holds something else" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_gzip_bomb_is_refused_quickly(run, tmp_path: Path):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_sform(np.eye(4), 1)
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    assert run("check", bomb)[0] == 3


def test_training_on_a_data_set_without_the_column_names_those_there_are(run, cohort: Path, tmp_path: Path):
    status, _, errors = run("train", cohort, "--output", tmp_path / "model", "--domain-column", "coil")
    assert status == 2
    assert "participants.tsv" in errors
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("option", [("--seed", 0), ("--device", "cpu")])
@pytest.mark.parametrize(
    ("method", "told"), [("nyul", True), ("diffusion", True), ("img2img", False), ("cyclegan", False)]
)
def test_training_tells_what_a_method_has_no_use_for(run, tmp_path: Path, option, method, told):
    words = ("train", tmp_path / "nowhere", "--output", tmp_path / "model", "--method", method)
    sentence = f"{method}: --seed and --device change nothing; --method img2img uses them."
    status, _, errors = run(*words, *option)
    assert (status, sentence in errors) == (2, told)
    assert "change nothing" not in run(*words)[2]


def test_the_papers_way_runs_on_the_shipped_model(run, scan: Path, tmp_path: Path):
    (tmp_path / "quick.yaml").write_text("{strength: 0.2, num_inference_steps: 5}", encoding="utf-8")
    options = ("--translation", tmp_path / "quick.yaml", "--no-lock", "--force", "--json")
    arguments = ("--to", "NSK", "--method", "img2img", "--output", tmp_path / "out")
    status, output, _ = run("harmonize", scan, *arguments, *options)
    assert status == 0
    made = nib.load(json.loads(output)[0]["output"])
    assert made.shape == nib.load(scan).shape
    assert np.isfinite(made.get_fdata()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--translation", "paper"), "--method img2img"),
        (("--method", "img2img", "--translation", "nowhere.yaml"), "no such file"),
    ],
)
def test_settings_of_pictures_that_do_not_fit_are_refused(run, scan: Path, tmp_path: Path, options, message):
    status, _, errors = run("harmonize", scan, "--to", "NSK", "--output", tmp_path / "out", *options)
    assert status == 2
    assert message in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250 + ".nii.gz"])
def test_a_name_that_no_disk_takes_is_told_in_a_sentence(run, scan: Path, tmp_path: Path, name: str):
    arguments = ("--to", "LA", "--method", "none", "--output", tmp_path / name)
    status, _, errors = run("harmonize", scan, *arguments)
    assert (status in (2, 3), "File name too long" in errors) == (True, True), errors
    assert "unexpected" not in errors
    assert not list(tmp_path.iterdir())


def test_a_pipe_in_the_place_of_a_protocol_or_a_table_is_no_endless_wait(run, scan: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "protocol.json")
    os.mkfifo(tmp_path / "participants.tsv")
    arguments = ("--to", tmp_path / "protocol.json", "--output", tmp_path / "out")
    assert run("harmonize", scan, *arguments)[0] == 2
    with pytest.raises(MrharmonyError, match="a pipe or a device"):
        read_participants(tmp_path / "participants.tsv")


def test_a_working_folder_that_is_gone_is_told(run, tmp_path: Path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, _, errors = run("domains")
    assert (status, errors) == (2, "mrharmony: the working folder is gone. Go to another, and call again.\n")
