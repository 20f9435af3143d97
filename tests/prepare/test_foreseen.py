"""What `check` says before any preparation, and preparing refuses in the same words."""

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.preparation.foreseen import foreseen_faults
from mrharmony.preparation.pipeline import prepare_scan


def slab(volume):
    """Return the middle 32 mm of a head of 2 mm, as an image."""
    middle = volume.shape[2] // 2
    return nib.Nifti1Image(volume.voxels, volume.affine).slicer[:, :, middle : middle + 16]


def inverted(volume):
    return nib.Nifti1Image(volume.voxels.max() - volume.voxels, volume.affine)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (slab, "small-field-of-view", "32 mm at its narrowest"),
        (inverted, "inverted-intensities", "background is brighter"),
    ],
)
def test_check_foresees_what_harmonize_refuses_in_the_same_words(run, head, tmp_path, fault, code, words):
    path = tmp_path / "sub-01_T1w.nii.gz"
    nib.save(fault(head[0]), path)
    status, output, _ = run("check", path)
    assert status == 3
    assert f"error {code}: " in output
    said = output.partition(f"error {code}: ")[2].strip()
    assert words in said
    status, _, errors = run("harmonize", path, "--to", "LA", "--output", tmp_path / "out")
    assert status == 3
    assert f"{path}: {said}" in errors


def test_a_stripped_brain_with_inverted_intensities_is_foreseen(brain):
    volume, _ = brain
    turned = volume.with_voxels(volume.voxels.max() - volume.voxels)
    assert [fault.code for fault in foreseen_faults(turned)] == ["inverted-intensities"]


@pytest.mark.parametrize("filling", [0.0, 1.0, 2.0])
def test_no_background_is_a_fault_by_itself(head, filling):
    volume, mask = head
    bright = filling * float(volume.voxels.max())
    stripped = volume.with_voxels(np.where(mask, volume.voxels, bright))
    filled = volume.with_voxels(np.where(volume.voxels < 30, bright, volume.voxels))
    assert not [*foreseen_faults(volume), *foreseen_faults(stripped), *foreseen_faults(filled)]


def test_a_part_of_a_head_that_fills_the_field_of_view_is_fine(head):
    volume, mask = head
    inside = np.argwhere(mask)
    box = tuple(slice(low, high) for low, high in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
    cut = nib.Nifti1Image(volume.voxels, volume.affine).slicer[box]
    assert not list(foreseen_faults(type(volume)(np.asarray(cut.dataobj), cut.affine)))


def test_the_field_of_view_does_not_matter_where_the_brain_is_given(head):
    volume, mask = head
    low = type(volume)(volume.voxels[:, :, 40:80], volume.affine)
    with pytest.raises(MrharmonyError, match="80 mm at its narrowest"):
        prepare_scan(low)
    with pytest.raises(MrharmonyError, match="ml") as refusal:
        prepare_scan(low, brain_mask=np.zeros_like(mask[:, :, 40:80]))
    assert "field of view" not in str(refusal.value)
