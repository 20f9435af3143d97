"""Postures as ITK transform files, which ANTs, SimpleITK, ITK-SNAP and 3D Slicer read."""

from __future__ import annotations

import numpy as np

from mrharmony.volume import Matrix

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_transform(posture: Matrix) -> str:
    """Return a posture as ITK's text format: applied to the native scan, it gives the scan in the template.

    ITK resamples an image by asking for each point of the new grid where it came from, so the file holds
    the inverse of the posture, template to native; and ITK's world axes run to the left, posterior and
    superior.

    Parameters
    ----------
    posture
        Native world mm to template world mm (RAS+), shape (4, 4); it may change the size too.
    """
    matrix = _RAS_TO_LPS @ np.linalg.inv(posture) @ _RAS_TO_LPS
    numbers = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
    return "\n".join(
        [
            "#Insight Transform File V1.0",
            "#Transform 0",
            "Transform: AffineTransform_double_3_3",
            "Parameters: " + " ".join(repr(float(number)) for number in numbers),
            "FixedParameters: 0 0 0",
            "",
        ]
    )
