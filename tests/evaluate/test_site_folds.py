"""Subjects never leak from training to test, and shuffled labels keep the cohort's shape."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.site_probe import shuffled_labels, site_labels, subject_folds, usable_folds

HOMES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=9, max_size=15
)  # the sites of each subject's scans


def cohort(homes):
    """Each subject's scans at its sites, and two subjects at every site so that folds are possible."""
    everyone = [*homes, [0, 1, 2], [0, 1, 2], [0], [1], [2], [0], [1], [2]]
    sites = [f"site{site}" for scans in everyone for site in scans]
    subjects = [f"sub{number}" for number, scans in enumerate(everyone) for _ in scans]
    return sites, subjects


@settings(deadline=None, max_examples=60)
@given(homes=HOMES, folds=st.integers(2, 5), seed=st.integers(0, 100))
def test_a_subject_is_never_on_both_sides_and_every_scan_is_tested_once(homes, folds, seed):
    sites, subjects = cohort(homes)
    _, labels = site_labels(sites, subjects, len(sites))
    who = np.array(subjects)
    splits = subject_folds(labels, subjects, usable_folds(sites, subjects, folds), seed)
    for fold in splits:
        assert not set(who[fold.train]) & set(who[fold.test])
        assert set(labels[fold.train]) == set(labels)
    assert sorted(np.concatenate([fold.test for fold in splits])) == list(range(len(sites)))


@settings(deadline=None, max_examples=60)
@given(homes=HOMES, seed=st.integers(0, 100))
def test_shuffling_keeps_the_number_of_scans_of_each_site(homes, seed):
    sites, subjects = cohort(homes)
    _, labels = site_labels(sites, subjects, len(sites))
    assert Counter(shuffled_labels(labels, subjects, seed).tolist()) == Counter(labels.tolist())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 100))
def test_scans_of_a_subject_that_stays_at_one_site_stay_together_when_shuffled(seed):
    subjects = [f"sub{number}" for number in range(12) for _ in range(3)]
    shuffled = shuffled_labels(np.repeat(np.arange(12) % 3, 3), subjects, seed)
    assert all(len(set(scans)) == 1 for scans in shuffled.reshape(12, 3).tolist())


def test_travelling_subjects_exchange_the_labels_of_their_own_scans():
    subjects = [f"sub{number}" for _ in range(3) for number in range(40)]
    labels = np.repeat(np.arange(3), 40)
    shuffled = shuffled_labels(labels, subjects, 0)
    own = defaultdict(set)
    for subject, label in zip(subjects, shuffled, strict=True):
        own[subject].add(int(label))
    assert all(scans == {0, 1, 2} for scans in own.values())
    assert np.mean(shuffled == labels) == pytest.approx(1 / 3, abs=0.15)


def test_folds_are_as_many_as_the_smallest_site_has_subjects():
    sites = ["a"] * 9 + ["b"] * 6
    subjects = [f"a{scan}" for scan in range(9)] + [f"b{scan // 2}" for scan in range(6)]
    assert usable_folds(sites, subjects, 5) == 3
    assert usable_folds(sites, subjects, 2) == 2


def test_a_site_of_one_subject_is_refused_by_name():
    with pytest.raises(MrharmonyError, match="Site lonely"):
        usable_folds(["a", "a", "lonely", "lonely"], ["1", "2", "3", "3"], 5)


def test_one_fold_is_refused():
    with pytest.raises(MrharmonyError, match="two or more"):
        usable_folds(["a", "a", "b", "b"], ["1", "2", "3", "4"], 1)


@pytest.mark.parametrize(
    ("sites", "subjects", "message"),
    [(["a", "a"], ["1", "2"], "one site"), (["a", "b"], ["1"], "give one of each")],
)
def test_labels_that_cannot_be_right_are_refused(sites, subjects, message):
    with pytest.raises(MrharmonyError, match=message):
        site_labels(sites, subjects, 2)


def test_subjects_that_allow_no_division_are_refused():
    labels = np.array([0, 1, 0, 2, 1, 2])  # three subjects in two folds: two of them share a site
    with pytest.raises(MrharmonyError, match="cannot be divided"):
        subject_folds(labels, ["1", "1", "2", "2", "3", "3"], 2, 0)
