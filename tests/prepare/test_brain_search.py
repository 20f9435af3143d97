"""Heads that lie far from upright, deepbet included."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from deepbet import BrainExtraction
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from mrharmony.core.volume import Volume
from mrharmony.preparation.brain_mask import locate_brain, mask_from_upright, upright
from mrharmony.preparation.pipeline import prepare_scan
from mrharmony.preparation.quality import dice

CENTRE = np.array([0, -17.0, 5.0])


def turned(volume, mask, degrees, axis):
    """Return the head turned on its own grid, the brain there, and the motion of the world."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis) / np.linalg.norm(axis)).as_matrix()
    motion = from_matvec(turn, CENTRE - turn @ CENTRE)
    back = np.linalg.inv(motion @ volume.affine) @ volume.affine
    there = [
        affine_transform(array.astype(np.float32), back[:3, :3], back[:3, 3], order=1)
        for array in (volume.voxels, mask)
    ]
    return volume.with_voxels(there[0]), there[1] > 0.5, motion


def test_a_head_turned_by_40_degrees_is_found_and_set_upright(head):
    volume, mask, motion = turned(*head, 40, (-1, 1, 1))
    scan = prepare_scan(volume)
    assert dice(scan.brain_mask, mask) > 0.95
    left = scan.rigid_to_template @ motion
    assert np.degrees(Rotation.from_matrix(left[:3, :3]).magnitude()) < 2
    assert np.linalg.norm(apply_affine(left, CENTRE) - CENTRE) < 2


def test_scans_that_are_searched_in_threads_at_once_have_their_own_brains(head, monkeypatch):
    volume, _ = head
    scans = [volume, volume.with_voxels(np.roll(volume.voxels, 12, axis=1))]
    alone = [locate_brain(scan).mask for scan in scans]
    meet, finish = Barrier(len(scans)), BrainExtraction.postprocess
    waits = iter([meet.wait] * len(scans))

    def finish_together(network, mask):
        next(waits, lambda: None)()  # until the network has looked at both scans
        return finish(network, mask)

    monkeypatch.setattr(BrainExtraction, "postprocess", finish_together)
    with ThreadPoolExecutor(len(scans)) as threads:
        at_once = [found.mask for found in threads.map(locate_brain, scans)]
    np.testing.assert_array_equal(at_once, alone)


def test_a_mask_found_upright_comes_back_to_the_scans_own_grid(head):
    volume, mask, motion = turned(*head, 35, (1, 2, 1))
    rigid_to_template = np.linalg.inv(motion)
    copy = upright(volume, rigid_to_template)
    masked = upright(Volume(mask, volume.affine), rigid_to_template)
    assert copy.shape == masked.shape
    back = mask_from_upright(masked.voxels > 0.5, copy, volume, rigid_to_template)
    assert back.shape == mask.shape
    assert dice(back, mask) > 0.98
