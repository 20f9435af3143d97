"""A planted fault turns the figure that is meant for it bad; an honest method's stays good."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.brains import with_voxels
from helpers.virtual_study import through, truth_fitted
from mrharmony.domains.statistics import brain_statistics, fit_statistics
from mrharmony.evaluate.anatomy import compare_anatomy
from mrharmony.evaluate.biology import biology_scores
from mrharmony.evaluate.paired import (
    identity_scores,
    leaked_noise,
    paired_scores,
    summarize_identity,
)
from mrharmony.evaluate.tissues import TargetVolumetry
from mrharmony.methods.tone_curves import global_curve, regional_curves


@pytest.fixture(scope="module")
def honest(scan_at_a, rescan_at_a, scan_at_b):
    """The scan through a curve that was learned on other scans."""
    return through(global_curve(brain_statistics(rescan_at_a), brain_statistics(scan_at_b)), scan_at_a)


@pytest.fixture(scope="module")
def ceiling(scan_at_a, scan_at_b):
    return truth_fitted(scan_at_a, scan_at_b)


@pytest.fixture(scope="module")
def honest_anatomy(scan_at_a, honest, tissues_at_a):
    return compare_anatomy(scan_at_a, honest, tissues_at_a)


def score(output, truth):
    return paired_scores(output.volume.voxels, truth.volume.voxels, truth.mask)


def noise_of_truth(output, ceiling, truth):
    return leaked_noise(output.volume.voxels, ceiling.volume.voxels, truth.volume.voxels, truth.mask)


def test_returning_the_truth_is_better_than_anything_honest(honest, ceiling, scan_at_b):
    bound = score(ceiling, scan_at_b)
    returned, made = score(scan_at_b, scan_at_b), score(honest, scan_at_b)
    assert returned.mse < bound.mse < made.mse
    assert returned.ssim > bound.ssim > made.ssim


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_share_of_the_truth_shows_by_its_noise(share, honest, ceiling, scan_at_b):
    mixed = (1 - share) * honest.volume.voxels + share * scan_at_b.volume.voxels
    leaking = with_voxels(honest, mixed)
    assert noise_of_truth(leaking, ceiling, scan_at_b) > 0.6
    assert abs(noise_of_truth(honest, ceiling, scan_at_b)) < 0.25


def test_blur_lowers_edges_and_ssim(honest, honest_anatomy, scan_at_a, scan_at_b, tissues_at_a):
    blurred = with_voxels(honest, gaussian_filter(honest.volume.voxels, 0.8))
    anatomy = compare_anatomy(scan_at_a, blurred, tissues_at_a)
    assert anatomy.edge_correspondence < 0.9
    assert honest_anatomy.edge_correspondence > 0.99
    assert score(blurred, scan_at_b).ssim < score(honest, scan_at_b).ssim - 0.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_by_one_voxel_shows_as_displacement_and_in_edges_and_tissues(
    axis, honest, honest_anatomy, scan_at_a, tissues_at_a
):
    shifted = with_voxels(honest, np.roll(honest.volume.voxels, 1, axis))
    anatomy = compare_anatomy(scan_at_a, shifted, tissues_at_a)
    assert anatomy.displacement_mm == pytest.approx(2, abs=0.5)
    assert anatomy.edge_correspondence < 0.8
    assert max(anatomy.dice.values()) < 0.9
    assert honest_anatomy.displacement_mm < 0.1
    assert min(honest_anatomy.dice.values()) > 0.99


def test_ventricles_painted_over_shrink(honest, honest_anatomy, scan_at_a, tissues_at_a):
    labels = tissues_at_a.labels
    centre = np.array(labels.shape) // 2 + np.array([0, 5, 3])
    inner = tuple(slice(c - 12, c + 12) for c in centre)
    voxels = honest.volume.voxels.copy()
    voxels[inner][labels[inner] == 1] = np.median(voxels[labels == 3])
    painted = compare_anatomy(scan_at_a, with_voxels(honest, voxels), tissues_at_a)
    assert painted.volume_drift_percent["ventricle"] < -30
    assert abs(honest_anatomy.volume_drift_percent["ventricle"]) < 1


def test_a_method_that_changes_scans_of_its_own_domain_is_not_exact(scan_at_a, honest):
    summary = summarize_identity([identity_scores(scan_at_a, scan_at_a), identity_scores(scan_at_a, honest)])
    assert (summary.scans, summary.exact) == (2, 1)
    assert summary.worst.psnr < 40
    assert summary.mean_ssim < 1


@pytest.fixture(scope="module")
def ventricles(study):
    """Volumes that site B's volumetry finds in the unseen heads, by method."""
    volumetry = TargetVolumetry.fit(study.training["B"])
    statistics = fit_statistics(study.training)
    own = {head.log_factor: brain_statistics(head.scan) for head in study.unseen}
    methods = {
        "truth": lambda head: head.truth,
        "lock": lambda head: truth_fitted(head.scan, head.truth) if head.site == "A" else head.scan,
        "histogram": lambda head: through(global_curve(own[head.log_factor], statistics["B"]), head.scan),
        "population": lambda head: through(global_curve(statistics[head.site], statistics["B"]), head.scan),
        "regional": lambda head: through(regional_curves(statistics[head.site], statistics["B"]), head.scan),
    }
    return {
        name: [volumetry.measure(method(head)).ventricle_ml for head in study.unseen]
        for name, method in methods.items()
    }


def test_curves_erase_ventricles_that_are_confounded_with_site(study, ventricles):
    factor = [head.log_factor for head in study.unseen]
    sites = [head.site for head in study.unseen]
    groups = ["large" if value > 0.2 else "small" for value in factor]
    kept = {
        name: biology_scores(volumes, ventricles["truth"], factor, sites, groups)
        for name, volumes in ventricles.items()
    }
    for eraser in ("histogram", "population", "regional"):
        assert kept[eraser].slope_kept < min(0.9, kept["lock"].slope_kept - 0.05)
        assert kept[eraser].site_shift > 1.5 * kept["lock"].site_shift
        assert kept[eraser].log_error > 1.5 * kept["lock"].log_error
    assert kept["regional"].slope_kept < 0.8
    assert kept["lock"].slope_kept > 0.9
    assert kept["truth"].slope_kept == pytest.approx(1)
