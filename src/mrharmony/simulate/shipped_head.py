"""The whole head that ships with the package, without a face: a label map, and the anatomy made of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.label_maps import read_label_map
from mrharmony.simulate.structures import structured_anatomy
from mrharmony.space.grid import Grid

SHIPPED_HEAD = Path(__file__).parent / "anatomies" / "head_dseg.nii.gz"
CREDIT = "a label map of SynthSeg (Billot et al. 2023, Med Image Anal 86:102789; Apache-2.0), changed"


@lru_cache(maxsize=1)
def shipped_head() -> Anatomy:
    """Return the tissues of the head that ships at 1 mm, in template millimetres, made once a process."""
    head = read_label_map(SHIPPED_HEAD)
    i, j, k = head.labels.shape
    return structured_anatomy(head, np.random.default_rng(0), Grid((i, j, k), head.affine))
