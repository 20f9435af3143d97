import numpy as np

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
