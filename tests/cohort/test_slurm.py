"""A study as an array of a real Slurm, which the tests start themselves."""

import json
import os
import random
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from benchmarks._shared.slurm import NoSlurm, one_node
from benchmarks._shared.studies import prepared_study
from benchmarks.robustness.slurm import KILL, SCANCEL, Campaign

from mrharmony.jobs import preparing
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.selection import Selection, read_scan_list
from mrharmony.weights import shipped_model

PEOPLE = {f"{number:02}": "north" for number in range(1, 9)}


@pytest.fixture(scope="module")
def folder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study` and `prepared`."""
    return prepared_study(tmp_path_factory.mktemp("array"), cohort, PEOPLE)


def test_killed_tasks_are_submitted_again_and_nobody_is_missing(folder: Path, tmp_path: Path):
    try:
        with one_node(tmp_path / "node") as environment:
            came = Campaign(folder, environment, random.Random(1)).run(tasks=4, cores=2)
    except NoSlurm as reason:
        pytest.skip(f"Slurm: {reason}")
    first, *later = came["rounds"]
    assert (first["scans"], first["tasks"], first[SCANCEL]) == (8, 4, 1)
    assert first[SCANCEL] + first[KILL] == 2
    assert 0 < first["left"] < 8
    assert later[0]["scans"] == first["left"]
    assert later[-1]["left"] == 0
    assert came["same"] == came["files"] == 16
    assert (came["more"], came["twice"]) == (0, 0)
    assert came["table"] == {"done": 8}


def freeze(run, folder: Path, out: Path, *more: object) -> tuple[int, str, str]:
    command = ("bids", folder / "study", out, "participant", "--to", "LA", "--method", "none", "--force")
    return run(*command, "--prepared", folder / "prepared", *more)


def test_a_dry_run_counts_the_tasks_that_the_array_then_has(run, folder: Path, tmp_path: Path):
    more = ("--slurm", tmp_path / "arrays", "--slurm-tasks", 5, "--json")
    plan = json.loads(freeze(run, folder, tmp_path / "out", *more, "--dry-run")[1])
    written = json.loads(freeze(run, folder, tmp_path / "out", *more)[1])
    assert plan["workers"] == written["tasks"] == 4  # of two scans each
    assert "--array=1-4%4 " in Path(written["submit"]).read_text()


def test_each_call_writes_its_own_folder_and_a_task_of_it_does_its_part(run, folder: Path, tmp_path: Path):
    out, slurm = tmp_path / "out", tmp_path / "an array's 100%"
    more = ("--slurm", slurm, "--slurm-tasks", 5, "--slurm-prefix", "apptainer exec 'my image.sif'")
    status, output, _ = freeze(run, folder, out, *more, "--participant-label", "01", "02", "--json")
    assert status == 0
    first = json.loads(output)
    assert (first["scans"], first["tasks"]) == (2, 2)
    script = Path(first["submit"])
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "apptainer exec 'my image.sif' mrharmony bids" in script.read_text()
    assert script.with_name("scans.txt").read_text().splitlines() == [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    ]
    assert not out.exists()
    before = {path: path.read_bytes() for path in script.parent.iterdir()}
    status, output, _ = freeze(run, folder, out, *more)
    assert (status, "8 scans in 4 tasks" in output) == (0, True)
    assert len(list(slurm.iterdir())) == 2
    assert {path: path.read_bytes() for path in script.parent.iterdir()} == before

    task = ("--config", script.with_name("settings.toml"), "--scans", script.with_name("scans.txt"))
    for part in ("1/2", "2/2"):
        status, _, errors = run("bids", folder / "study", out, "participant", *task, "--part", part)
        assert (status, errors.splitlines()[-1]) == (0, "1 done.")
    status, output, _ = freeze(run, folder, out, "--slurm", slurm, "--participant-label", "01", "02")
    assert (status, output) == (0, "nothing to do: 2 scans are finished\n")
    assert len(list(slurm.iterdir())) == 2


PROTOCOL = {"MagneticFieldStrength": 3, "RepetitionTime": 2.3, "InversionTime": 0.9, "EchoTime": 0.003}


@pytest.mark.parametrize("target", ["LA", "target.json"])
def test_settings_name_files_so_that_they_are_found_from_any_folder(
    run, folder: Path, tmp_path: Path, monkeypatch, target: str
):
    (tmp_path / "model").symlink_to(shipped_model())
    (tmp_path / "prepared").symlink_to(folder / "prepared")
    (tmp_path / "target.json").write_text(
        json.dumps({**PROTOCOL, "FlipAngle": 9, "SeriesDescription": "mprage"})
    )
    monkeypatch.chdir(tmp_path)
    settings = ("--model", "model", "--prepared", "prepared", "--to", target)
    status, output, errors = run(
        *("bids", folder / "study", "out", "participant", *settings, "--slurm", "array", "--json")
    )
    assert status == 0, errors
    written = Path(json.loads(output)["submit"]).with_name("settings.toml")
    assert tomllib.loads(written.read_text()) == {
        "to": target if target == "LA" else str(tmp_path / target),
        "model": str(tmp_path / "model"),
        "prepared": str(tmp_path / "prepared"),
    }
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = ("--config", written, "--dry-run")
    status, output, errors = run("bids", folder / "study", tmp_path / "out", "participant", *again)
    assert (status, "8 to do" in output) == (0, True), errors


def test_parts_of_a_list_share_it_among_them(folder: Path, tmp_path: Path):
    names = [f"sub-{person}/anat/sub-{person}_T1w.nii.gz" for person in PEOPLE]
    listed = tmp_path / "scans.txt"
    listed.write_text("\n".join([*names, "sub-99/anat/sub-99_T1w.nii.gz"]))
    parts = [read_scan_list(listed, f"{number}/4") for number in range(1, 5)]
    assert sorted(name for part in parts for name in part) == sorted(read_scan_list(listed))
    index, selection = BidsIndex.open(folder / "study"), Selection(listed=read_scan_list(listed, "1/4"))
    assert [scan.subject for scan in selection.of(index)] == ["01", "05"]
    assert selection.gone(index) == ["sub-99/anat/sub-99_T1w.nii.gz"]


def test_a_list_may_come_from_windows_and_hold_any_name(tmp_path: Path):
    listed = tmp_path / "scans.txt"
    names = [b"sub-1/anat/sub-1_acq-\xe9_T1w.nii", b"sub-1/anat/sub-1_acq-\xc2\x85\x0b_T1w.nii"]
    listed.write_bytes(b"\xef\xbb\xbf./" + b" \r\n".join(names) + b"\r\n\r\n")
    assert sorted(map(os.fsencode, read_scan_list(listed))) == sorted(names)


def test_a_name_that_no_list_can_hold_is_refused_and_said(run, tmp_path: Path):
    scan = tmp_path / "study" / "sub-1" / "anat" / "sub-1_acq-a\nb_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_text("no scan")
    out = tmp_path / "out"
    arguments = ("participant", "--to", "LA", "--method", "none", "--slurm", tmp_path / "array")
    status, _, errors = run("bids", tmp_path / "study", out, *arguments)
    assert (status, "no list can hold this name" in errors) == (2, True)
    scan.rename(scan.with_name("sub-1_T1w.nii.gz"))
    status, _, errors = run("bids", tmp_path / "study", out, *arguments, "--slurm-prefix", "srun\ntouch")
    assert (status, "'srun\\ntouch': has a line break." in errors) == (2, True), errors
    assert not list(tmp_path.glob("array/*"))


def test_a_folder_whose_name_would_break_the_script_is_refused(run, folder: Path, tmp_path: Path):
    odd = tmp_path / "e\nTASK\n)\ntouch broken\narray=$(cat <<TASK\nx"
    shutil.copytree(folder / "study", odd)
    options = ("--to", "LA", "--method", "none")
    status, _, errors = run(
        "bids", odd, tmp_path / "out", "participant", *options, "--slurm", tmp_path / "array"
    )
    assert (status, "has a line break, which no script can hold. Rename the folder." in errors) == (2, True)
    assert not list(tmp_path.glob("array/*"))


def test_an_array_is_not_written_among_the_scans_nor_asked_for_in_part(run, folder: Path, tmp_path: Path):
    study = folder / "study"
    words = ("bids", study, tmp_path / "out", "participant", "--to", "LA", "--method", "none")
    status, _, errors = run(*words, "--slurm", study)
    assert (status, f"{study}: holds the scans. Name another, such as" in errors) == (2, True)
    status, _, errors = run(*words, "--slurm-tasks", "5")
    assert (status, "--slurm-tasks: is of an array of Slurm. Add --slurm DIR" in errors) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--part", "1/2"), "mrharmony: part 1/2: of no list. Name the list of scans with --scans FILE."),
        (("--scans", "LIST", "--part", "3/2"), "'3/2' is no part of it. Write --part 2/5"),
        (("--scans", "LIST", "--part", "1" * 5000 + "/2"), "is no part of it. Write --part 2/5"),
        (("--scans", "LIST", "--part", "2/2"), "no scans in part 2 of 2. Check"),
        (
            ("--scans", "LIST"),
            "Check what it names. 'sub-77/anat/sub-77_T1w.nii.gz' is no scan here; one is sub-",
        ),
        (("--scans", "MISSING"), "MISSING: cannot be read (No such file or directory). Give a text file"),
        (("--scans", "utf-16"), "utf-16: cannot be read (not text in UTF-8). Give a text file in UTF-8"),
        (("--scans", "utf-16-be"), "utf-16-be: cannot be read (not text in UTF-8). Give a text file in"),
    ],
)
def test_a_list_that_names_no_scans_is_refused(
    run, folder: Path, tmp_path: Path, monkeypatch, options: tuple[str, ...], said: str
):
    monkeypatch.chdir(tmp_path)
    Path("LIST").write_text("sub-77/anat/sub-77_T1w.nii.gz\n")
    for encoding in ("utf-16", "utf-16-be"):
        Path(encoding).write_text("sub-01/anat/sub-01_T1w.nii.gz\n", encoding)
    status, _, errors = freeze(run, folder, tmp_path / "out", *options)
    assert (status, said in errors) == (2, True), errors


def test_a_listed_scan_that_is_gone_makes_status_3_and_the_others_are_done(run, folder: Path, tmp_path: Path):
    (tmp_path / "scans.txt").write_text("./sub-04/anat/sub-04_T1w.nii.gz \nsub-99/anat/sub-99_T1w.nii.gz\n")
    listed, out = ("--scans", tmp_path / "scans.txt"), tmp_path / "out"
    said = f"{folder / 'study/sub-99/anat/sub-99_T1w.nii.gz'}: is in the list, but no scan of the data set"
    status, output, errors = freeze(run, folder, out, *listed, "--dry-run")
    assert (status, "1 to do" in output, said in errors) == (0, True, True), errors
    status, output, errors = freeze(run, folder, out, *listed, "--json")
    assert (status, f"refused: {said}" in errors) == (3, True), errors
    assert [record["status"] for record in json.loads(output)] == ["done", "refused"]


def test_a_task_prepares_its_own_scans_alone(run, folder: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "scans.txt").write_text("sub-04/anat/sub-04_T1w.nii.gz\nsub-08/anat/sub-08_T1w.nii.gz\n")
    prepared = []
    monkeypatch.setattr(preparing, "prepare_data_set", lambda index, *_, **__: prepared.extend(index.scans))
    out, more = tmp_path / "out", ("--scans", tmp_path / "scans.txt", "--part", "2/2")
    command = ("bids", folder / "study", out, "participant", "--to", "LA", "--method", "none", "--force")
    assert run(*command, "--work-dir", folder / "prepared", *more)[0] == 0
    assert [scan.subject for scan in prepared] == ["08"]
