import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from mrharmony.core.volume import Volume
from mrharmony.preparation.alignment import align_to_template, volume_corrected

BRAIN_CENTRE = np.array([0.0, -17.0, 5.0, 1.0])
angles = st.tuples(*[st.floats(-20, 20)] * 3)
shifts = st.tuples(*[st.floats(-60, 60)] * 3)


def world_of(angle, shift):
    return from_matvec(Rotation.from_euler("xyz", angle, degrees=True).as_matrix(), shift)


def error_of(rigid_to_template, world):
    """Return what the alignment leaves of a motion: degrees, and mm at the brain's centre."""
    left = rigid_to_template @ world
    turn = Rotation.from_matrix(left[:3, :3]).magnitude()
    return np.degrees(turn), np.linalg.norm((left @ BRAIN_CENTRE - BRAIN_CENTRE)[:3])


@given(angles, shifts)
@settings(max_examples=6, deadline=None)
def test_a_turned_and_shifted_head_is_found_within_a_degree_and_a_millimetre(brain, angle, shift):
    volume, mask = brain
    world = world_of(angle, shift)
    rigid_to_template = align_to_template(
        Volume(volume.voxels, world @ volume.affine), mask
    ).rigid_to_template
    degrees, millimetres = error_of(rigid_to_template, world)
    assert degrees < 1
    assert millimetres < 1


def test_a_posture_that_is_nearly_known_is_refined(brain):
    volume, mask = brain
    world = world_of((0, 3, 0), (2, 0, 0))
    turned = Volume(volume.voxels, world @ volume.affine)
    searched, refined = align_to_template(turned, mask), align_to_template(turned, mask, near=np.eye(4))
    assert error_of(refined.rigid_to_template, world)[0] < 1
    assert refined.similarity == pytest.approx(searched.similarity, abs=1e-3)


def test_posture_is_a_rotation_and_never_a_reflection(brain):
    volume, mask = brain
    # Labels of left and right swapped in the file: the aligned brain must show them swapped too.
    mirrored = Volume(volume.voxels, np.diag([-1.0, 1.0, 1.0, 1.0]) @ volume.affine)
    rigid_to_template = align_to_template(mirrored, mask).rigid_to_template
    np.testing.assert_allclose(rigid_to_template[:3, :3] @ rigid_to_template[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rigid_to_template[:3, :3]) == pytest.approx(1)
    assert error_of(rigid_to_template, np.eye(4))[0] < 5


@pytest.mark.parametrize("size", [0.7, 0.85, 1.1])
def test_the_size_of_a_head_is_told_and_neither_turns_nor_scales_it(brain, size):
    volume, mask = brain
    resized = Volume(volume.voxels, np.diag([size, size, size, 1.0]) @ volume.affine)
    alignment = align_to_template(resized, mask)
    assert np.linalg.det(alignment.rigid_to_template[:3, :3]) == pytest.approx(1)
    assert np.degrees(Rotation.from_matrix(alignment.rigid_to_template[:3, :3]).magnitude()) < 1
    assert alignment.size == pytest.approx(size * align_to_template(*brain).size, rel=0.005)


def test_a_small_turned_head_is_laid_on_the_template_by_posture_and_size(brain):
    volume, mask = brain
    world = world_of((10, -8, 15), (20, -30, 10)) @ np.diag([0.85, 0.85, 0.85, 1.0])
    alignment = align_to_template(Volume(volume.voxels, world @ volume.affine), mask)
    found = volume_corrected(alignment.rigid_to_template, alignment.size)
    points = np.random.default_rng(0).uniform([-60, -90, -40], [60, 60, 70], (50, 3))
    assert np.linalg.norm(apply_affine(found @ world, points) - points, axis=1).max() < 1


def test_anisotropic_and_sheared_voxels_are_aligned(brain):
    volume, mask = brain
    shear = np.eye(4)
    shear[1, 2] = 0.02
    thick = volume.voxels[:, :, ::2]
    affine = shear @ volume.affine @ np.diag([1.0, 1.0, 2.0, 1.0])
    alignment = align_to_template(Volume(thick, affine), mask[:, :, ::2])
    degrees, millimetres = error_of(alignment.rigid_to_template, np.eye(4))
    assert degrees < 2
    assert millimetres < 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_nearly_the_same(brain):
    first, again, other = (align_to_template(*brain, seed=seed).rigid_to_template for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    degrees, millimetres = error_of(first, np.linalg.inv(other))
    assert 0 < degrees < 0.3
    assert millimetres < 0.2


@pytest.mark.parametrize("axis", [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, -1), (1, 1, 1)], ids=str)
def test_a_head_turned_by_45_degrees_about_any_axis_is_found(brain, axis):
    volume, mask = brain
    world = from_matvec(
        Rotation.from_rotvec(np.radians(45) * np.array(axis) / np.linalg.norm(axis)).as_matrix(),
        (10, 20, -30),
    )
    rigid_to_template = align_to_template(
        Volume(volume.voxels, world @ volume.affine), mask
    ).rigid_to_template
    degrees, millimetres = error_of(rigid_to_template, world)
    assert degrees < 1
    assert millimetres < 1
