"""How a head lies in the scanner, and how it moves during a scan.

A moving head lies still but for a few sudden moves: each segment of k-space along the phase-encoding axis is
that of a rigidly moved head, and the image of all segments together rings, ghosts and blurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeFloat
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from mrharmony.core.volume import FloatArray, Matrix
from mrharmony.simulate.bias import HEAD_CENTRE_MM

ROTATION_SD_DEG = (4.0, 3.0, 3.0)  # nod, tilt, turn
TRANSLATION_SD_MM = (2.0, 4.0, 4.0)
# The head's place is where it was when the centre of k-space was acquired; moves fall outside of this part.
CENTRE_SHARE = (0.42, 0.58)
PHASE_AXIS = 0  # i, right-left


def random_pose(rng: np.random.Generator) -> Matrix:
    """Draw a pose: scanner millimetres to template millimetres, rigid, shape (4, 4).

    Rotation about the centre of the head by angles and translation each normally distributed, cut at two
    standard deviations: what technologists leave after positioning.
    """
    angles = np.clip(rng.standard_normal(3), -2, 2) * ROTATION_SD_DEG
    shift = np.clip(rng.standard_normal(3), -2, 2) * TRANSLATION_SD_MM
    return _about_head_centre(angles, shift)


def _about_head_centre(angles_deg: NDArray[np.floating], shift_mm: NDArray[np.floating]) -> Matrix:
    """Return the rotation about the centre of the head, followed by the shift, shape (4, 4)."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    pose[:3, 3] = HEAD_CENTRE_MM + shift_mm - pose[:3, :3] @ HEAD_CENTRE_MM
    return pose


class Motion(BaseModel, frozen=True, extra="forbid"):
    """How much heads move on a scanner.

    Parameters
    ----------
    moves
        Sudden moves during a scan, 1..8.
    rotation_deg, translation_mm
        Standard deviations of the angles and shifts about three axes, against the pose at the centre of
        k-space. Of 77 children, 17 were displaced by more than 0.5 mm on average (Afacan et al. 2016,
        Pediatr Radiol 46:1728).
    """

    moves: int = Field(default=3, ge=1, le=8)
    rotation_deg: NonNegativeFloat = 0.6
    translation_mm: NonNegativeFloat = 0.6


@dataclass(frozen=True)
class HeadMotion:
    """The moves of one scan, with which it can be replayed."""

    moments: FloatArray  # shares 0..1 of the way through k-space, ascending, shape (m,)
    angles_deg: FloatArray  # in each of the m + 1 segments, shape (m + 1, 3); 0 at the centre of k-space
    shifts_mm: FloatArray  # likewise


def draw_motion(motion: Motion, rng: np.random.Generator) -> HeadMotion:
    """Draw the moves of one scan."""
    low, high = CENTRE_SHARE
    places = rng.uniform(0, 1 - (high - low), motion.moves)
    moments = np.sort(np.where(places < low, places, places + high - low)).astype(np.float32)
    angles, shifts = np.clip(rng.standard_normal((2, motion.moves + 1, 3)), -2, 2).astype(np.float32)
    still = int(np.searchsorted(moments, 0.5))
    angles[still], shifts[still] = 0, 0
    return HeadMotion(moments, motion.rotation_deg * angles, motion.translation_mm * shifts)


def move(images: FloatArray, affine: Matrix, motion: HeadMotion) -> NDArray[np.complex64]:
    """Acquire complex images, shape (n, i, j, k), of a head that moves, from those of the head at rest."""
    axis = PHASE_AXIS + 1
    progress = scipy.fft.fftfreq(images.shape[axis]) + 0.5
    segment = np.searchsorted(motion.moments, progress, side="right")
    kspace = np.zeros(images.shape, dtype=np.complex64)
    poses = zip(motion.angles_deg, motion.shifts_mm, strict=True)
    for number, (angles, shift) in enumerate(poses):
        moved = _move_rigidly(images, affine, angles, shift)
        kspace[:, segment == number] = scipy.fft.fft(moved, axis=axis)[:, segment == number]
    return np.asarray(scipy.fft.ifft(kspace, axis=axis))


def _move_rigidly(images: FloatArray, affine: Matrix, angles: FloatArray, shift: FloatArray) -> FloatArray:
    if not angles.any() and not shift.any():
        return images
    pose = _about_head_centre(angles, shift)
    voxels = np.linalg.inv(affine) @ pose @ affine
    return np.stack([affine_transform(image, voxels, order=3) for image in images])
