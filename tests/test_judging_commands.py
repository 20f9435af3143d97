"""The commands that judge, on real files: a table for people, JSON for programs, one sentence for mistakes."""

import json
from pathlib import Path

import pytest

from mrharmony.cli.evaluating import evaluate
from mrharmony.simulate import write_cohort

COMMANDS = [command.name or command.callback.__name__ for command in evaluate.registered_commands]
TRUE_BRAIN = "derivatives/truth/sub-001/anat/sub-001_dseg.nii.gz"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three virtual heads, each through the same two scanners, 3 mm."""
    folder = tmp_path_factory.mktemp("judged") / "study"
    write_cohort(folder, subjects=3, scanners=("mprage-3t", "spgr-1.5t"), seed=3, zoom=3.0)
    return folder


@pytest.fixture
def pair(cohort: Path) -> tuple[Path, Path]:
    """One head on two scanners."""
    one, other = sorted(cohort.glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    return one, other


@pytest.mark.parametrize("command", COMMANDS)
def test_every_evaluator_has_a_help(run, command: str):
    status, output, _ = run("evaluate", command, "--help")
    assert status == 0
    assert "Usage" in output


def test_a_scan_scores_perfectly_against_itself_only(run, cohort: Path, pair: tuple[Path, Path]):
    one, other = pair
    mask = cohort / TRUE_BRAIN
    options = ("--source", one, "--mask", mask, "--json")
    status, output, _ = run("evaluate", "paired", other, other, *options)
    perfect = json.loads(output)
    assert status == 0
    assert perfect["output"]["mse"] == 0
    assert perfect["output"]["psnr"] is None  # infinite
    assert perfect["leaked_noise"] > 0.9
    nothing = json.loads(run("evaluate", "paired", one, other, *options)[1])
    assert nothing["gain_db"] == 0
    assert nothing["output"] == nothing["nothing"]
    assert nothing["truth-fitted lock"]["psnr"] > nothing["nothing"]["psnr"] + 3


def test_anatomy_of_a_scan_and_itself_does_not_drift(run, cohort: Path, pair: tuple[Path, Path]):
    scan = pair[0]
    output = run("evaluate", "anatomy", scan, scan, "--mask", cohort / TRUE_BRAIN, "--json")[1]
    record = json.loads(output)
    assert set(record["volume_drift_percent"].values()) == {0.0}
    assert record["edge_correspondence"] == pytest.approx(1)


def test_scans_on_different_grids_are_refused_in_one_sentence(
    run, pair: tuple[Path, Path], study: Path, cohort: Path
):
    elsewhere = next(study.glob("sub-002/ses-*/anat/*_T1w.nii.gz"))
    status, _, errors = run("evaluate", "repeat", pair[0], elsewhere)
    assert status == 2
    assert "another grid" in errors
    assert len(errors.strip().splitlines()) == 1


def test_identity_is_exact_for_population_curves_and_not_for_histogram_matching(run, pair: tuple[Path, Path]):
    arguments = ("evaluate", "identity", pair[0], "--domain", "mprage-3t", "--json", "--method")
    histogram = json.loads(run(*arguments, "histogram")[1])
    assert histogram["mean_mse"] > 1e-6
    regional = json.loads(run(*arguments, "regional")[1])
    assert regional["mean_ssim"] == pytest.approx(1)


def test_sites_of_travelling_heads_are_told_apart(run, study: Path):
    status, output, _ = run("evaluate", "sites", study, "--domain-column", "session", "--json")
    record = json.loads(output)
    assert status == 0
    assert record["chance"] == 0.5
    assert record["linear probe, retrained"] == 1
    assert record["distances"]["wasserstein"]["white"] > 0


def test_ventricles_grow_with_their_factor(run, study: Path):
    arguments = ("--to", "mprage3t", "--factor", "ventricle_scale", "--domain-column", "session", "--json")
    record = json.loads(run("evaluate", "biology", study, *arguments)[1])
    assert record["heads"] == 6
    assert record["slope"]["value"] > 0


def test_the_papers_table_stands_beside_the_papers_numbers(run, study: Path):
    arguments = ("--from", "spgr-1.5t", "--to", "mprage-3t", "--slices", "3", "--method", "none", "--json")
    status, output, _ = run("evaluate", "paper", study, *arguments, "--domain-column", "session")
    table = json.loads(output)["table"]
    assert status == 0
    assert "| 0.581 (± 0.046) |" in table
    assert "spgr-1.5t to mprage-3t | 3 | 1.000" in table


def test_a_fitted_method_is_saved_and_reused_on_unseen_scans(
    run, study: Path, pair: tuple[Path, Path], tmp_path: Path
):
    model = tmp_path / "nyul"
    arguments = ("--method", "nyul", "--domain-column", "session", "--output", model, "--json")
    status, output, _ = run("train", study, *arguments)
    assert status == 0
    assert json.loads(output)["domains"] == {"mprage3t": 3, "spgr15t": 3}
    harmonized = tmp_path / "out"
    arguments = ("--to", "spgr-1.5t", "--method", "nyul", "--model", model, "--output", harmonized, "--json")
    status, output, _ = run("harmonize", pair[0], *arguments)
    assert status == 0
    assert Path(json.loads(output)[0]["output"]).is_file()


def test_a_method_that_was_never_fitted_says_how_to_fit_it(run, pair: tuple[Path, Path], tmp_path: Path):
    status, _, errors = run("harmonize", pair[0], "--to", "NSK", "--method", "combat", "--output", tmp_path)
    assert status == 2
    assert "mrharmony train BIDS_DIR --method combat" in errors


def test_an_unknown_recipe_names_the_known_ones(run, tmp_path: Path):
    status, _, errors = run("simulate", tmp_path / "out", "--recipe", "soup")
    assert status == 2
    assert "confounded" in errors
    assert not (tmp_path / "out").exists()
