"""The ICBM152 template that nilearn ships: the brain that every scan is aligned to."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from mrharmony.core.volume import BoolArray, Volume

TemplateMap = Literal["t1", "gm", "wm"]

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
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
    inside the nilearn package as its own loaders do, without them, since they take seconds to import.

    Source: Fonov et al. 2011, NeuroImage 54(1).
    """
    image = nib.load(_nilearn_folder() / "datasets" / "data" / _FILE.format(which))
    voxels = image.get_fdata().astype(np.float32)
    return Volume(voxels / voxels.max(), image.affine)


def _nilearn_folder() -> Path:
    """Return where nilearn lies, without importing it."""
    found = find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("nilearn is missing; install mrharmony again")
    return Path(found.submodule_search_locations[0])


@cache
def template_brain_mask() -> BoolArray:
    """Return the brain of `template("t1")`, shape (197, 233, 189), read-only."""
    brain_mask: BoolArray = template("t1").voxels > _BRAIN_THRESHOLD
    brain_mask.flags.writeable = False
    return brain_mask
