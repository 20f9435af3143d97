"""`mrharmony demo` on one coarse head and two scanners: its commands, its figures, its sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from rich.console import Console

from helpers.commands import Run
from mrharmony.cli.app import app
from mrharmony.cli.virtual import run_demo
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.demo import Demo, DemoResult, DemoRow
from mrharmony.jobs.evaluating import evaluate_paired
from mrharmony.simulate.cohort_files import claim


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo before it has run."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    return Demo(folder, scanners=("mprage-3t", "spgr-1.5t"), zoom=3)


@pytest.fixture(scope="module")
def printed(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        capture = tmp_path_factory.mktemp("printed") / "stdout"
        with capture.open("w") as stream:
            patch.setattr("sys.stdout", stream)
            run_demo(demo, as_json=False)
        return capture.read_text()


def test_it_says_first_how_long_it_takes_and_where_it_writes(demo: Demo, printed: str):
    before = printed.split("$ mrharmony", maxsplit=1)[0]
    assert "three minutes" in before
    assert str(demo.folder) in before.replace("\n", "")
    assert "Billot et al. 2023" in before


def test_it_runs_what_a_user_types(demo: Demo, printed: str):
    commands = [line for line in printed.splitlines() if line.startswith("$ ")]
    assert [line.split()[2] for line in commands] == [
        "simulate",
        "check",
        "prepare",
        "bids",
        "bids",
    ]
    assert f"--to {demo.target}" in commands[3]
    assert "T1w.nii.gz: fine" in printed  # of check
    assert "report.html" in printed
    assert (demo.harmonized / "report.html").is_file()


def test_its_figures_are_those_of_the_evaluator(demo: Demo, printed: str):
    (row,) = demo.result().rows
    place = "sub-001/ses-{0}/anat/sub-001_ses-{0}"
    scan, truth = (demo.scans / f"{place.format(name)}_T1w.nii.gz" for name in ("spgr15t", "mprage3t"))
    ours = demo.harmonized / f"{place.format('spgr15t')}_desc-harmonized_T1w.nii.gz"
    scores = evaluate_paired(ours, truth, scan, None, demo.prepared)
    expected = [scores[name]["psnr"] for name in ("nothing", "output", "truth-fitted lock")]
    assert [row.nothing, row.ours, row.limit] == pytest.approx(expected, abs=1e-4)
    assert row.nothing < row.histogram < row.limit
    assert row.nothing < row.ours < row.limit
    assert f"{row.ours:.1f}" in printed


def test_a_second_call_does_nothing_again_and_prints_a_record(
    demo: Demo, printed: str, capsys: pytest.CaptureFixture[str]
):
    results = sorted(demo.folder.rglob("*.nii.gz"))
    before = [path.stat().st_mtime_ns for path in results]
    run_demo(demo, as_json=True)
    output, errors = capsys.readouterr()
    record = json.loads(output)
    assert record["conclusion"] in printed
    assert record["page"] == str(demo.harmonized / "report.html")
    assert "$ mrharmony simulate" in errors
    assert [path.stat().st_mtime_ns for path in results] == before


def test_a_scan_of_its_own_that_is_cut_is_told_with_what_to_do(demo: Demo, printed: str, tmp_path: Path):
    own = Path(shutil.copytree(demo.scans, tmp_path / "begun" / "scans"))
    begun, cut = replace(demo, folder=own.parent), next(own.rglob("*_ses-spgr15t_T1w.nii.gz"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[:1000])
    for _ in range(2):
        with pytest.raises(MrharmonyError, match=f"^{cut}: .* Move it away and call again; it is made anew"):
            run_demo(begun, as_json=False)
    cut.unlink()
    assert app(next(begun.commands()), standalone_mode=False) == 0
    assert cut.read_bytes() == whole


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            (20, 25, 30, 31),
            "10.0 dB above doing nothing, 5.0 dB above histogram matching, and 1.0 dB below the most",
        ),
        ((20, 25, 18, 31), "2.0 dB below doing nothing, 7.0 dB below histogram matching"),
        ((20, 25, 25.01, 31), "level with histogram matching"),
    ],
)
def test_the_conclusion_says_what_the_figures_are(figures: tuple[float, ...], said: str):
    result = DemoResult((DemoRow("spgr-1.5t", *figures),), "mprage-3t", Path("report.html"))
    assert said in result.conclusion()
    console = Console(record=True, width=140)
    result.print(console)
    text = console.export_text()
    assert all(f"{value:.1f}" in text for value in astuple(result.rows[0])[1:])
    assert "more is better" in text


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "thesis.txt").write_text("precious")
    with pytest.raises(MrharmonyError, match="scans"):
        run_demo(Demo(tmp_path, zoom=4), as_json=False)
    assert (tmp_path / "scans" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("given", ["scan.nii.gz", "study", "."])
def test_somebodys_scans_are_not_taken_for_a_place(given: str, tmp_path: Path, run: Run):
    (tmp_path / "scan.nii.gz").touch()
    (tmp_path / "study" / "sub-01").mkdir(parents=True)
    status, output, errors = run("demo", tmp_path / given)
    assert (status, output) == (2, "")
    assert errors.startswith(f"mrharmony: {tmp_path / given}: the demo makes scans of its own")
    assert len(list(tmp_path.rglob("*"))) == 3


def test_notes_beside_a_demo_that_was_begun_do_not_stop_it(tmp_path: Path):
    demo = Demo(tmp_path)
    demo.require_place()
    claim(demo.scans, {"Seed": 0})
    (tmp_path / "notes.txt").touch()
    demo.require_place()


def test_a_place_where_nothing_can_be_written_is_told_before_anything_is_said(tmp_path: Path, run: Run):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    itself = f"{loop} is a link that leads to itself; choose another place."
    for folder, why in ((loop, itself), (Path("/proc/self"), ""), (loop / "in", itself)):
        status, output, errors = run("demo", folder)
        assert (status, output) == (2, ""), folder
        assert errors.startswith(f"mrharmony: {folder}: cannot be written into"), errors
        assert errors.strip().endswith(why), errors


def test_a_command_that_refuses_a_scan_ends_it_with_its_status(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    monkeypatch.setattr(Demo, "commands", lambda _: iter([["check", str(tmp_path)], ["domains"]]))
    status, output, _ = run("demo", tmp_path / "out")
    assert status == 3
    assert "$ mrharmony domains" not in output
