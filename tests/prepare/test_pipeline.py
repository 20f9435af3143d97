"""The whole chain on heads made of the template, deepbet and the receive field included."""

import inspect
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import mrharmony.preparation.brain_mask
from helpers.template_heads import MARKER, marker_position
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.preparation import pipeline
from mrharmony.preparation.alignment import align_to_template
from mrharmony.preparation.brain_mask import locate_brain
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import gate_figures
from mrharmony.space.grid import Grid

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


class SeenHead(NamedTuple):
    """A head that was prepared, and the arrays of every alignment that was computed meanwhile."""

    prepared: PreparedScan
    aligned: list[tuple[bytes | None, ...]]


@pytest.fixture(scope="module")
def seen_head(head) -> SeenHead:
    """The head, prepared in this process, whoever else has prepared it before."""
    computed = []

    def counted(volume, brain_mask, seed=0, near=None):
        arrays = (volume.voxels, volume.affine, brain_mask, near)
        computed.append(tuple(None if array is None else array.tobytes() for array in arrays))
        return align_to_template(volume, brain_mask, seed, near)

    with pytest.MonkeyPatch.context() as patch:
        anew = inspect.unwrap(pipeline.prepare_with_quality)
        patch.setattr(pipeline, "prepare_with_quality", anew)
        for module in (mrharmony.preparation.brain_mask, pipeline):
            patch.setattr(module, "align_to_template", counted)
        return SeenHead(prepare_scan(head[0]), computed)


@pytest.fixture
def prepared_head(seen_head: SeenHead) -> PreparedScan:
    return seen_head.prepared


def test_the_brain_of_a_whole_head_is_found(head, prepared_head):
    assert dice(prepared_head.brain_mask, head[1]) > 0.95
    assert not prepared_head.skull_stripped
    assert prepared_head.findings == ()


def test_a_sound_head_keeps_the_least_value_of_every_figure(prepared_head):
    gates = gate_figures(prepared_head)
    assert [gate.below for gate in gates] == ["warns"] * 7 + ["refuses"]
    assert all(gate.value >= gate.least and gate.is_usual for gate in gates)
    assert not replace(gates[0], value=np.nextafter(gates[0].least, 0)).is_usual


def test_the_canonical_brain_lies_on_the_template(head, prepared_head):
    centre = np.array([0, -17, 5.0])
    np.testing.assert_allclose(apply_affine(prepared_head.rigid_to_template, centre), centre, atol=2)
    canonical, mask = prepared_head.canonical(Grid.working(4))
    assert canonical.orientation == "RAS"
    assert np.percentile(canonical.voxels[mask], 90) == pytest.approx(1, abs=0.05)


def test_no_alignment_is_computed_twice(seen_head: SeenHead):
    """The search for the brain has aligned it: that alignment is where preparation starts from."""
    assert len(set(seen_head.aligned)) == len(seen_head.aligned) == 3


def test_what_comes_in_is_kept_as_it_was(head, prepared_head):
    assert prepared_head.native is head[0]
    assert prepared_head.bias_field.shape == prepared_head.brain_mask.shape == head[0].shape


def test_a_stripped_brain_is_recognised_and_keeps_its_own_border_but_not_a_rest_of_neck(head):
    volume, mask = head
    i, j, k = np.argwhere(mask)[np.argwhere(mask)[:, 2].argmin()]
    neck = np.zeros_like(mask)
    neck[i - 4 : i + 5, j - 4 : j + 5, k - 10 : k] = True
    stripped = locate_brain(volume.with_voxels(np.where(mask | neck, volume.voxels + 1, -5)))
    assert stripped.skull_stripped
    assert stripped.mask[mask].all()
    assert not stripped.mask[:, :, : k - 5].any()


def test_a_stripped_brain_that_resampling_has_blurred_does_not_grow(head):
    volume, mask = head
    blurred = gaussian_filter(np.where(mask, volume.voxels + 1, 0), 0.5)
    brain_mask, skull_stripped, _ = locate_brain(volume.with_voxels(blurred))
    assert skull_stripped
    assert brain_mask.sum() == pytest.approx(mask.sum(), rel=0.08)


@pytest.mark.parametrize("threshold", [15, 60], ids=["skull-kept", "skull-emptied"])
def test_a_head_with_an_emptied_background_and_a_cut_neck_is_not_taken_for_stripped(head, threshold):
    volume, mask = head
    emptied = np.where(volume.voxels > threshold, volume.voxels, 0)
    emptied[:, :, : np.argwhere(mask).min(axis=0)[2]] = 0
    brain_mask, skull_stripped, _ = locate_brain(volume.with_voxels(emptied), given=mask)
    assert not skull_stripped
    np.testing.assert_array_equal(brain_mask, mask)


def test_left_stays_left_through_the_whole_chain(brain):
    volume, mask = brain
    world = from_matvec(Rotation.from_euler("xyz", (15, -5, 8), degrees=True).as_matrix(), (20, 30, -40))
    order = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("ILP"))
    affine = world @ volume.affine @ inv_ornt_aff(order, volume.shape)
    stored = Volume(apply_orientation(volume.voxels, order), affine)
    scan = prepare_scan(stored, brain_mask=apply_orientation(mask, order))

    np.testing.assert_allclose(scan.rigid_to_template @ world, np.eye(4), atol=1.5)
    canonical, _ = scan.canonical(Grid.working(4))
    np.testing.assert_allclose(marker_position(canonical), MARKER, atol=3)
    right = volume.affine[0, 0] * np.indices(mask.shape)[0] + volume.affine[0, 3]
    right = apply_orientation(right, order)[scan.brain_mask]
    off_midline = np.abs(right) > 5
    found_right = scan.positions(scan.brain_mask)[:, 0]
    np.testing.assert_array_equal(np.sign(found_right)[off_midline], np.sign(right)[off_midline])


def test_every_voxel_order_gives_the_same_bytes(brain):
    volume, mask = brain
    first = prepare_scan(volume, brain_mask=mask)
    order = np.array([[2, -1], [0, 1], [1, -1]])
    stored = Volume(
        apply_orientation(volume.voxels, order), volume.affine @ inv_ornt_aff(order, volume.shape)
    )
    second = prepare_scan(stored, brain_mask=apply_orientation(mask, order))
    assert second.scale == first.scale
    np.testing.assert_array_equal(second.bias_field, apply_orientation(first.bias_field, order))
    np.testing.assert_allclose(second.rigid_to_template, first.rigid_to_template, atol=1e-6)


def test_a_brain_at_the_border_of_the_field_of_view_is_said(brain):
    volume, mask = brain
    cut = int(np.argwhere(mask).min(axis=0)[1] + 2)
    affine = volume.affine.copy()
    affine[:3, 3] = apply_affine(affine, (0, cut, 0))
    scan = prepare_scan(Volume(volume.voxels[:, cut:], affine), brain_mask=mask[:, cut:])
    assert [finding.code for finding in scan.findings] == ["brain-at-border"]


def noise(shape):
    return np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        (np.zeros((100, 100, 100)), "same value"),
        (np.full((100, 100, 100), np.nan), "NaN"),
        (noise((100, 100, 20)), "field of view is 40 mm"),
        (np.eye(100)[:, :, None] * np.eye(100)[0], "no brain was found"),
        (noise((100, 100, 100)), "brain"),
    ],
    ids=["constant", "nan", "slab", "specks", "noise"],
)
def test_what_holds_no_brain_is_refused_in_one_sentence(voxels, reason):
    with pytest.raises(MrharmonyError, match=reason) as refusal:
        prepare_scan(Volume(voxels.astype(np.float32), AFFINE))
    assert "\n" not in str(refusal.value)


def test_masks_that_cannot_be_a_brain_are_refused(brain):
    volume, mask = brain
    wrong = [(mask[1:], "shape"), (np.zeros_like(mask), "0 ml"), (np.ones_like(mask), "ml")]
    for brain_mask, reason in wrong:
        with pytest.raises(MrharmonyError, match=reason):
            prepare_scan(volume, brain_mask=brain_mask)


def test_a_mask_of_half_a_brain_is_named_in_the_refusal_and_no_other_is_asked_for(head):
    volume, mask = head
    half = mask.copy()
    half[: mask.shape[0] // 2] = False
    with pytest.raises(MrharmonyError, match="what the brain mask that was given holds is unlike") as refusal:
        prepare_scan(volume, brain_mask=half)
    assert "give a brain mask" not in str(refusal.value)


@pytest.mark.skipif("MRHARMONY_DATA" not in os.environ, reason="needs real scans")
def test_real_scans_of_every_site_are_prepared():
    root = Path(os.environ.get("MRHARMONY_DATA", ""))
    files = sorted(root.rglob("*T1w.nii.gz"))
    for file in itertools.islice(files, 0, None, max(len(files) // 5, 1)):
        image = nib.load(file)
        scan = prepare_scan(Volume(image.get_fdata(dtype=np.float32), image.affine))
        brain, mask = scan.canonical(Grid.working(2))
        assert scan.findings == (), file
        assert 900 < mask.sum() * 8 / 1000 < 1900, file
        assert np.isfinite(brain.voxels).all()
