"""The probe finds a site that is there, none where there is none, and is not fooled as a frozen one is."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.brains import with_voxels
from helpers.site_people import SITES, SUBJECTS, at_second_site, people
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.evaluate import site_classifiers
from mrharmony.evaluate.site_classifiers import probe_inputs, site_slices
from mrharmony.evaluate.site_probe import cross_fit_probe, frozen_probe, probe_sites
from mrharmony.preparation.canonical import CanonicalBrain

QUICK = {"seeds": (0,), "folds": 2}  # for the network


def equalised(brains):
    """All scans with exactly the same histogram."""
    reference = np.concatenate([brain.volume.voxels[brain.mask] for brain in people()[0]])
    quantiles = np.quantile(reference, np.linspace(0, 1, 1001))
    return [equalise(brain, quantiles) for brain in brains]


def equalise(brain, quantiles):
    inside = brain.volume.voxels[brain.mask]
    ranks = np.argsort(np.argsort(inside))
    voxels = np.zeros(brain.mask.shape, dtype=np.float32)
    voxels[brain.mask] = np.interp(ranks / (len(ranks) - 1), np.linspace(0, 1, 1001), quantiles)
    return with_voxels(brain, voxels)


def sharper(voxels):
    return 2 * voxels - gaussian_filter(voxels, 1)


@pytest.mark.parametrize(
    "change", [lambda x: 1.1 * x, lambda x: x**1.2, sharper], ids=["gain", "contrast", "sharpness"]
)
def test_sites_that_differ_are_told_apart_by_the_linear_probe(brains, change):
    found = probe_sites(at_second_site(brains, SITES, lambda _, x: change(x)), SITES, SUBJECTS)
    assert min(found.scores.balanced_accuracy) >= 0.9
    assert abs(found.control.mean - 0.5) < 0.25
    assert (found.scores.chance, found.scores.folds, found.scores.seeds) == (0.5, 5, (0, 1, 2))


def test_sites_that_differ_are_told_apart_by_the_network(brains):
    found = probe_sites(at_second_site(brains, SITES, lambda _, x: x**1.2), SITES, SUBJECTS, "cnn", **QUICK)
    assert found.scores.mean >= 0.9
    assert found.scores.trained >= 0.95
    assert abs(found.control.mean - 0.5) < 0.3


@pytest.mark.parametrize(("probe", "effort"), [("linear", {}), ("cnn", QUICK)])
def test_sites_that_are_alike_are_not_told_apart(brains, probe, effort):
    inputs = probe_inputs(probe, brains)
    fitted = cross_fit_probe(inputs, SITES, SUBJECTS, probe, **effort)
    assert abs(fitted.input_scores(inputs).mean - 0.5) < 0.25


def test_a_site_left_in_the_contrast_of_one_tissue_is_found(brains, tissues):
    equal = equalised(brains)
    assert probe_sites(equal, SITES, SUBJECTS).scores.mean < 0.75
    left = at_second_site(equal, SITES, lambda n, x: np.where(tissues[n] == 3, 1.05 * x, x))
    assert probe_sites(left, SITES, SUBJECTS).scores.mean >= 0.9


def test_a_site_left_in_the_sharpness_of_one_tissue_is_found_behind_equal_histograms(brains, tissues):
    left = equalised(at_second_site(brains, SITES, lambda n, x: np.where(tissues[n] == 3, sharper(x), x)))
    first, second = (np.quantile(brain.volume.voxels[brain.mask], (0.1, 0.5, 0.9)) for brain in left[:2])
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert probe_sites(left, SITES, SUBJECTS).scores.mean >= 0.9


def test_the_frozen_probe_is_fooled_where_the_retrained_one_is_not(brains):
    """A method that corrects too much: nothing looks like site b any more, and everyone can be told apart."""
    raw = at_second_site(brains, SITES, lambda _, x: x**1.2)
    overdone = at_second_site(brains, SITES, lambda _, x: x**0.85)
    assert frozen_probe(raw, raw, SITES, SUBJECTS).mean >= 0.9
    assert frozen_probe(raw, overdone, SITES, SUBJECTS).mean == pytest.approx(0.5, abs=0.1)
    assert probe_sites(overdone, SITES, SUBJECTS).scores.mean >= 0.9


def test_a_cross_fitted_probe_scores_its_own_scans_as_the_retrained_one(brains):
    raw = at_second_site(brains, SITES, lambda _, x: 1.03 * x)
    fitted = cross_fit_probe(probe_inputs("linear", raw), SITES, SUBJECTS)
    assert fitted.scores(raw) == probe_sites(raw, SITES, SUBJECTS).scores


def test_a_subject_who_was_at_both_sites_cannot_be_recognised_across_them(brains):
    """Eight people, each a site's only one of their looks: by the person alone the site would be known."""
    mark = np.random.default_rng(0).uniform(0.8, 1.25, 8)
    scans = [with_voxels(brain, brain.volume.voxels * mark[n]) for n, brain in enumerate(brains[:8])]
    twice, sites = scans + scans, ["a"] * 8 + ["b"] * 8
    assert probe_sites(twice, sites, SUBJECTS[:8] * 2).scores.mean == pytest.approx(0.5)


def test_a_scan_repeated_under_one_subject_does_not_help_the_probe(brains):
    repeated = [brain for brain in brains[:12] for _ in range(2)]
    sites = [site for site in ["a", "b"] * 6 for _ in range(2)]
    honest = probe_sites(repeated, sites, [f"sub{scan // 2}" for scan in range(24)], folds=3)
    leaking = probe_sites(repeated, sites, SUBJECTS, folds=3)
    assert leaking.scores.mean > honest.scores.mean + 0.2
    assert honest.scores.mean < 0.75


@pytest.mark.parametrize("probe", ["linear", "cnn"])
def test_the_same_seed_gives_the_same_result(brains, probe, monkeypatch):
    monkeypatch.setattr(site_classifiers, "_EPOCHS", (10, 10))  # early, chance still shows
    first, second = (probe_sites(brains[:8], SITES[:8], SUBJECTS[:8], probe, **QUICK) for _ in range(2))
    assert first == second


def test_versions_that_do_not_match_the_fitted_scans_are_refused(brains):
    fitted = cross_fit_probe(probe_inputs("linear", brains), SITES, SUBJECTS, **QUICK)
    with pytest.raises(MrharmonyError, match="in the same order"):
        fitted.scores(brains[1:])


def test_scans_on_different_grids_are_refused(brains):
    cut = brains[0].volume.voxels[:, :, 1:]
    other = CanonicalBrain(Volume(cut, brains[0].volume.affine), brains[0].mask[:, :, 1:], 1.0)
    with pytest.raises(MrharmonyError, match="different shapes"):
        probe_sites([other, *brains[1:]], SITES, SUBJECTS)
    with pytest.raises(MrharmonyError, match="canonical grid"):
        site_slices(CanonicalBrain(Volume(cut[5:], other.volume.affine), other.mask[5:], 1.0))
