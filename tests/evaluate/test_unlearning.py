"""Unlearning takes the site out of the features and leaves the task in; what is retrained says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.site_people import PEOPLE, SITES, SUBJECTS, at_second_site
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.unlearning import (
    UnlearningData,
    UnlearningStudy,
    latent_features,
    require_splits,
    unlearning_study,
)
from mrharmony.evaluate.unlearning_network import (
    UnlearningSettings,
    confusion_loss,
    task_loss,
    train_unlearning,
)
from mrharmony.networks.compact.model import LatentModel, load_model
from mrharmony.weights import shipped_model

QUICK = UnlearningSettings(components=8, pretraining_steps=100, unlearning_steps=100, site_steps=3)
DEEPER = QUICK.model_copy(update={"hidden": 64, "features": 8})
NUMBERS = np.array([0, 1] * (PEOPLE // 2))
TRAINING = np.arange(PEOPLE) < 16


@pytest.fixture(scope="module")
def model() -> LatentModel:
    """The shipped encoder, on the 4 mm grid of the tests' people."""
    shipped = load_model(shipped_model())
    return replace(shipped, card=shipped.card.model_copy(update={"working_zoom": 4.0}))


@pytest.fixture(scope="module")
def data(model, brains) -> UnlearningData:
    """People of two sites that differ in contrast; the task is the size of their brains."""
    scans = at_second_site(brains, SITES, lambda _, voxels: voxels**1.2)
    pooled = np.stack([latent_features(model, scan) for scan in scans])
    sizes = np.log([scan.mask.sum() for scan in scans]).astype(np.float32)
    return UnlearningData(pooled, sizes, None, SITES, SUBJECTS, None)


@pytest.fixture(scope="module")
def study(data) -> UnlearningStudy:
    return unlearning_study(data, DEEPER, seeds=(0,))


def test_the_site_is_unlearned_and_the_task_is_not(study: UnlearningStudy):
    before, after = (np.mean([*scores.linear, *scores.network]) for scores in (study.before, study.after))
    assert before >= 0.75
    assert after <= before - 0.12
    assert study.after.task["correlation"][0] >= 0.6
    assert study.after.task["r2"][0] >= study.before.task["r2"][0] - 0.15


def test_shuffled_sites_are_at_chance(study: UnlearningStudy):
    assert study.chance == 0.5
    for scores in (study.before, study.after):
        for control in (*scores.linear_control, *scores.network_control):
            assert abs(control - 0.5) < 0.3


def test_the_frozen_site_head_is_fooled_where_a_retrained_probe_is_not(data):
    """A linear encoder can move the site to where its own head does not look, without losing it."""
    linear = unlearning_study(data, QUICK, seeds=(0,))
    assert linear.after.frozen[0] < linear.after.linear[0] - 0.15


def test_without_unlearning_the_encoder_never_hears_of_the_site(data):
    def features(sites: np.ndarray, unlearn: bool) -> np.ndarray:
        trained = train_unlearning(data.pooled, data.task, sites, None, QUICK, 0, unlearn)
        return trained.features(data.pooled)

    np.testing.assert_array_equal(features(NUMBERS, False), features(1 - NUMBERS, False))
    assert np.abs(features(NUMBERS, True) - features(1 - NUMBERS, True)).max() > 0.01


def test_the_same_seed_gives_the_same_study(data):
    once = replace(data, training=TRAINING)
    first, second = (unlearning_study(once, QUICK, seeds=(0,)) for _ in range(2))
    assert first == second


def test_a_factor_known_at_one_site_only_is_told_there(data):
    known = np.where(NUMBERS == 0, data.task, np.nan).astype(np.float32)
    found = unlearning_study(replace(data, task=known, training=TRAINING), QUICK, seeds=(0,))
    assert found.tested == (8, 4)
    assert np.isfinite(found.after.task["r2"]).all()


def test_two_groups_are_told_apart_and_a_given_split_is_kept(data):
    large = (data.task > np.median(data.task)).astype(np.float32)
    groups = replace(data, task=large, groups=("small", "large"), training=TRAINING)
    found = unlearning_study(groups, QUICK, seeds=(0,))
    assert found.before.task["balanced_accuracy"][0] >= 0.6
    assert (found.folds, found.tested) == (1, (8, 8))
    assert found.after.unseen is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": ["a"] * PEOPLE}, "one site"),
        ({"task": np.full(PEOPLE, np.nan, np.float32)}, "known for 0 training subjects"),
        ({"task": np.zeros(PEOPLE, np.float32)}, "the same in all training subjects"),
        ({"training": TRAINING, "subjects": ["one"] * PEOPLE}, "in train and in test"),
        ({"training": NUMBERS == 0}, "Site b has no training scans"),
        ({"training": TRAINING | (NUMBERS == 1)}, "Site b has no held-out scans; .* the split `test`"),
        ({"task": NUMBERS.astype(np.float32)}, "the same in all scans of each site, .*varies within a site"),
        (
            {"training": TRAINING, "task": np.where(np.arange(PEOPLE) < 17, np.arange(PEOPLE), np.nan)},
            "known for 1 held-out subject, 3 are needed",
        ),
    ],
)
def test_data_that_cannot_be_split_is_refused(data, change: dict, message: str):
    with pytest.raises(MrharmonyError, match=message):
        require_splits(replace(data, **change))


def test_held_out_travellers_whom_no_folds_divide_are_refused():
    """Three sites share three travellers, two each: of two folds, one lacks a site."""
    people = [f"sub{number}" for number in range(6)] * 3
    held_out = ["one", "two", "two", "three", "three", "one"]
    sites = [site for site in "abc" for _ in range(6)] + list("aabbcc")
    data = UnlearningData(
        np.zeros((24, 1), np.float32),
        np.arange(24, dtype=np.float32),
        None,
        sites,
        people + held_out,
        np.arange(24) < 18,
    )
    with pytest.raises(MrharmonyError, match="cannot be divided into 2 folds"):
        require_splits(data)


def test_scans_on_another_grid_are_refused(model, brains):
    shipped = replace(model, card=model.card.model_copy(update={"working_zoom": 2.0}))
    with pytest.raises(MrharmonyError, match="grid is 2 mm"):
        latent_features(shipped, brains[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=6))
def test_confusion_is_least_where_all_sites_are_as_likely(logits: list[float]):
    even = np.log(len(logits))
    assert confusion_loss(torch.tensor([logits]), torch.ones(1)) >= even - 1e-4
    assert confusion_loss(torch.full((1, len(logits)), logits[0]), torch.ones(1)) == pytest.approx(even, 1e-4)


def test_unknown_factors_take_no_part_in_the_task():
    found, truth = torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, float("nan")])
    assert task_loss(found, truth, torch.ones(2)) == pytest.approx(4)
    assert task_loss(found, truth * float("nan"), torch.ones(2)) == 0
