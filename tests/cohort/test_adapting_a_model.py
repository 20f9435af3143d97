"""From a BIDS folder of a new site to a model that knows it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.claims import held_by_another
from mrharmony.core.findings import MrharmonyError
from mrharmony.domains.contrast import CONTRAST_MODELS
from mrharmony.domains.statistics import load_statistics
from mrharmony.jobs.adapting import (
    AdaptationReport,
    adapt_on_bids,
    extend_on_bids,
    new_domains,
    require_base,
)
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.harmonizing import harmonize_scan
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.training import CLAIMS, only_run, train_on_bids, work_folder
from mrharmony.methods.diffusion import load_diffusion
from mrharmony.networks.card import CARD, STATISTICS, model_hash, read_card
from mrharmony.networks.compact.model import load_model
from mrharmony.networks.settings import AdaptationSettings, TrainingSettings
from mrharmony.scans.bids import BidsIndex
from mrharmony.weights import shipped_model

TINY = """
working_zoom: 4
autoencoder: {channels: [8, 8], latent_channels: 4}
denoiser: {channels: [16, 32], token_size: 16}
autoencoder_stage: {steps: 2, batch: 2}
denoiser_stage: {steps: 2, batch: 2}
"""
QUICK = AdaptationSettings(steps=2, batch=2, class_images=2)


@pytest.fixture(scope="module")
def base(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows one of the cohort's two scanners."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "tiny.yaml").write_text(TINY)
    settings = TrainingSettings.preset(str(folder / "tiny.yaml"))
    train_on_bids(DataSet(cohort, "session", ["mprage3t"]), folder / "model", settings, "cpu")
    return folder / "model"


@pytest.fixture(scope="module")
def report(cohort: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> AdaptationReport:
    output = tmp_path_factory.mktemp("adapted") / "model"
    return adapt_on_bids(DataSet(cohort, "session"), base, output, QUICK, "cpu")


def test_a_single_scan_of_a_new_site_makes_it_known(report: AdaptationReport):
    assert report.domains == {"spgr15t": 1}
    assert report.nearest == {"spgr15t": "mprage3t"}
    for method in ("diffusion", "img2img"):
        assert open_job(report.model, method, "mprage3t", "spgr15t").target.name == "spgr15t"


def test_the_card_says_where_the_model_comes_from(report: AdaptationReport, base: Path, cohort: Path):
    card, before = read_card(report.model), read_card(base)
    assert [domain.name for domain in card.domains] == ["mprage3t", "spgr15t"]
    assert card.domains[0] == before.domains[0]
    assert card.base
    assert (card.base.sha256, card.base.domains) == (model_hash(base), ("spgr15t",))
    assert card.base.adaptation == QUICK
    assert "unknown" in card.licence
    assert cohort.name in card.training_data
    assert card.base.sha256 in (report.model / "README.md").read_text("utf-8")


def test_statistics_of_old_and_new_domains_are_there(report: AdaptationReport, base: Path):
    before, after = (load_statistics(model / "statistics.safetensors") for model in (base, report.model))
    assert sorted(after) == ["mprage3t", "spgr15t"]
    assert np.array_equal(before["mprage3t"].regional, after["mprage3t"].regional)


def test_detail_of_old_and_new_domains_is_there(report: AdaptationReport, base: Path):
    before, after = (load_diffusion(model).details for model in (base, report.model))
    assert sorted(after) == ["mprage3t", "spgr15t"]
    assert np.array_equal(before["mprage3t"].mean, after["mprage3t"].mean)


def test_the_report_gives_the_drift_of_known_domains(report: AdaptationReport):
    record = json.loads(json.dumps(report.record()))
    assert list(record["drift"]) == ["mprage3t"]
    assert 0 <= record["mean_drift"] < 0.01
    assert f"{record['mean_drift']:.4f}" in report.text()


def test_an_existing_output_is_left_alone(report: AdaptationReport, cohort: Path, base: Path):
    before = model_hash(report.model)
    with pytest.raises(MrharmonyError, match="exists already"):
        adapt_on_bids(DataSet(cohort, "session"), base, report.model, QUICK, "cpu")
    assert model_hash(report.model) == before


@pytest.mark.parametrize("networks", [False, True])
def test_a_second_run_hears_at_once_that_another_is_at_it(
    cohort: Path, base: Path, tmp_path: Path, networks: bool
):
    data, output = DataSet(cohort, "session"), tmp_path / "model"
    work = work_folder(output)
    work.mkdir()
    told = r"model: another run is making this model\. Let it end"
    with held_by_another(work / CLAIMS, output.name), pytest.raises(MrharmonyError, match=told):
        if networks:
            adapt_on_bids(data, base, output, QUICK, "cpu")
        else:
            extend_on_bids(data, base, output)
    assert [path.name for path in work.iterdir()] == [CLAIMS]


@pytest.mark.parametrize("networks", [False, True])
def test_a_model_is_not_made_in_its_base_or_in_a_subjects_folder(cohort: Path, base: Path, networks: bool):
    before, data = model_hash(base), DataSet(cohort, "session")
    (subject, *_) = cohort.glob("sub-*")
    for output, told in (
        (base / "new", r"new: lies in .*, which it would change\. Name a place outside"),
        (subject / "new", rf"new: lies in the folder of {subject.name}\. Name another"),
    ):
        with pytest.raises(MrharmonyError, match=told):
            if networks:
                adapt_on_bids(data, base, output, QUICK, "cpu")
            else:
                extend_on_bids(data, base, output)
    assert model_hash(base) == before


def test_what_another_run_has_finished_meanwhile_stays(report: AdaptationReport):
    with pytest.raises(MrharmonyError, match="model: exists already"), only_run(report.model):
        pass


def test_a_base_that_is_no_model_is_told(cohort: Path, tmp_path: Path):
    base = tmp_path / "base"
    base.mkdir()
    with pytest.raises(MrharmonyError, match="not a model"):
        adapt_on_bids(DataSet(cohort, "session"), base, tmp_path / "model", QUICK, "cpu")
    (base / "model_index.json").write_text("{}")
    with pytest.raises(MrharmonyError, match="pipeline"):
        adapt_on_bids(DataSet(cohort, "session"), base, tmp_path / "model", QUICK, "cpu")


@pytest.fixture(scope="module")
def extended(cohort: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base and the other of the cohort's two scanners, for the default method."""
    output = tmp_path_factory.mktemp("extended") / "model"
    report = extend_on_bids(DataSet(cohort, "session"), base, output)
    assert (report.domains, report.refused) == ({"spgr15t": 1}, {})
    assert "Known domains: the same as in the base, for the default method alone." in report.text()
    assert json.loads(json.dumps(report.record()))["mean_drift"] == 0
    return output


def test_the_default_method_adds_a_contrast_model_and_keeps_the_others(
    extended: Path, base: Path, scan: Path, tmp_path: Path
):
    before, after = load_diffusion(base), load_diffusion(extended)
    assert sorted(after.contrast_models) == sorted(after.details) == ["mprage3t", "spgr15t"]
    known, kept = (method.contrast_models["mprage3t"] for method in (before, after))
    assert np.array_equal(known.mixture, kept.mixture)
    assert np.array_equal(known.curves.offsets, kept.curves.offsets)
    job = open_job(extended, "diffusion", "mprage3t", "spgr15t")
    assert harmonize_scan(job, scan, tmp_path / "out.nii.gz").reason is None


def test_a_model_of_contrast_models_says_so(extended: Path, cohort: Path):
    card = read_card(extended)
    assert card.base
    assert (card.base.domains, card.base.adaptation, card.training) == (("spgr15t",), None, None)
    assert [scan.data_set for scan in card.training_scans][-1] == cohort.name
    with pytest.raises(MrharmonyError, match=r"no networks for img2img\. Choose the default method"):
        load_model(extended)


@pytest.mark.parametrize("name", [STATISTICS, CONTRAST_MODELS])
def test_a_base_with_a_file_of_another_model_is_refused(cohort: Path, base: Path, tmp_path: Path, name: str):
    shutil.copytree(base, tmp_path / "base")
    shutil.copy(shipped_model() / name, tmp_path / "base")
    with pytest.raises(MrharmonyError, match=rf"{name}: does not know mprage3t, .*of another model"):
        extend_on_bids(DataSet(cohort, "session"), tmp_path / "base", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_base_without_its_card_is_no_model_of_another_program(base: Path, tmp_path: Path):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / CARD).unlink()
    with pytest.raises(MrharmonyError, match=f"base: not a model, there is no {CARD}"):
        require_base(str(tmp_path / "base"), download=False)


def test_what_belongs_to_networks_is_not_taken_by_the_default_method(run, cohort: Path, tmp_path: Path):
    words = ("adapt", cohort, "--output", tmp_path / "model", "--domain-column", "session")
    for option in (("--steps", 1), ("--all-weights",)):
        status, _, errors = run(*words, *option, "--method", "diffusion")
        assert (status, "are of img2img. Leave --method diffusion out." in errors) == (2, True)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "mrharmony.json").write_text((shipped_model() / "mrharmony.json").read_text())
    status, _, errors = run(*words, "--base", tmp_path / "base")
    assert "--seed" not in errors
    assert (status, f"{tmp_path / 'base' / CONTRAST_MODELS}: is missing" in errors) == (2, True)
    for option in (("--seed", 3), ("--device", "cpu")):
        status, _, errors = run(*words, "--base", tmp_path / "base", *option)
        assert "diffusion: --seed and --device change nothing; --method img2img uses them." in errors
    status, _, errors = run(*words, "--base", "some/one", "--download", "--method", "diffusion")
    assert (status, "Stable Diffusion serves --method img2img" in errors) == (2, True)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("base", "options"),
    [("scan.nii.gz", ("--steps", 1)), ("nowhere", ("--preset", "paper")), ("no/where", ("--seed", 3))],
)
def test_a_base_that_is_none_is_told_before_all_else(run, tmp_path: Path, monkeypatch, base: str, options):
    monkeypatch.chdir(tmp_path)
    Path("scan.nii.gz").touch()
    status, _, errors = run("adapt", tmp_path, "--output", "model", "--base", base, *options)
    assert status == 2
    assert f"mrharmony: {base}: is a file, not a model" in errors or f"mrharmony: {base}: n" in errors


@pytest.mark.parametrize(
    ("only", "reason"),
    [((), "has mprage3t, spgr15t already"), (("mprage3t",), "call it otherwise"), (("mars",), "mars")],
)
def test_a_data_set_without_new_domains_is_a_usage_error(run, cohort: Path, tmp_path: Path, only, reason):
    chosen = [argument for name in only for argument in ("--domain", name)]
    output = tmp_path / "model"
    status, _, errors = run("adapt", cohort, "--output", output, "--domain-column", "session", *chosen)
    assert status == 2
    assert reason in errors
    assert not list(tmp_path.iterdir())


def test_a_site_called_like_a_known_one_is_not_left_out_in_silence(cohort: Path, capsys):
    index, card = BidsIndex.open(cohort, "session"), read_card(shipped_model())
    known = card.model_copy(update={"domains": [one for one in card.domains if one.name == "mprage-3t"]})
    assert new_domains(index, known, None) == ["spgr15t"]
    told = capsys.readouterr().err
    assert "the base has mprage3t already" in told
    assert "If yours is another site, call it otherwise, such as mprage3t-2, in a copy" in told


def test_new_domains_that_differ_by_punctuation_alone_are_refused(cohort: Path):
    index = BidsIndex.open(cohort, "session")
    named = [
        replace(scan, domain=name) for scan, name in zip(index.scans, ("Site 1", "site-1"), strict=False)
    ]
    with pytest.raises(MrharmonyError, match="cannot be told"):
        new_domains(replace(index, scans=tuple(named)), read_card(shipped_model()), ["Site 1", "site-1"])
