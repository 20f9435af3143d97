"""Statistics of domains: quantiles of the whole brain and of regions."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import (
    LANDMARKS,
    REGIONS,
    brain_statistics,
    fit_statistics,
    load_statistics,
    save_statistics,
    target_statistics,
)
from mrharmony.preparation.canonical import CanonicalBrain

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = (-78, -127, -76)
SHAPE = (40, 56, 40)


def ball_brain(seed=0, gain=1.0, scale=100.0):
    rng = np.random.default_rng(seed)
    i, j, k = np.indices(SHAPE)
    mask = ((i - 19.5) / 17) ** 2 + ((j - 27.5) / 22) ** 2 + ((k - 19.5) / 17) ** 2 < 1
    voxels = np.where(mask, gain * rng.beta(4, 3, SHAPE), 0)
    return CanonicalBrain(Volume(voxels, AFFINE), mask, scale)


def test_whole_brain_quantiles_are_those_of_numpy():
    brain = ball_brain()
    expected = np.quantile(brain.volume.voxels[brain.mask], LANDMARKS)
    np.testing.assert_allclose(brain_statistics(brain).quantiles, expected, atol=0.006)


def test_regions_of_a_uniform_brain_agree_with_the_whole():
    statistics = brain_statistics(ball_brain())
    inner = statistics.regional[1:-1, 1:-1, 1:-1]
    assert np.abs(inner - statistics.quantiles).max() < 0.05


def test_a_brighter_half_is_seen_in_its_regions_only():
    brain = ball_brain()
    voxels = brain.volume.voxels.copy()
    voxels[20:] *= 1.3
    brighter = brain_statistics(CanonicalBrain(Volume(voxels, AFFINE), brain.mask, 1.0))
    plain = brain_statistics(brain)
    ratio = np.median(brighter.regional / plain.regional, axis=(1, 2, 3))
    assert ratio[0] < 1.03
    assert ratio[-1] > 1.25


def test_quantiles_never_decrease_and_no_region_is_empty():
    regional = brain_statistics(ball_brain()).regional
    assert regional.shape == (*REGIONS, LANDMARKS.size)
    assert (np.diff(regional, axis=3) >= 0).all()
    assert (regional[..., -1] > 0).all()


def test_a_domain_is_the_average_of_its_scans_and_its_median_scale():
    brains = [
        ball_brain(seed, gain, scale)
        for seed, gain, scale in ((0, 1.0, 90.0), (1, 1.2, 100.0), (2, 0.8, 300.0))
    ]
    domain = fit_statistics({"A": iter(brains)})["A"]
    singles = np.mean([brain_statistics(brain).regional for brain in brains], axis=0)
    np.testing.assert_allclose(domain.regional, singles)
    assert (domain.scale, domain.scans) == (100.0, 3)


def test_a_file_gives_back_what_was_saved(tmp_path):
    statistics = fit_statistics({"A": [ball_brain(0)], "site/2 ü": [ball_brain(1, 0.8)]})
    path = tmp_path / "statistics.safetensors"
    save_statistics(path, statistics)
    loaded = load_statistics(path)
    assert loaded.keys() == statistics.keys()
    for name, domain in statistics.items():
        assert (loaded[name].scale, loaded[name].scans) == (domain.scale, domain.scans)
        np.testing.assert_array_equal(loaded[name].quantiles, domain.quantiles)
        np.testing.assert_array_equal(loaded[name].regional, domain.regional)


def test_saving_twice_writes_the_same_bytes(tmp_path):
    statistics = fit_statistics({"B": [ball_brain(1)], "A": [ball_brain(0)]})
    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for path in paths:
        save_statistics(path, statistics)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("kind", ["missing", "damaged", "other"])
def test_a_file_that_is_no_statistics_is_told_in_one_sentence(tmp_path, kind):
    path = tmp_path / "statistics.safetensors"
    if kind == "damaged":
        path.write_bytes(b"not a tensor file")
    if kind == "other":
        save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(MrharmonyError, match=r"statistics\.safetensors"):
        load_statistics(path)


def test_an_empty_mask_is_refused():
    brain = ball_brain()
    with pytest.raises(MrharmonyError, match="mask"):
        brain_statistics(brain._replace(mask=np.zeros_like(brain.mask)))


def test_a_nan_in_the_brain_is_refused():
    brain = ball_brain()
    voxels = brain.volume.voxels.copy()
    voxels[20, 28, 20] = np.nan
    with pytest.raises(MrharmonyError, match="finite"):
        brain_statistics(brain._replace(volume=Volume(voxels, AFFINE)))


def test_a_domain_without_scans_is_refused():
    with pytest.raises(MrharmonyError, match="Domain B"):
        fit_statistics({"B": []})


def test_an_unknown_target_is_answered_with_the_known_ones():
    with pytest.raises(MrharmonyError, match="A"):
        target_statistics(fit_statistics({"A": [ball_brain()]}), Domain("C", "c"))
