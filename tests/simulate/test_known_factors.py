from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, DEEP_GM, LESION_LABEL, WM, Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.known_factors import add_lesions, random_blobs, thin_cortex
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.grid import Grid

SEED = 8


def volumes(head: Anatomy) -> np.ndarray:
    return np.asarray(head.tissues.sum(axis=(1, 2, 3), dtype=np.float64) * head.voxel_ml)


@pytest.fixture(scope="module")
def plain() -> Anatomy:
    return virtual_head(np.random.default_rng(SEED), Grid.working(2.0), ventricle_scale=1.0)


@pytest.fixture(scope="module")
def sick(plain: Anatomy) -> Anatomy:
    return add_lesions(plain, random_blobs(np.random.default_rng(1)), 12.0, np.eye(4))


def test_thinning_turns_its_share_of_the_cerebral_cortex_into_csf(plain: Anatomy) -> None:
    heads = [thin_cortex(plain, share, np.eye(4)) for share in (0.0, 0.1, 0.2, 0.4)]
    lost = volumes(plain)[CORTICAL_GM] - [volumes(head)[CORTICAL_GM] for head in heads]
    gained = np.array([volumes(head)[CSF] for head in heads]) - volumes(plain)[CSF]
    assert lost == pytest.approx(gained, rel=1e-4)
    assert lost / lost[1] == pytest.approx([0, 1, 2, 4], rel=1e-3)
    assert 0.075 < lost[1] / volumes(plain)[CORTICAL_GM] <= 0.1


def test_thinning_works_from_outside_and_leaves_all_else(plain: Anatomy) -> None:
    thin, thinner = (thin_cortex(plain, share, np.eye(4)) for share in (0.15, 0.3))
    assert np.array_equal(thin.tissues[[WM, DEEP_GM]], plain.tissues[[WM, DEEP_GM]])
    assert (thin.brain_mask != plain.brain_mask).mean() < 1e-5  # sums of shares that round the other way
    assert np.array_equal(thin.ventricles, plain.ventricles)
    assert np.all(thinner.tissues[CORTICAL_GM] <= thin.tissues[CORTICAL_GM] + 1e-6)
    assert thin.tissues.min() >= -1e-6
    assert thin.tissues.sum(axis=0) == pytest.approx(plain.tissues.sum(axis=0), abs=1e-5)
    kept = thin.tissues[CORTICAL_GM] / np.maximum(plain.tissues[CORTICAL_GM], 1e-6)
    whole = plain.tissues[CORTICAL_GM] > 0.3
    beside_white = whole & (plain.tissues[WM] > 0.3)
    beside_csf = whole & (plain.tissues[CSF] > 0.3)
    assert kept[beside_white].mean() > kept[beside_csf].mean() + 0.1


def test_lesions_have_the_volume_asked_for_and_grow_in_place(plain: Anatomy) -> None:
    blobs = random_blobs(np.random.default_rng(1))
    heads = [add_lesions(plain, blobs, volume, np.eye(4)) for volume in (0.5, 5.0, 25.0)]
    assert [head.lesions_ml for head in heads] == pytest.approx([0.5, 5.0, 25.0], rel=1e-3)
    for small, large in pairwise(heads):
        assert small.lesions is not None
        assert large.lesions is not None
        assert np.all(small.lesions <= large.lesions + 1e-6)


def test_lesions_are_white_matter_that_looks_like_grey(plain: Anatomy, sick: Anatomy) -> None:
    assert sick.lesions is not None
    assert np.all(sick.lesions <= plain.tissues[WM] + 1e-6)
    assert sick.tissues.sum(axis=0) == pytest.approx(plain.tissues.sum(axis=0), abs=1e-5)
    assert np.array_equal(sick.tissues[CSF], plain.tissues[CSF])
    core = sick.lesions > 0.8
    for name in ("mprage-3t", "spgr-1.5t", "mp2rage-3t"):
        image = scan_head(sick, load_scanners()[name], np.random.default_rng(0)).voxels
        csf, grey, white = (
            np.median(image[plain.tissues[tissue] > 0.95]) for tissue in (CSF, CORTICAL_GM, WM)
        )
        assert csf < grey
        assert abs(np.median(image[core]) - grey) < 0.5 * (white - grey)


def test_lesions_lie_near_the_ventricles_first_and_never_beside_the_cortex(
    plain: Anatomy, sick: Anatomy
) -> None:
    assert sick.lesions is not None
    ventricles = np.argwhere(plain.ventricles > 0.5)
    places = np.argwhere(sick.lesions > 0.5)
    white = np.argwhere(plain.tissues[WM] > 0.9)[::50]

    def distance(points: np.ndarray) -> float:
        return float(np.median([np.sqrt(((ventricles - p) ** 2).sum(axis=1).min()) for p in points[::5]]))

    assert distance(places) < 0.5 * distance(white)
    assert not np.any((sick.labels() == LESION_LABEL) & (plain.tissues[CORTICAL_GM] > 0.5))


def test_labels_and_crops_know_the_lesions(sick: Anatomy) -> None:
    labels = sick.labels()
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, LESION_LABEL}
    assert (labels == LESION_LABEL).sum() * sick.voxel_ml == pytest.approx(12, rel=0.4)
    part = sick.crop(slice(10, 60), slice(20, 90), slice(10, 60))
    assert sick.lesions is not None
    assert part.lesions is not None
    assert np.array_equal(part.lesions, sick.lesions[10:60, 20:90, 10:60])


def test_factors_change_nothing_else_of_a_person() -> None:
    grid = Grid.working(4.0)
    healthy, old = (
        virtual_head(np.random.default_rng(SEED), grid, ventricle_scale=1.4, **factors)
        for factors in ({}, {"cortical_thinning": 0.2, "lesions_ml": 6.0})
    )
    assert (old.cortical_thinning, old.ventricle_scale) == (0.2, 1.4)
    assert old.lesions_ml == pytest.approx(6, rel=1e-3)
    assert healthy.lesions_ml == 0
    assert np.array_equal(healthy.ventricles, old.ventricles)
    assert np.array_equal(healthy.myelination, old.myelination)
    assert np.array_equal(healthy.tissues[DEEP_GM], old.tissues[DEEP_GM])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"cortical_thinning": 0.9}, "cortical_thinning must lie within"),
        ({"cortical_thinning": -0.1}, "cortical_thinning must lie within"),
        ({"cortical_thinning": float("nan")}, "cortical_thinning must lie within"),
        ({"lesions_ml": -1.0}, "lesions_ml must lie within"),
        ({"lesions_ml": 99.0}, "lesions_ml must lie within"),
    ],
)
def test_absurd_factors_are_refused(factors: dict[str, float], message: str) -> None:
    with pytest.raises(MrharmonyError, match=message):
        virtual_head(np.random.default_rng(0), Grid.working(8.0), ventricle_scale=1.0, **factors)  # type: ignore[arg-type]


def test_a_head_without_white_matter_has_no_room_for_lesions(plain: Anatomy) -> None:
    corner = plain.crop(slice(0, 20), slice(0, 20), slice(0, 20))
    with pytest.raises(MrharmonyError, match="too little deep white matter"):
        add_lesions(corner, random_blobs(np.random.default_rng(1)), 20.0, np.eye(4))
