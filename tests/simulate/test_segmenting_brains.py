from __future__ import annotations

import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.simulate.anatomy import CSF, WM, Anatomy
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.segmentation import segment_brain


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture(scope="module", params=["mprage-3t", "spgr-1.5t"])
def segmented(request: pytest.FixtureRequest, head: Anatomy) -> Anatomy:
    scan = scan_head(head, load_scanners()[request.param], np.random.default_rng(0))
    return segment_brain(scan, head.brain_mask)


def test_tissues_of_a_scan_are_found_again(segmented: Anatomy, head: Anatomy) -> None:
    grey, truth = (a.tissues[1] + a.tissues[3] for a in (segmented, head))
    assert dice(segmented.tissues[WM] > 0.5, head.tissues[WM] > 0.5) > 0.88
    assert dice(grey > 0.5, truth > 0.5) > 0.85
    assert dice(segmented.tissues[CSF] > 0.5, head.tissues[CSF] > 0.5) > 0.75


def test_shares_are_partial_volumes_that_fill_the_mask(segmented: Anatomy, head: Anatomy) -> None:
    total = segmented.tissues.sum(axis=0)
    assert total[head.brain_mask] == pytest.approx(1, abs=1e-4)
    assert np.all(total[~head.brain_mask] == 0)
    error = np.abs(segmented.tissues[WM] - head.tissues[WM])[head.brain_mask].mean()
    assert error < 0.08


def test_ventricles_are_measured_within_a_quarter(segmented: Anatomy, head: Anatomy) -> None:
    assert segmented.ventricle_volume_ml == pytest.approx(head.ventricle_volume_ml, rel=0.25)


def test_deep_grey_matter_lies_where_it_is(segmented: Anatomy, head: Anatomy) -> None:
    assert dice(segmented.labels() == 4, head.labels() == 4) > 0.6


def test_a_mask_without_a_brain_is_refused(head: Anatomy) -> None:
    brain = Volume(np.ones(head.shape, np.float32), head.affine)
    with pytest.raises(MrharmonyError, match="less than any whole brain"):
        segment_brain(brain, np.zeros(head.shape, bool))


def test_a_brain_without_contrast_is_refused(head: Anatomy) -> None:
    noise = np.random.default_rng(0).normal(1, 0.01, head.shape).astype(np.float32)
    with pytest.raises(MrharmonyError, match="cannot be told apart"):
        segment_brain(Volume(noise, head.affine), head.brain_mask)
