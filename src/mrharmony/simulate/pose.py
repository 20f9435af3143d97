"""How a head lies in the scanner: a small rigid motion between scanner and template millimetres."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from mrharmony.simulate.bias import HEAD_CENTRE_MM
from mrharmony.volume import Matrix

ROTATION_SD_DEG = (4.0, 3.0, 3.0)  # nod, tilt, turn
TRANSLATION_SD_MM = (2.0, 4.0, 4.0)


def random_pose(rng: np.random.Generator) -> Matrix:
    """Draw a pose: scanner millimetres to template millimetres, rigid, shape (4, 4).

    Rotation about the centre of the head by angles and translation each normally distributed, cut at two
    standard deviations: what technologists leave after positioning.
    """
    angles = np.clip(rng.standard_normal(3), -2, 2) * ROTATION_SD_DEG
    shift = np.clip(rng.standard_normal(3), -2, 2) * TRANSLATION_SD_MM
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = HEAD_CENTRE_MM + shift - pose[:3, :3] @ HEAD_CENTRE_MM
    return pose
