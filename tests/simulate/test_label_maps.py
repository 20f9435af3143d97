from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.label_heads import AFFINE, SKIN, ZOOM, ellipsoid_labels, write_labels
from mrharmony.core.findings import MrharmonyError
from mrharmony.simulate.label_maps import STRUCTURES, LabelMap, read_label_map


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels") / "head_dseg.nii.gz", ellipsoid_labels()[0])


@pytest.fixture(scope="module")
def head(path: Path) -> LabelMap:
    return read_label_map(path)


def test_every_voxel_keeps_its_label_and_place(path: Path, head: LabelMap) -> None:
    assert nib.aff2axcodes(head.affine) == ("R", "A", "S")
    reference = nib.as_closest_canonical(nib.load(path))
    assert np.array_equal(head.labels, np.asarray(reference.dataobj))
    assert np.allclose(head.affine, reference.affine)


def test_no_label_belongs_to_two_structures() -> None:
    labels = [label for group in STRUCTURES.values() for label in group]
    assert len(labels) == len(set(labels))


def test_the_brain_mask_is_the_brain_and_two_millimetres_of_the_fluid_around_it(head: LabelMap) -> None:
    mask = head.brain_mask
    assert mask[head.where("cerebral-cortex", "lateral-ventricle", "brain-stem")].all()
    assert not mask[head.labels == SKIN].any()
    assert not mask[head.labels == 0].any()
    fluid = head.where("outer-csf")
    assert 0 < (mask & fluid).sum() < 0.5 * fluid.sum()


def test_a_hole_in_the_brain_is_brain() -> None:
    labels, affine = ellipsoid_labels()
    i, j, k = np.argwhere(labels == 41)[len(np.argwhere(labels == 41)) // 2]
    labels[i : i + 2, j : j + 2, k : k + 2] = SKIN
    whole = LabelMap(ellipsoid_labels()[0], affine).brain_mask
    assert np.array_equal(LabelMap(labels, affine).brain_mask, whole)


def test_a_cropped_head_keeps_the_whole_brain_in_its_place(head: LabelMap) -> None:
    cropped = head.crop(4)
    assert cropped.brain_mask.sum() == head.brain_mask.sum()
    assert np.prod(cropped.labels.shape) < np.prod(head.labels.shape)
    centres = [m.affine @ [*np.argwhere(m.where("caudate")).mean(axis=0), 1] for m in (head, cropped)]
    assert np.allclose(*centres)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels + 0.5, "whole numbers"),
        (lambda labels: labels.astype(np.float32) * 1e4, "whole numbers"),
        (lambda labels: np.where(labels == 24, 0, labels), "shows no outer csf"),
        (lambda labels: np.where(labels == 16, 173, labels), "the label 173"),
    ],
)
def test_what_is_no_label_map_is_refused_in_one_sentence(tmp_path: Path, change, message: str) -> None:
    odd = write_labels(tmp_path / "odd.nii.gz", change(ellipsoid_labels()[0]).astype(np.float32))
    with pytest.raises(MrharmonyError, match=message) as refusal:
        read_label_map(odd)
    assert "odd.nii.gz" in str(refusal.value)


def test_coarse_labels_are_refused(tmp_path: Path) -> None:
    affine = AFFINE @ np.diag([2 / ZOOM, 2 / ZOOM, 2 / ZOOM, 1])
    with pytest.raises(MrharmonyError, match=r"voxels of 2 mm"):
        read_label_map(write_labels(tmp_path / "coarse.nii.gz", ellipsoid_labels()[0], affine))
