"""The figures of the table of real lesions, on a block of white matter in which the lesions are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks._shared.heads import domain
from benchmarks.robustness import real_lesions
from benchmarks.robustness.lesions import GREY, NEAR_MM, WHITE
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from helpers.phantoms import phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.evaluate.tissues import TissueSegmentation, TissueVolumes
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import LESION_LABEL
from mrharmony.space.grid import Grid

ZOOMS = (1.0, 1.0, 2.0)
SHAPE = (72, 48, 28)
WHITE_AT, GREY_AT, LESION_AT = 0.95, 0.65, 0.75
SMALL = np.s_[56:62, 20:26, 12:15]  # 216 mm³
LONG = np.s_[8:44, 20:26, 12:15]  # over three cells of the lattice


@pytest.fixture
def labels():
    """White matter in a shell of grey matter, with a small lesion and one of 36 mm."""
    found = np.full(SHAPE, GREY, np.uint8)
    found[3:-3, 3:-3, 2:-2] = WHITE
    found[SMALL] = found[LONG] = LESION_LABEL
    return found


@pytest.fixture
def voxels(labels):
    return np.select([labels == LESION_LABEL, labels == GREY], [LESION_AT, GREY_AT], WHITE_AT).astype("f4")


@pytest.fixture
def parts(labels):
    return real_lesions.lesion_parts(labels, ZOOMS)


def shares(before, after, labels, parts):
    seen, left = (real_lesions.part_contrasts(voxels, labels, parts) for voxels in (before, after))
    return real_lesions.shares(seen, left / seen)


def new_dark(before, after, labels):
    was, is_now = (real_lesions.dark(voxels, labels, ZOOMS) for voxels in (before, after))
    return (is_now & ~was)[real_lesions.inner_white(labels, ZOOMS)].mean()


def test_confluent_lesions_are_cut_into_parts_that_hold_every_voxel_once(labels, parts):
    lesion = np.flatnonzero(labels == LESION_LABEL)
    assert sorted(np.concatenate([part.lesion for part in parts])) == sorted(lesion)
    places = [np.unravel_index(part.lesion, SHAPE) for part in parts]
    assert sorted((i.min(), i.max()) for i, *_ in places) == [(8, 15), (16, 31), (32, 43), (56, 61)]


def test_a_part_is_compared_with_white_matter_around_it_that_is_free_of_lesions(labels, parts):
    lesion = np.argwhere(labels == LESION_LABEL) * ZOOMS
    for part in parts:
        assert (labels.ravel()[part.near] == WHITE).all()
        near, own = (np.column_stack(np.unravel_index(p, SHAPE)) * ZOOMS for p in (part.near, part.lesion))
        for places, low, high in ((lesion, NEAR_MM[0], np.inf), (own, 0, NEAR_MM[1])):
            away = np.linalg.norm(near[::37, None] - places, axis=-1).min(axis=1)
            assert away.min() >= low and away.max() <= high


def test_contrast_is_in_units_of_grey_and_white_matter_and_a_linear_change_keeps_it(labels, voxels, parts):
    wanted = (WHITE_AT - LESION_AT) / (WHITE_AT - GREY_AT)
    assert real_lesions.part_contrasts(voxels, labels, parts) == pytest.approx(wanted, rel=1e-5)
    found = shares(voxels, 300 * voxels - 40, labels, parts)
    unchanged = {"least": 1, "middle": 1, "fainter": 0, "milder least": 1, "milder fainter": 0, "inverted": 0}
    assert found == pytest.approx(unchanged, rel=1e-5)


@pytest.mark.parametrize(("value", "inverted"), [(0.85, 0), (1.05, 1)])
def test_one_part_that_fades_or_turns_bright_among_four_is_found(labels, voxels, parts, value, inverted):
    after = voxels.copy()
    after[SMALL] = value
    found = shares(voxels, after, labels, parts)
    assert found["least"] == pytest.approx((WHITE_AT - value) / (WHITE_AT - LESION_AT), rel=1e-4)
    assert (found["middle"], found["fainter"]) == (pytest.approx(1), 0.25)
    assert found["inverted"] == inverted / 4


def test_a_loss_of_less_than_a_tenth_is_not_called_fainter(labels, voxels, parts):
    after = voxels.copy()
    after[SMALL] += 0.05 * (WHITE_AT - LESION_AT)
    assert shares(voxels, after, labels, parts)["fainter"] == 0


def test_parts_darker_than_grey_matter_are_told_from_milder_ones(labels, voxels, parts):
    voxels[SMALL] = 0.3
    after = voxels.copy()
    after[SMALL] = 0.5
    found = shares(voxels, after, labels, parts)
    assert (found["fainter"], found["milder fainter"], found["milder least"]) == (0.25, 0, pytest.approx(1))
    after[20:28, 20:26, 12:15] = after[16:24, 20:26, 12:15] = 0.85
    found = shares(voxels, after, labels, parts)
    assert (found["fainter"], found["milder fainter"]) == (0.5, pytest.approx(1 / 3))


def test_a_patient_whose_parts_are_all_darker_than_grey_matter_has_no_milder_figures(labels, voxels, parts):
    voxels[labels == LESION_LABEL] = 0.3
    found = shares(voxels, voxels, labels, parts)
    assert (found["least"], found["milder least"], found["milder fainter"]) == (1, None, 0)


def test_lesions_that_the_scan_hardly_shows_and_specks_are_left_out(labels, voxels):
    labels[50, 40, 6:10] = LESION_LABEL  # 8 mm³
    parts = real_lesions.lesion_parts(labels, ZOOMS)
    assert len(parts) == 4
    voxels[SMALL] = 0.92
    assert len(real_lesions.visible_parts(voxels, labels, parts)) == 3


def test_a_new_dark_place_in_white_matter_counts_with_its_share(labels, voxels):
    after = voxels.copy()
    after[30:34, 36:39, 12:14] = 0.7
    inner = real_lesions.inner_white(labels, ZOOMS)
    assert new_dark(voxels, after, labels) == pytest.approx(24 / inner.sum())
    assert new_dark(after, after, labels) == new_dark(after, voxels, labels) == 0


@pytest.mark.parametrize("place", [np.s_[30:34, 27:29, 12:14], np.s_[30:34, 43:45, 12:14]])
def test_a_dark_place_at_a_lesion_or_at_the_cortex_is_not_a_new_lesion(labels, voxels, place):
    after = voxels.copy()
    after[place] = 0.7
    assert (labels[place] == WHITE).all()
    assert new_dark(voxels, after, labels) == 0


def test_smooth_shading_makes_no_new_lesion(labels, voxels):
    shading = np.linspace(0.75, 1.1, SHAPE[0], dtype=np.float32)[:, None, None]
    assert (voxels * shading)[labels == WHITE].min() < (WHITE_AT + GREY_AT) / 2
    assert new_dark(voxels, voxels * shading, labels) == 0


class Fading:
    """A method that halves the contrast of the small lesion at one target."""

    name = "fading"

    def intensities(self, scan, source, target):
        assert source is None
        made = scan.intensities()
        made[SMALL] += (0.5 if target == domain("B") else 0.0) * (WHITE_AT - LESION_AT)
        return made


def as_patient(monkeypatch, labels, voxels):
    zooms = np.diag([*ZOOMS, 1.0])
    ones = np.ones(SHAPE, np.float32)
    scan = PreparedScan(Volume(100 * voxels, zooms), ones > 0, ones, np.eye(4), 100.0, True, ())
    monkeypatch.setattr(real_lesions, "prepared_patient", lambda mask: (scan, labels))
    return Path("sub-x_label-lesion_mask.nii.gz")


def test_rows_and_report_of_a_patient(monkeypatch, labels, voxels):
    mask = as_patient(monkeypatch, labels, voxels)
    rows = list(real_lesions.measured(mask, [Fading()], ["A", "B"]))
    assert [(row["subject"], row["target"], row["fainter"]) for row in rows] == [
        ("sub-x", "A", 0),
        ("sub-x", "B", 0.25),
    ]
    assert rows[0]["before"] == pytest.approx(2 / 3, rel=1e-4) and rows[0]["kept"] == pytest.approx(1)
    table = real_lesions.summary(rows, "fading")
    assert (table["fainter"], table["least"]) == (0.125, pytest.approx(0.5, rel=1e-4))
    record = {"targets": ["A", "B"], "summary": {"fading": table}, "rows": rows}
    assert "| fading | 0.67 | 0.67 | 1.00 | 1.00 | 0.50 | 12.5% | 0.50 | 12.5% |" in str(
        real_lesions.report(record, "x")
    )


def test_a_patient_without_visible_lesions_is_refused_by_name(monkeypatch, labels, voxels):
    voxels[labels == LESION_LABEL] = WHITE_AT
    mask = as_patient(monkeypatch, labels, voxels)
    with pytest.raises(MrharmonyError, match=r"sub-x_label-lesion_mask\.nii\.gz: too little"):
        next(real_lesions.measured(mask, [Fading()], ["A"]))


def test_tissues_come_back_to_where_they_lie_in_an_oblique_scan(monkeypatch):
    def by_side(brain):  # 1 on the left, 2 on the right, 3 in front
        x, y, _ = np.moveaxis(Grid.working(1.0).positions(), -1, 0)
        labels = np.where(y > 5, 3, np.where(x > 8, 2, 1)).astype(np.uint8)
        return TissueSegmentation(labels * brain.mask, TissueVolumes(0, 0, 0, 0))

    monkeypatch.setattr(real_lesions, "segment_tissues", by_side)
    ball = prepared(phantom())
    turn = from_matvec(Rotation.from_euler("xyz", (20, -10, 70), degrees=True).as_matrix(), (3, -8, 5))
    native = Volume(ball.native.voxels, np.linalg.inv(turn) @ ball.native.affine)
    scan = replace(ball, native=native, rigid_to_template=turn)
    x, y, _ = ball.positions(ball.brain_mask).T
    found = real_lesions.tissues(scan)
    assert not found[~ball.brain_mask].any()
    inside = found[ball.brain_mask]
    assert (inside > 0).mean() > 0.95  # some of the border is lost on the way
    for side, place in ((1, (x < 7) & (y < 4)), (2, (x > 9) & (y < 4)), (3, y > 6)):
        assert set(inside[place]) - {0} == {side}
