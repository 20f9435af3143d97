"""A head of ellipsoids as a label map, with FreeSurfer's labels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import Matrix

ZOOM = 1.5
SHAPE = (136, 144, 152)  # along left, inferior, anterior, as FreeSurfer stores heads
AFFINE = np.array([[-ZOOM, 0, 0, 101.25], [0, 0, ZOOM, -131.25], [0, -ZOOM, 0, 115.5], [0, 0, 0, 1.0]])
SKIN = 515
# Outside to inside: label of the left half, of the right half, centre and semi-axes in mm, RAS. The left
# caudate is larger, so that the two sides can be told apart.
ELLIPSOIDS = (
    (SKIN, SKIN, (0, -17, 5), (82, 98, 82)),
    (24, 24, (0, -17, 8), (72, 88, 68)),
    (3, 42, (0, -17, 10), (66, 82, 60)),
    (2, 41, (0, -17, 10), (58, 74, 52)),
    (8, 47, (0, -55, -30), (46, 28, 22)),
    (7, 46, (0, -55, -30), (30, 16, 12)),
    (16, 16, (0, -28, -32), (12, 12, 26)),
    (4, 43, (0, -12, 22), (20, 36, 11)),
    (11, 11, (-26, 8, 14), (9, 20, 12)),
    (50, 50, (26, 8, 14), (6, 14, 9)),
    (12, 51, (-30, 2, -4), (9, 18, 9)),
    (12, 51, (30, 2, -4), (9, 18, 9)),
    (13, 52, (-18, -4, -6), (7, 11, 7)),
    (13, 52, (18, -4, -6), (7, 11, 7)),
    (10, 49, (-11, -20, 5), (9, 15, 9)),
    (10, 49, (11, -20, 5), (9, 15, 9)),
    (17, 53, (-26, -22, -16), (7, 18, 7)),
    (17, 53, (26, -22, -16), (7, 18, 7)),
)  # fmt: skip


def ellipsoid_labels(size: float = 1.0) -> tuple[NDArray[np.int16], Matrix]:
    """Return the labels of a head whose edge is `size` times the usual, and its affine."""
    voxels = np.indices(SHAPE).reshape(3, -1)
    x, y, z = ((AFFINE[:3, :3] @ voxels + AFFINE[:3, 3:]) / size).reshape(3, *SHAPE)
    labels = np.zeros(SHAPE, np.int16)
    for left, right, (a, b, c), (p, q, r) in ELLIPSOIDS:
        inside = ((x - a) / p) ** 2 + ((y - b) / q) ** 2 + ((z - c) / r) ** 2 <= 1
        labels[inside] = np.where(x[inside] < 0, left, right)
    return labels, AFFINE.copy()


def write_labels(path: Path, labels: NDArray[np.generic], affine: Matrix = AFFINE) -> Path:
    """Write a label map."""
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path
