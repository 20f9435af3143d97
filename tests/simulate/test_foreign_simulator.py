from __future__ import annotations

import numpy as np
import pytest

from helpers.label_heads import ellipsoid_labels, write_labels
from mrharmony.core.volume import FloatArray
from mrharmony.simulate.cohort import field_of_view
from mrharmony.simulate.foreign.coils import combined, loop_centres, sensitivities
from mrharmony.simulate.foreign.heads import NAMES, VENTRICLES_ML, LabelledHead, labelled_head
from mrharmony.simulate.foreign.scanning import scan_labelled, tissue_image, windowed
from mrharmony.simulate.foreign.sites import CoilArray, ScanVariation, load_sites
from mrharmony.simulate.label_maps import LabelMap, read_label_map
from mrharmony.simulate.motion import random_pose
from mrharmony.simulate.scanner import Gain

SITES = tuple(load_sites())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LabelMap:
    path = tmp_path_factory.mktemp("labels") / "head_dseg.nii.gz"
    return read_label_map(write_labels(path, ellipsoid_labels()[0])).crop(8)


def person(base: LabelMap, seed: int = 5, ventricle_scale: float = 2.0, zoom: float = 3.0) -> LabelledHead:
    rng = np.random.default_rng(seed)
    return labelled_head(rng, field_of_view(zoom), base, ventricle_scale, random_pose(rng)).crop(6)


@pytest.fixture(scope="module")
def head(base: LabelMap) -> LabelledHead:
    return person(base)


def scanned(head: LabelledHead, site: str, seed: int = 1) -> FloatArray:
    return scan_labelled(head, load_sites()[site], np.random.default_rng(seed)).voxels


def mostly(head: LabelledHead, name: str, share: float = 0.95) -> np.ndarray:
    return (head.shares[NAMES.index(name)] > share) & head.anatomy.brain_mask


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    base: LabelMap, head: LabelledHead
) -> None:
    again = person(base)
    assert again.shares.tobytes() == head.shares.tobytes()
    scan = scanned(head, SITES[0])
    assert scanned(again, SITES[0]).tobytes() == scan.tobytes()
    assert not np.array_equal(scanned(head, SITES[0], seed=2), scan)
    assert person(base, seed=6).shares.shape != head.shares.shape or not np.array_equal(
        person(base, seed=6).shares, head.shares
    )


@pytest.mark.parametrize("site", SITES)
def test_nothing_is_seen_outside_the_brain_mask_and_everything_inside(head: LabelledHead, site: str) -> None:
    scan, mask = scanned(head, site), head.anatomy.brain_mask
    assert np.isfinite(scan).all()
    assert (scan[~mask] == 0).all()
    assert (scan[mask] > 0).all()


@pytest.mark.parametrize("site", SITES)
def test_structures_are_ordered_as_in_t1w_scans(head: LabelledHead, site: str) -> None:
    image = tissue_image(head, load_sites()[site], np.zeros(len(NAMES)))
    order = ("lateral-ventricle", "cerebral-cortex", "putamen", "cerebral-white-matter")
    levels = [float(np.median(image[mostly(head, name)])) for name in order]
    assert levels == sorted(levels)
    assert np.diff(levels).min() > 0.02


def test_left_stays_left(head: LabelledHead) -> None:
    caudate = head.shares[NAMES.index("caudate")]
    voxels = np.argwhere(caudate > 0)
    x = voxels @ head.anatomy.affine[0, :3] + head.anatomy.affine[0, 3]
    weights = caudate[caudate > 0]
    assert weights[x < 0].sum() > 1.5 * weights[x > 0].sum()


def test_shares_add_up_and_the_truth_is_made_of_them(head: LabelledHead) -> None:
    assert np.allclose(head.shares.sum(axis=0), 1, atol=1e-4)
    tissues = head.anatomy.tissues.sum(axis=0)
    assert tissues.max() < 1 + 1e-4
    assert set(np.unique(head.anatomy.labels())) == {0, 1, 2, 3, 4}
    white = mostly(head, "cerebral-white-matter")
    assert (head.anatomy.labels()[white] == 3).all()


def test_ventricles_grow_to_the_volume_that_is_asked_for(base: LabelMap) -> None:
    small, large = (person(base, ventricle_scale=scale) for scale in (1.0, 3.0))
    ratio = large.anatomy.ventricle_volume_ml / small.anatomy.ventricle_volume_ml
    assert ratio == pytest.approx(3, rel=0.15)
    assert large.anatomy.ventricle_volume_ml == pytest.approx(3 * VENTRICLES_ML, rel=0.4)
    assert np.array_equal(small.scores, large.scores)


def test_a_base_that_cannot_reach_a_volume_says_what_it_has(base: LabelMap) -> None:
    own_ml = base.where("lateral-ventricle").sum() * np.prod(base.zooms) / 1000
    tiny = person(base, ventricle_scale=0.01)
    assert tiny.anatomy.ventricle_scale == pytest.approx(0.3 * own_ml / VENTRICLES_ML)


def test_people_differ_in_brightness_and_scanners_see_the_same_person(base: LabelMap) -> None:
    heads = [person(base, seed) for seed in range(4)]
    one, other = (load_sites()[site] for site in SITES[:2])
    silent = np.zeros(len(NAMES))
    levels = np.array(
        [
            [np.median(tissue_image(h, site, silent)[mostly(h, "cerebral-cortex", 0.8)]) for h in heads]
            for site in (one, other)
        ]
    )
    assert levels.std(axis=1).min() > 0
    assert np.corrcoef(levels)[0, 1] > 0.7


def test_a_loop_sees_near_tissue_brighter_and_all_directions_alike() -> None:
    coils = CoilArray(elements=5, radius_mm=50, unequal=0)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -120
    seen = sensitivities(coils, (60, 60, 60), affine, np.zeros(5), np.zeros(3))
    world = np.indices((60, 60, 60)).reshape(3, -1).T * 4.0 - 120
    for field, centre in zip(seen.reshape(5, -1), loop_centres(coils), strict=True):
        distance = np.linalg.norm(world - centre, axis=1)
        order = np.argsort(distance)
        assert (np.diff(field[order]) <= 1e-6).all()
        assert np.allclose(field, (1 + (distance / 50) ** 2) ** -1.5, atol=1e-5)


def test_full_normalisation_leaves_nothing_of_the_loops_in_the_levels(head: LabelledHead) -> None:
    coils = CoilArray(elements=8, unequal=0.2, normalised=1.0)
    still = ScanVariation(loops=0, shift_mm=0, contrast=0)
    site = load_sites()[SITES[0]].model_copy(
        update={"coils": coils, "noise": 0.0, "kspace": (1, 1, 1), "taper": 0.0, "variation": still}
    )
    site = site.model_copy(update={"gain": Gain(mean=100, log_sd=0)})
    mask = head.anatomy.brain_mask
    scan = scan_labelled(head, site, np.random.default_rng(0)).voxels
    flat = 100 * tissue_image(head, site, np.zeros(len(NAMES)))
    assert np.allclose(scan[mask], flat[mask], rtol=0.02)
    shaded = site.model_copy(update={"coils": coils.model_copy(update={"normalised": 0.0})})
    ratio = scan_labelled(head, shaded, np.random.default_rng(0)).voxels[mask] / flat[mask]
    assert np.percentile(ratio, 95) > 1.2 * np.percentile(ratio, 5)


def test_noise_of_many_loops_is_noncentral_chi() -> None:
    rng, elements = np.random.default_rng(3), 8
    real, imaginary = rng.standard_normal((2, elements, 20, 20, 20))
    noise = combined(real + 1j * imaginary)
    assert (noise.astype(np.float64) ** 2).mean() == pytest.approx(2 * elements, rel=0.02)
    assert noise.min() > 0.5


def test_the_window_keeps_what_is_even_and_removes_what_alternates() -> None:
    even = np.ones((8, 10, 12), dtype=np.float32)
    assert np.allclose(windowed(even, (0.5, 0.8, 1.0), 0.5), even)
    alternating = even * (-1) ** np.arange(8)[:, None, None]
    assert np.abs(windowed(alternating, (0.9, 1.0, 1.0), 0.0)).max() < 1e-5
    assert np.abs(windowed(alternating, (1.0, 1.0, 1.0), 1.0)).max() < 1e-5
    assert np.allclose(windowed(alternating, (1.0, 1.0, 1.0), 0.0), alternating, atol=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_measured_levels_are_those_of_t1w_scans(site: str) -> None:
    level, people, texture = load_sites()[site].brightness()
    levels = dict(zip(NAMES, level, strict=True))
    fluid, cortex, white = (
        levels[name] for name in ("lateral-ventricle", "cerebral-cortex", "cerebral-white-matter")
    )
    assert fluid < cortex - 0.1
    assert cortex < white - 0.1
    assert white == 1
    assert people.max() < 0.2
    assert texture.max() < 0.25


def test_a_restless_site_varies_more() -> None:
    site = load_sites()[SITES[0]]
    restless = site.restless(2, 0.1)
    assert restless.variation.loops == 2 * site.variation.loops
    assert restless.variation.contrast == pytest.approx(2 * site.variation.contrast + 0.1)
    assert restless.gain.log_sd == 2 * site.gain.log_sd
    assert restless.session == site.session == site.name.replace("-", "")
