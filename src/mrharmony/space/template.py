"""The ICBM152 template that nilearn ships: the brain that every scan is aligned to."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from mrharmony.core.volume import BoolArray, Volume

TemplateMap = Literal["t1", "gm", "wm"]

_BRAIN_THRESHOLD = 0.2  # nilearn's own threshold for its whole-brain mask


@cache
def template(which: TemplateMap = "t1") -> Volume:
    """Return one map of the ICBM152 2009a symmetric template at 1 mm, cached in the process.

    Parameters
    ----------
    which
        `t1` the T1w brain (0 outside it), `gm` or `wm` the grey or white matter probability.

    Returns
    -------
    Volume of shape (197, 233, 189), values in [0, 1], affine to MNI152 mm (RAS+). Read from the files
    inside the nilearn package; nothing is downloaded.

    Source: Fonov et al. 2011, NeuroImage 54(1).
    """
    from nilearn import datasets  # noqa: PLC0415 - takes seconds to import

    loaders = {
        "t1": datasets.load_mni152_template,
        "gm": datasets.load_mni152_gm_template,
        "wm": datasets.load_mni152_wm_template,
    }
    image = loaders[which](resolution=1)
    return Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)


@cache
def template_brain_mask() -> BoolArray:
    """Return the brain of `template("t1")`, shape (197, 233, 189), read-only."""
    brain_mask: BoolArray = template("t1").voxels > _BRAIN_THRESHOLD
    brain_mask.flags.writeable = False
    return brain_mask
