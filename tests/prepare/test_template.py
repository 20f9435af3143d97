import numpy as np
import pytest
from nilearn import datasets

from mrharmony.space.template import template, template_brain_mask


def test_template_is_the_symmetric_one_and_its_left_is_left():
    t1 = template()
    assert t1.orientation == "RAS"
    assert t1.zooms == (1.0, 1.0, 1.0)
    # The midline of the symmetric template lies at x = 0.
    centre = np.argwhere(template_brain_mask()).mean(axis=0) @ t1.affine[:3, :3] + t1.affine[:3, 3]
    assert abs(centre[0]) < 0.5


def test_maps_share_one_grid_and_are_probabilities():
    for which in ("t1", "gm", "wm"):
        volume = template(which)
        assert volume.shape == template_brain_mask().shape
        assert volume.voxels.min() >= 0
        assert volume.voxels.max() <= 1


def test_white_matter_is_brighter_than_grey_matter():
    white = template().voxels[template("wm").voxels > 0.8].mean()
    grey = template().voxels[template("gm").voxels > 0.8].mean()
    assert white > grey + 0.1


@pytest.mark.parametrize("which", ["t1", "gm", "wm"])
def test_maps_are_those_of_nilearns_own_loaders(which):
    name = "template" if which == "t1" else f"{which}_template"
    theirs = getattr(datasets, f"load_mni152_{name}")(resolution=1)
    voxels = np.asarray(theirs.dataobj, dtype=np.float32)
    np.testing.assert_array_equal(template(which).voxels, voxels)
    assert template(which).voxels.strides == voxels.strides  # sums depend on the order
    np.testing.assert_array_equal(template(which).affine, theirs.affine)
