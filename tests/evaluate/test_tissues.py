"""The independent segmentation finds the true tissues of virtual heads, whatever the scanner."""

import numpy as np
import pytest

from helpers.brains import canonical_scan, with_voxels
from mrharmony.core.findings import MrharmonyError
from mrharmony.evaluate.anatomy import dice_by_tissue
from mrharmony.evaluate.tissues import segment_tissues
from mrharmony.simulate.anatomy import CSF, DEEP_GM
from mrharmony.simulate.scanner import load_scanners

LEAST_DICE = {"csf": 0.82, "grey": 0.92, "white": 0.95}


@pytest.fixture(scope="module")
def true_labels(traveller):
    labels = traveller.labels()
    return np.where(labels == 1 + DEEP_GM, 2, labels)


@pytest.mark.parametrize("scanner", ["mprage-1.5t", "mprage-3t", "spgr-3t"])
def test_tissues_are_the_true_ones(scanner, traveller, true_labels):
    found = segment_tissues(canonical_scan(traveller, load_scanners()[scanner], 4))
    dice = dice_by_tissue(true_labels, found.labels)
    assert all(dice[name] > least for name, least in LEAST_DICE.items())
    true_ml = traveller.tissues.sum(axis=(1, 2, 3)) * 8e-3
    assert found.volumes.white_ml == pytest.approx(true_ml[2], rel=0.05)
    assert found.volumes.csf_ml == pytest.approx(true_ml[CSF], rel=0.3)
    assert found.volumes.ventricle_ml == pytest.approx(traveller.ventricle_volume_ml, rel=0.15)


def test_volumes_fill_the_mask_and_labels_stay_inside(scan_at_a):
    found = segment_tissues(scan_at_a)
    total = found.volumes.csf_ml + found.volumes.grey_ml + found.volumes.white_ml
    assert total == pytest.approx(scan_at_a.mask.sum() * 8e-3, rel=1e-4)
    assert np.array_equal(found.labels > 0, scan_at_a.mask)


def test_a_scrap_of_a_brain_is_refused(scan_at_a):
    scrap = scan_at_a.mask.copy()
    scrap[:, 20:] = False
    with pytest.raises(MrharmonyError, match="less than any whole brain"):
        segment_tissues(scan_at_a._replace(mask=scrap))


def test_a_scan_without_contrast_of_grey_and_white_is_refused(scan_at_a):
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(scan_at_a.mask.shape)
    with pytest.raises(MrharmonyError, match="T1-weighted"):
        segment_tissues(with_voxels(scan_at_a, noise))
