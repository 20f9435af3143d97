"""A method is added to a model that was fitted on the same scans with the same domains, and to no other."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs import training
from mrharmony.jobs.data_sets import DataSet
from mrharmony.jobs.training import fit_on_bids, train_pairs_on_bids
from mrharmony.methods.registry import load_method
from mrharmony.networks.cyclegan.networks import CycleGanSettings

TINY = CycleGanSettings(channels=4, blocks=0, discriminator_channels=4, steps=1)
Sites = dict[str, str]


def data_set(cohort: Path, folder: Path, sites: Sites) -> DataSet:
    """Return a data set in which a person is said to be of each site; both are one scan on two scanners."""
    scans = sorted(cohort.rglob("*_T1w.nii.gz"))
    for subject, scan in zip(sites, (*scans, scans[0]), strict=False):
        path = folder / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan, path)
    rows = ["participant_id\tsite", *(f"sub-{subject}\t{site}" for subject, site in sites.items())]
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return DataSet(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_method_is_not_added_where_scans_have_changed_their_domains(cohort: Path, tmp_path: Path):
    study, model = tmp_path / "study", tmp_path / "model"
    fit_on_bids(data_set(cohort, study, {"1": "A", "2": "B"}), model, "zscore")
    before = content(model)
    with pytest.raises(MrharmonyError, match="or on the same scans with other domains"):
        fit_on_bids(data_set(cohort, study, {"1": "B", "2": "A"}), model, "histogram")
    assert content(model) == before
    fit_on_bids(data_set(cohort, study, {"1": "A", "2": "B"}), model, "histogram")
    assert content(model) == before


def test_a_method_is_added_whatever_the_order_in_which_domains_are_named(cohort: Path, tmp_path: Path):
    sites, model = data_set(cohort, tmp_path / "study", {"1": "A", "2": "B"}), tmp_path / "model"
    fit_on_bids(replace(sites, only=["B", "A"]), model, "nyul")
    fit_on_bids(replace(sites, only=["A", "B"]), model, "zscore")
    domains = json.loads((model / "mrharmony.json").read_text())["domains"]
    assert [domain["name"] for domain in domains] == ["B", "A"]
    assert all(load_method(name, model) for name in ("nyul", "zscore"))


@pytest.mark.parametrize(
    ("sites", "pair"),
    [
        ({"1": "B", "2": "A", "3": "C"}, ("A", "B")),
        ({"1": "C", "2": "B", "3": "C"}, ("B", "C")),
        ({"2": "B", "1": "A", "3": "C"}, ("A", "C")),  # the order gives each person the other's scan
    ],
    ids=["exchanged", "renamed", "of other scans"],
)
def test_a_pair_is_not_added_where_scans_or_their_domains_are_others(
    cohort: Path, tmp_path: Path, sites: Sites, pair: tuple[str, str]
):
    study, model = tmp_path / "study", tmp_path / "model"
    first = {"1": "A", "2": "B", "3": "C"}
    train_pairs_on_bids(data_set(cohort, study, first), model, [("A", "B")], TINY, "cpu")
    before = content(model)
    with pytest.raises(MrharmonyError, match="other scans, or on the same scans with other domains"):
        train_pairs_on_bids(data_set(cohort, study, sites), model, [pair], TINY, "cpu")
    assert content(model) == before
    train_pairs_on_bids(data_set(cohort, study, first), model, [("B", "C")], TINY, "cpu")
    domains = json.loads((model / "mrharmony.json").read_text())["domains"]
    assert [domain["name"] for domain in domains] == ["A", "B", "C"]


def test_a_pair_of_another_data_set_in_a_folder_of_the_same_name_is_not_added(cohort: Path, tmp_path: Path):
    model, ours, theirs = (tmp_path / name for name in ("model", "ours/study", "theirs/study"))
    train_pairs_on_bids(data_set(cohort, ours, {"1": "A", "2": "B"}), model, [("A", "B")], TINY, "cpu")
    before = content(model)
    for sites in ({"3": "C", "4": "D"}, {"2": "C", "1": "D"}):  # other people; each with the other's scan
        with pytest.raises(MrharmonyError, match="holds methods fitted on other scans"):
            train_pairs_on_bids(data_set(cohort, theirs, sites), model, [("C", "D")], TINY, "cpu")
        assert content(model) == before
        shutil.rmtree(theirs)
    shutil.move(ours, theirs)
    (theirs / "sub-1/anat/sub-1_T1w.nii.gz").unlink()  # one that was lost since makes it no other data set
    shutil.copytree(theirs / "sub-2", theirs / "sub-3")
    more = theirs / "sub-3/anat"
    (more / "sub-2_T1w.nii.gz").rename(more / "sub-3_T1w.nii.gz")
    (theirs / "participants.tsv").write_text("participant_id\tsite\nsub-2\tB\nsub-3\tC\n")
    train_pairs_on_bids(DataSet(theirs), model, [("B", "C")], TINY, "cpu")


@pytest.mark.parametrize("learn", ["fit_method", "train_cyclegan"])
def test_of_two_data_sets_that_are_fitted_into_one_folder_at_once_the_later_is_refused(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learn: str
):
    model, before = tmp_path / "model", {}
    ours, theirs = data_set(cohort, tmp_path / "ours", {"1": "A", "2": "B"}), tmp_path / "theirs"
    real = getattr(training, learn)

    def learn_while_another_ends(*args):
        monkeypatch.setattr(training, learn, real)
        fit_on_bids(data_set(cohort, theirs, {"2": "A", "1": "B"}), model, "zscore")
        before.update(content(model))
        return real(*args)

    monkeypatch.setattr(training, learn, learn_while_another_ends)
    with pytest.raises(MrharmonyError, match="holds methods fitted on other scans"):
        if learn == "fit_method":
            fit_on_bids(ours, model, "nyul")
        else:
            train_pairs_on_bids(ours, model, [("A", "B")], TINY, "cpu")
    assert content(model) == before


def test_a_model_that_does_not_say_whose_its_scans_are_gets_no_method(cohort: Path, tmp_path: Path):
    data, model = data_set(cohort, tmp_path / "study", {"1": "A", "2": "B"}), tmp_path / "model"
    fit_on_bids(data, model, "zscore")
    card = json.loads((model / "mrharmony.json").read_text())
    scans = [{key: value for key, value in one.items() if key != "domain"} for one in card["training_scans"]]
    for known in (scans, []):  # of an earlier version; removed since the labels are confidential
        (model / "mrharmony.json").write_text(json.dumps(card | {"training_scans": known}))
        before = content(model)
        for add in (
            lambda: fit_on_bids(data, model, "histogram"),
            lambda: train_pairs_on_bids(data, model, [("A", "B")], TINY, "cpu"),
        ):
            with pytest.raises(MrharmonyError, match="does not say which scans each domain was fitted on"):
                add()
        assert content(model) == before
