"""Anatomies from label maps: structures as mixtures of tissues, borders, the brain mask."""

import nibabel as nib
import numpy as np
import pytest

from helpers.label_heads import AFFINE, ellipsoid_labels
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, WM, Anatomy
from mrharmony.simulate.label_maps import LabelMap
from mrharmony.simulate.structures import structured_anatomy, with_own_tissues


@pytest.fixture(scope="module")
def head() -> LabelMap:
    image = nib.as_closest_canonical(nib.Nifti1Image(ellipsoid_labels()[0], AFFINE))
    return LabelMap(np.asarray(image.dataobj), np.asarray(image.affine))


@pytest.fixture(scope="module")
def anatomy(head: LabelMap) -> Anatomy:
    return structured_anatomy(head, np.random.default_rng(1))


def test_shares_sum_to_one_in_the_brain_and_ventricles_are_fluid(anatomy: Anatomy):
    total = anatomy.tissues.sum(axis=0)
    assert float(anatomy.tissues.min()) >= 0
    assert float(total.max()) <= 1 + 1e-5
    assert np.all(anatomy.ventricles <= anatomy.tissues[CSF] + 1e-5)
    assert anatomy.ventricle_volume_ml > 0


def test_the_same_generator_draws_the_same_person_and_others_differ(head: LabelMap, anatomy: Anatomy):
    again, other = (structured_anatomy(head, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.array_equal(anatomy.tissues, again.tissues)
    assert not np.array_equal(anatomy.tissues, other.tissues)


def test_own_tissues_keep_the_brain_and_move_no_border(anatomy: Anatomy):
    changed = with_own_tissues(anatomy, np.random.default_rng(0))
    assert np.allclose(changed.tissues.sum(axis=0), anatomy.tissues.sum(axis=0), atol=1e-5)
    assert np.all(changed.ventricles <= changed.tissues[CSF] + 1e-5)
    pure = anatomy.tissues[WM] > 0.999
    assert pure.any()
    assert float(changed.tissues[WM][pure].std()) < 1e-3
    moved = [abs(float((changed.tissues - anatomy.tissues)[t].sum())) for t in (CORTICAL_GM, DEEP_GM, WM)]
    assert max(moved) > 0
