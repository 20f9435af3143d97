"""What lies in an output folder is of one kind and of these scans; what is the user's stays."""

import csv
import gzip
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from benchmarks._shared.dicom_files import write_series

import mrharmony
from helpers.commands import sentences
from mrharmony.cli.app import main
from mrharmony.core.atomic import begin_json
from mrharmony.core.findings import MrharmonyError, NotWritten
from mrharmony.core.volume import Volume
from mrharmony.jobs import derivatives, harmonizing, participants
from mrharmony.jobs.derivatives import begin_derivatives
from mrharmony.jobs.harmonizing import output_paths
from mrharmony.preparation import saved
from mrharmony.scans.bids import BidsIndex

QUICK = ("--to", "LA", "--method", "none")


@pytest.fixture(scope="module")
def finished(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study`, a data set of one scan with a table and a description, harmonized into `out`."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "study" / "sub-7" / "anat" / "sub-7_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    shutil.copy(scan, path)
    (folder / "study" / "participants.tsv").write_text("participant_id\tsite\nsub-7\tHere\n")
    (folder / "study" / "dataset_description.json").write_text('{"Name": "ours"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.root.manager, "disable", logging.NOTSET)
        arguments = ["bids", folder / "study", folder / "out", "participant", *QUICK]
        patch.setattr("sys.argv", ["mrharmony", *map(str, arguments)])
        with pytest.raises(SystemExit, match="0"):
            main()
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A data set of its own for each test."""
    return shutil.copytree(finished / "study", tmp_path / "study")


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """What was made of the data set."""
    return shutil.copytree(finished / "out", tmp_path / "out")


def scan_of(study: Path) -> Path:
    return study / "sub-7" / "anat" / "sub-7_T1w.nii.gz"


@pytest.mark.parametrize("command", [("bids", "participant", *QUICK), ("prepare",)])
def test_a_link_that_leads_to_itself_is_no_folder_for_derivatives(
    run, study: Path, tmp_path: Path, command: tuple[str, ...]
):
    loop = tmp_path / "loop"
    loop.symlink_to(loop.name)
    name, *more = command
    status, _, errors = run(name, study, loop, *more)
    assert (status, f"{loop} is a link that leads to itself" in errors) == (2, True), errors


def test_a_data_set_never_becomes_its_own_derivative(run, study: Path):
    status, _, errors = run("bids", study, study, "participant", *QUICK)
    assert status == 2
    assert "holds the scans" in errors
    assert (study / "dataset_description.json").read_text() == '{"Name": "ours"}'
    assert len(list(study.rglob("*.nii.gz"))) == 1


def test_of_two_data_sets_that_begin_in_one_folder_at_once_the_later_is_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other, new = Path(shutil.copytree(study, tmp_path / "other")), tmp_path / "new"
    scan_of(other).write_bytes(scan_of(other).read_bytes() + b"another")

    def begin_later(path, record):
        monkeypatch.setattr(derivatives, "begin_json", begin_json)
        begin_derivatives(BidsIndex.open(other), new, "of the other")
        begin_json(path, record)

    monkeypatch.setattr(derivatives, "begin_json", begin_later)
    with pytest.raises(MrharmonyError, match="has derivatives of another data set"):
        begin_derivatives(BidsIndex.open(study), new, "too late")
    assert json.loads((new / "dataset_description.json").read_text())["Name"] == "of the other"


@pytest.fixture
def twins(tmp_path: Path) -> tuple[BidsIndex, BidsIndex]:
    """Two data sets of seven people each with the same labels, and with equal scans."""
    for study in ("one", "two"):
        for person in range(1, 8):
            scan = tmp_path / study / f"sub-{person}" / "anat" / f"sub-{person}_T1w.nii"
            scan.parent.mkdir(parents=True)
            scan.write_bytes(b"scan of %d" % person)
    return BidsIndex.open(tmp_path / "one", None), BidsIndex.open(tmp_path / "two", None)


def test_data_sets_of_equal_labels_and_sizes_are_told_apart_by_their_content(twins, tmp_path: Path):
    one, two = twins
    for scan in two.scans:
        scan.path.write_bytes(scan.path.read_bytes().replace(b"scan", b"SCAN"))
    begin_derivatives(one, tmp_path / "out", "of one")
    with pytest.raises(MrharmonyError, match=r"has derivatives of another data set, .*one\. Name another"):
        begin_derivatives(two, tmp_path / "out", "of two")
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["Name"] == "of one"


def test_a_copy_of_a_data_set_is_the_same_also_where_a_scan_cannot_be_read(
    twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, two = twins
    read, sha256 = [], derivatives.readable_sha256

    def only_of_the_copy(path: Path) -> str | None:
        read.append(path.name)
        return None if path.name == "sub-1_T1w.nii" and path.is_relative_to(one.root) else sha256(path)

    monkeypatch.setattr(derivatives, "readable_sha256", only_of_the_copy)
    begin_derivatives(one, tmp_path / "out", "of one")
    assert not read
    begin_derivatives(two, tmp_path / "out", "of a copy")
    assert sorted(set(read)) == ["sub-1_T1w.nii", "sub-4_T1w.nii", "sub-7_T1w.nii"]
    assert json.loads((tmp_path / "out" / "dataset_description.json").read_text())["Name"] == "of a copy"


def test_derivatives_can_be_judged_and_maps_are_no_scans(out: Path):
    (result,) = BidsIndex.open(out, "site").scans
    assert (result.subject, result.domain) == ("7", "Here")
    for name in ("desc-uncertainty", "space-MNI152NLin2009aSym_res-1_desc-canonical"):
        shutil.copy(result.path, result.path.with_name(f"sub-7_{name}_T1w.nii.gz"))
    assert [scan.path for scan in BidsIndex.open(out, "site").scans] == [result.path]


def test_a_scan_that_changed_is_done_again_and_its_old_map_goes(run, study: Path, out: Path):
    arguments = ("bids", study, out, "participant", *QUICK)
    result = next(out.rglob("*desc-harmonized_T1w.nii.gz"))
    uncertainty = result.with_name(result.name.replace("harmonized_T1w", "uncertainty_stdmap"))
    note = uncertainty.with_name(uncertainty.name.replace(".nii.gz", ".json"))
    uncertainty.write_bytes(b"of an earlier result")
    note.write_text('{"MeanUncertainty": 1.0}')
    before = result.read_bytes()
    assert run(*arguments)[0] == 0
    assert uncertainty.exists()
    image = nib.load(scan_of(study))
    nib.save(nib.Nifti1Image(image.get_fdata() * 2, image.affine), scan_of(study))
    assert run(*arguments)[0] == 0
    assert result.read_bytes() != before
    assert not uncertainty.exists()
    assert not note.exists()


def test_a_scan_that_cannot_be_read_any_more_keeps_its_result(run, study: Path, out: Path):
    arguments = ("bids", study, out, "participant", *QUICK)
    result = next(out.rglob("*desc-harmonized_T1w.nii.gz"))
    content = scan_of(study).read_bytes()
    scan_of(study).unlink()
    scan_of(study).symlink_to("nowhere")
    status, _, errors = run(*arguments)
    assert status == 0
    assert "not here" in errors
    assert result.is_file()
    scan_of(study).unlink()
    scan_of(study).write_bytes(content[:5000])
    assert run(*arguments)[0] == 3
    assert not result.exists()  # it was of another scan


@pytest.mark.parametrize("lost", ["folder", "bias field", "scan", "version"])
def test_a_result_stays_where_its_preparation_cannot_be_taken_any_more(
    run, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
):
    prepared, out = tmp_path / "prepared", tmp_path / "with-prepared"
    assert run("prepare", study, prepared)[0] == 0
    arguments = ("bids", study, out, "participant", *QUICK, "--prepared", prepared)
    assert run(*arguments)[0] == 0
    result = next(out.rglob("*desc-harmonized_T1w.nii.gz"))
    before = times_of(result)
    if lost == "folder":
        arguments = (*arguments[:-1], tmp_path / "not-mounted")
        (tmp_path / "not-mounted").mkdir()
    elif lost == "bias field":
        next(prepared.rglob("*biasfield.nii.gz")).unlink()
    elif lost == "version":
        monkeypatch.setattr(saved, "VERSION", "later")
        monkeypatch.setattr(participants, "VERSION", "later")
    else:
        scan_of(study).unlink()
        scan_of(study).symlink_to("nowhere")
    status, _, errors = run(*arguments)
    assert status == (0 if lost == "scan" else 3), errors
    assert times_of(result) == before
    if status:
        assert record_of(out)["reason"].endswith("The earlier result stays.")


def record_of(out: Path) -> dict[str, Any]:
    (record,) = (json.loads(one.read_text()) for one in (out / "logs").rglob("*sub-7*.json"))
    return record


def times_of(result: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in result.parent.iterdir()}


def test_what_cannot_be_removed_is_recorded_with_its_reason(
    run, study: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    def refusing(_: Path) -> None:
        raise NotWritten("sub-7_desc-harmonized_T1w.json: cannot be removed (Permission denied).")

    scan_of(study).write_bytes(b"damaged")
    monkeypatch.setattr(participants, "discard_result", refusing)
    assert run("bids", study, out, "participant", *QUICK)[0] == 3
    assert record_of(out)["status"] == "failed"
    assert "cannot be removed (Permission denied)" in record_of(out)["reason"]


def test_of_a_scan_that_is_there_twice_one_is_harmonized_and_that_is_told(run, study: Path, out: Path):
    scan_of(study).with_name("sub-7_T1w.nii").touch()
    status, _, errors = run("bids", study, out, "participant", *QUICK)
    assert status == 0
    assert "sub-7_T1w.nii lies beside its compressed twin; sub-7_T1w.nii.gz is read" in errors


def test_a_folder_that_cannot_be_listed_makes_status_3_beside_what_is_done(
    run, study: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    closed, scandir = study / "sub-8", os.scandir
    closed.mkdir()

    def refusing(path: object = ".") -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    status, output, errors = run("bids", study, out, "participant", *QUICK, "--json")
    assert status == 3
    assert [record["output"] is None for record in json.loads(output)] == [False, True]
    assert f"refused: {closed}: The folder sub-8 cannot be listed (Permission denied)" in errors


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("{", ""),
        ('{"Target": "LA", "Method": "none"}', "SchemaVersion"),
        ('{"SchemaVersion": 1, "Target": "LA", "Method": 3}', "Method"),
    ],
)
def test_a_broken_sidecar_is_a_row_that_says_so(run, study: Path, out: Path, content: str, key: str):
    sidecar = next(path for path in out.rglob("*_desc-harmonized_T1w.json"))
    sidecar.write_text(content)
    status, output, _ = run("bids", study, out, "group", "--json")
    assert status == 0
    with Path(json.loads(output)["table"]).open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert row["status"] == "damaged"
    assert str(sidecar) in row["reason"]
    assert key in row["reason"]
    assert row["verdict"] == row["grey_drift"] == "n/a"
    page = (out / "report.html").read_text("utf-8")
    assert "1 scan without a result" in page
    assert "Could not be used" not in page
    counts = re.findall("<td>(.*?)</td>", page[page.index("<table class='numbers'>") :])
    assert counts[:5] == ["–", "–", "–", "1", "1"]


@pytest.mark.parametrize("option", ["--output", "--mask"])
def test_sidecars_and_masks_of_inputs_are_never_replaced(run, study: Path, option: str):
    scan = scan_of(study)
    raw = scan.with_name("sub-7_T1w.nii")
    raw.write_bytes(gzip.decompress(scan.read_bytes()))
    scan.unlink()
    image = nib.load(raw)
    note = raw.with_suffix(".json")
    note.write_text('{"EchoTime": 0.003}')
    mask = raw.with_name("mask.nii.gz")
    nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype(np.uint8), image.affine), mask)
    before = mask.read_bytes()
    taken = {"--output": ("--output", scan), "--mask": ("--mask", mask, "--output", mask)}[option]
    status, _, errors = run("harmonize", raw, *QUICK, *taken)
    assert status == 2
    assert "never replace" in errors
    assert note.read_text() == '{"EchoTime": 0.003}'
    assert mask.read_bytes() == before
    assert not scan.exists()


@pytest.mark.parametrize("name", ["x.NII.GZ", "x.nii", "x.NII", "x.MGZ", "x.hdr"])
def test_an_output_file_is_never_taken_for_a_folder(name: str):
    with pytest.raises(MrharmonyError, match=r"written as \.nii\.gz\. Name the output so"):
        output_paths([Path("a.nii.gz")], Path(name))


def test_a_fault_of_ours_in_one_scan_leaves_the_others_alone(run, scan: Path, tmp_path: Path, monkeypatch):
    other = tmp_path / "sub-odd_T1w.nii.gz"
    shutil.copy(scan, other)
    ours = harmonizing.prepared_scan

    def faulty(file, read):
        if file.path == other:
            raise ZeroDivisionError("of ours")
        return ours(file, read)

    monkeypatch.setattr(harmonizing, "prepared_scan", faulty)
    status, output, errors = run("harmonize", other, scan, *QUICK, "--output", tmp_path / "out", "--json")
    assert status == 3
    assert [bool(record["output"]) for record in json.loads(output)] == [False, True]
    assert sentences(errors) == [
        f"refused: {other}: unexpected ZeroDivisionError: of ours. Use -v for details."
    ]


def test_an_examination_that_cannot_be_converted_leaves_the_others_done(run, scan: Path, tmp_path: Path):
    odd = Volume(np.random.default_rng(0).random((8, 8, 8), np.float32), np.eye(4))
    for number in (4, 7):
        write_series(tmp_path / "exam", odd, number)
    status, output, errors = run(
        "harmonize", tmp_path / "exam", scan, *QUICK, "--output", tmp_path / "out", "--json"
    )
    assert status == 3
    assert [bool(record["output"]) for record in json.loads(output)] == [False, True]
    assert str(tmp_path / "exam") in errors
    assert "Traceback" not in errors


def test_training_where_no_label_fits_says_so(run, study: Path, tmp_path: Path):
    (study / "participants.tsv").write_text("participant_id\tsite\n007\tHere\n")
    status, _, errors = run("train", study, "--method", "diffusion", "--output", tmp_path / "model")
    assert status == 2
    assert "no scan of Here is found, because the label 007 differs from the folder sub-7 by zeros" in errors
    assert "does not list sub-7" in errors
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (("check",), "Call again to start over."),
        (
            ("harmonize", "--to", "LA", "--output", "OUT"),
            "What is finished stays; call again with the other scans.",
        ),
        (("bids", "OUT", "participant", "--to", "LA"), "What is finished stays; call again to go on."),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_interrupting_says_whether_what_is_finished_stays(
    run, study: Path, scan: Path, tmp_path: Path, monkeypatch, command, remedy
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for place in (
        "scans.reading.check_scan",
        "jobs.single_scans.harmonize_scan",
        "jobs.participants.plan_tasks",
    ):
        monkeypatch.setattr(f"mrharmony.{place}", interrupted)
    name, *options = command
    words = (tmp_path / "out" if word == "OUT" else word for word in options)
    status, _, errors = run(name, study if name == "bids" else scan, *words)
    assert status == 130
    assert errors.splitlines()[-1] == f"mrharmony: interrupted. {remedy}"


def test_a_result_of_another_scan_is_replaced_only_when_asked(run, scan: Path, tmp_path: Path):
    one, other, moved = (tmp_path / name / "T1w.nii.gz" for name in ("one", "other", "moved"))
    for file in (one, other, moved):
        file.parent.mkdir()
    shutil.copy(scan, one)
    other.write_bytes(b"of another person")
    to = (*QUICK, "--output", tmp_path / "out")
    assert run("harmonize", one, *to)[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    status, _, errors = run("harmonize", other, *to)
    said = f"holds the result of another scan, {one}. Name another output, or replace it with --overwrite."
    assert (status, said in errors) == (2, True), errors
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert run("harmonize", other, *to, "--overwrite")[0] == 3  # it is no scan
    shutil.move(one, moved)
    assert run("harmonize", moved, *to)[0] == 0
    moved.write_bytes(b"changed")
    assert run("harmonize", moved, *to)[0] == 3


@pytest.mark.parametrize("target", ["LA", "NSK"])
def test_a_scan_that_is_not_there_is_told_as_such(run, scan: Path, tmp_path: Path, target: str):
    result = tmp_path / "out" / "T1w_desc-harmonized_T1w.nii.gz"
    assert run("harmonize", scan, *QUICK, "--output", result)[0] == 0
    before = {file: file.read_bytes() for file in result.parent.iterdir()}
    missing = tmp_path / "T1w.nii.gz"
    status, _, errors = run("harmonize", missing, "--to", target, *QUICK[2:], "--output", result)
    assert status == 3
    assert sentences(errors) == [
        f"refused: {missing}: There is no such file. Check the path for a typing mistake."
    ]
    assert {file: file.read_bytes() for file in result.parent.iterdir()} == before


def test_a_folder_with_a_line_break_in_its_name_is_named_once_on_one_line(run, tmp_path: Path):
    volume = Volume(np.ones((8, 8, 8), np.float32), np.eye(4))
    write_series(tmp_path / "a\nb", volume, 1)
    status, _, errors = run("harmonize", tmp_path / "a\nb", *QUICK, "--output", tmp_path / "out")
    (said,) = sentences(errors)
    assert (status, said.count("a\\nb: ")) == (3, 1), said


def test_a_result_of_an_image_in_memory_is_replaced_only_when_asked(run, scan: Path, tmp_path: Path):
    output, image = tmp_path / "out.nii.gz", nib.load(scan)
    in_memory = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    mrharmony.Harmonizer.from_pretrained(method="none").harmonize(in_memory, "LA").save(output)
    before = output.read_bytes(), (tmp_path / "out.json").read_bytes()
    status, _, errors = run("harmonize", scan, *QUICK, "--output", output)
    assert status == 2
    assert f"{output}: holds the result of another scan, an image in memory. Name another output" in errors
    assert (output.read_bytes(), (tmp_path / "out.json").read_bytes()) == before
    assert run("harmonize", scan, *QUICK, "--output", output, "--overwrite")[0] == 0


def test_a_page_of_somebody_else_beside_a_result_stays(run, scan: Path, tmp_path: Path):
    to = (*QUICK, "--output", tmp_path / "T1w.nii.gz")
    page = tmp_path / "T1w_desc-harmonized_T1w.html"
    assert run("harmonize", scan, *to)[0] == 0
    page.write_text("<title>mine</title>")
    assert run("harmonize", scan, *to)[0] == 0
    status, _, errors = run("harmonize", scan, *to, "--page")
    assert (status, "is no page of an earlier result. Name another output, or" in errors) == (3, True)
    assert page.read_text() == "<title>mine</title>"
    page.write_text(f"<title>{scan.name}</title>")
    assert run("harmonize", scan, *to)[0] == 0
    assert not page.exists()
