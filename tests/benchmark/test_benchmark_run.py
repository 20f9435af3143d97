"""A whole benchmark on a small virtual study: complete, honest, resumable."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.harmonizing import Contest, run_method
from mrharmony.benchmark.plan import make_plan
from mrharmony.benchmark.run import ZOOM, BenchmarkRequest, run_benchmark
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.brains import prepare_positions
from mrharmony.space.grid import Grid


@pytest.fixture(scope="module")
def study(two_sites: Path) -> Path:
    return two_sites


def request_on(study: Path, output: Path, methods: tuple[str, ...] = ("histogram",)) -> BenchmarkRequest:
    return BenchmarkRequest(study, output, "mrharmony benchmark", "session", "mprage3t", (), methods)


@pytest.fixture(scope="module")
def output(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "out"
    result = run_benchmark(request_on(study, folder))
    assert not result.refused
    return folder


@pytest.fixture(scope="module")
def rows(output: Path) -> dict[str, dict]:
    return rows_of(output)


def rows_of(output: Path) -> dict[str, dict]:
    record = json.loads((output / "benchmark.json").read_text("utf-8"))
    return {row["method"]: row for row in record["rows"]}


def figures_of(output: Path) -> list[dict]:
    """Return the rows without what differs from run to run."""
    costs = {"seconds", "fit_seconds", "peak_mib"}
    return [{key: row[key] for key in row.keys() - costs} for row in rows_of(output).values()]


def test_every_method_has_a_row_and_so_has_doing_nothing(rows: dict[str, dict]):
    assert list(rows) == ["none", "histogram", "truth-fitted lock"]


def test_histogram_matching_is_better_than_nothing_and_the_bound_is_best(rows: dict[str, dict]):
    nothing, histogram, bound = rows.values()
    assert nothing["gain"] == 0 < histogram["gain_low"] < histogram["gain"] < bound["gain"]
    assert histogram["room"] == pytest.approx(0)
    assert bound["room"] == pytest.approx(1)


def test_doing_nothing_keeps_the_site_the_anatomy_and_identity(rows: dict[str, dict]):
    nothing = rows["none"]
    assert nothing["probe_linear"] == 1
    assert nothing["drift"] == pytest.approx(0, abs=0.02)  # brains are kept in half precision
    assert nothing["identity_ssim"] == pytest.approx(1)


def test_every_row_says_its_command_seed_time_and_memory(rows: dict[str, dict]):
    for row in rows.values():
        assert row["command"] == "mrharmony benchmark"
        assert row["seed"] == 0
        assert row["seconds"] > 0
        assert row["peak_mib"] > 100


def test_the_record_says_what_the_whole_run_took(output: Path):
    about = json.loads((output / "benchmark.json").read_text("utf-8"))["about"]
    wall, processor = (float(part.split()[0]) for part in about["Time"].split(", ")[:2])
    assert 1 < processor < 60 * wall
    assert about["Time"].endswith("s of processor for none, histogram, truth-fitted lock")


def test_shuffled_labels_are_the_control_of_both_classifiers_on_raw_scans(rows: dict[str, dict]):
    assert 0 <= rows["none"]["probe_cnn_control"] < 1
    assert rows["histogram"].get("probe_cnn_control") is None


def test_no_simple_method_has_seen_the_truth(rows: dict[str, dict]):
    assert rows["histogram"]["leak"] < 0.4


def test_biology_of_the_bound_is_that_of_the_truth(rows: dict[str, dict]):
    assert rows["truth-fitted lock"]["slope"] == pytest.approx(1, abs=0.2)


def test_a_second_run_takes_up_what_the_first_has_done_and_works_out_the_rest(study: Path, output: Path):
    record = next((output / "work" / "none").glob("*.json"))
    before, scores = record.stat().st_mtime_ns, figures_of(output)
    one, other, brainless = sorted((output / "work" / "histogram").glob("sub-*.json"))[:3]
    one.unlink()
    other.write_text("{}")
    brain = brainless.with_suffix(".npz")
    brain.unlink()
    figures = output / "work" / "histogram.json"
    figures.write_text('{"a": 1}')
    run_benchmark(request_on(study, output))
    assert all("targets" in json.loads(file.read_text("utf-8")) for file in (one, other, brainless))
    assert brain.is_file()
    assert "sites" in json.loads(figures.read_text("utf-8"))
    assert record.stat().st_mtime_ns == before
    assert figures_of(output) == scores


def test_methods_of_an_earlier_call_that_lose_their_rows_are_told(study: Path, output: Path, capsys):
    request = request_on(study, output)
    run_benchmark(replace(request, methods=("none",)))
    assert f"{output}: histogram, of an earlier call, has no row" in capsys.readouterr().err
    run_benchmark(request)
    assert "of an earlier call" not in capsys.readouterr().err


def test_a_fitted_method_whose_file_was_lost_damaged_or_exchanged_is_fitted_again(
    study: Path, output: Path, capsys
):
    plan, folder = make_plan(study, "session", "mprage3t"), BenchmarkFolder(output)
    brains, _ = prepare_positions(plan.positions(plan.scans.values()), Grid.working(ZOOM), folder.brains, 1)
    fitted = folder.fitted(0, "histogram") / "statistics.safetensors"
    score = next((output / "work" / "histogram").glob("sub-*.json"))
    before = fitted.read_bytes()
    told = f"{fitted}: is not what the fit has written; histogram is fitted again.\n"
    for now, words in ((before, ""), (None, told), (before[:-9], told), (b"something else", told)):
        fitted.unlink()
        if now is not None:
            fitted.write_bytes(now)
        score.unlink()
        run_method(Contest(plan, folder, brains, ZOOM, 0), "histogram")
        assert score.is_file()
        assert fitted.read_bytes() == before
        assert capsys.readouterr().err == words


def test_a_folder_with_something_else_is_left_alone(study: Path, output: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MrharmonyError, match="holds no benchmark"):
        run_benchmark(request_on(study, tmp_path))
    changed = tmp_path / "changed"
    shutil.copytree(study, changed)
    table = changed / "participants.tsv"
    table.write_text(table.read_text("utf-8").replace("control", "patient"), "utf-8")
    with pytest.raises(MrharmonyError, match="another data set"):
        run_benchmark(request_on(changed, output))


@pytest.mark.parametrize("which", ["sub-*/ses-*/anat/*_T1w.nii.gz", "derivatives/truth/*/anat/*_dseg.nii.gz"])
def test_scans_of_the_same_size_that_show_something_else_are_another_data_set(
    study: Path, output: Path, tmp_path: Path, which: str
):
    changed = tmp_path / "changed"
    shutil.copytree(study, changed)
    *_, last = sorted(changed.glob(which))
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    with pytest.raises(MrharmonyError, match="another data set"):
        run_benchmark(request_on(changed, output))


def test_an_unknown_method_is_told(study: Path, tmp_path: Path):
    with pytest.raises(MrharmonyError, match="magic: no such method"):
        run_benchmark(request_on(study, tmp_path / "out", ("magic",)))
