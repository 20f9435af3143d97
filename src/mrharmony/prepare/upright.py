"""A head set upright, for programs that know heads only as they usually lie."""

from __future__ import annotations

import numpy as np
from nibabel.affines import from_matvec
from scipy.ndimage import affine_transform, gaussian_filter

from mrharmony.volume import BoolArray, FloatArray, Matrix, Volume

# Template mm: the template's head with room for larger ones, and a little neck.
_LOW, _HIGH = np.array([-110.0, -140.0, -130.0]), np.array([110.0, 110.0, 110.0])
_FINEST, _COARSEST = 1.0, 2.0  # mm
_FWHM_PER_SIGMA = 2.3548


def upright(volume: Volume, posture: Matrix) -> Volume:
    """Resample a head to a level grid around the template's place.

    Parameters
    ----------
    volume
        Scan, shape (i, j, k).
    posture
        Native world mm to template world mm, shape (4, 4), rigid.

    Returns
    -------
    The head in template space with cubic voxels of 1 to 2 mm, like the scan's finest; what the scan does not
    hold has its lowest intensity.
    """
    zoom = float(np.clip(min(volume.zooms), _FINEST, _COARSEST))
    i, j, k = (int(n) for n in np.ceil((_HIGH - _LOW) / zoom))
    affine = from_matvec(np.diag([zoom] * 3), _LOW)
    sigma = np.sqrt(np.maximum((zoom / np.array(volume.zooms)) ** 2 - 1, 0)) / _FWHM_PER_SIGMA
    voxels = _resampled(gaussian_filter(volume.voxels, sigma), volume.affine, (i, j, k), _to(posture, affine))
    return Volume(voxels, affine)


def mask_from_upright(brain_mask: BoolArray, copy: Volume, volume: Volume, posture: Matrix) -> BoolArray:
    """Return a mask found on `upright(volume, posture)` on the scan's own grid, shape (i, j, k)."""
    there = posture @ volume.affine
    return _resampled(brain_mask.astype(np.float32), copy.affine, volume.shape, there) > 0.5


def _to(posture: Matrix, affine: Matrix) -> Matrix:
    """Return the affine of a template grid in the native world."""
    native: Matrix = np.linalg.inv(posture) @ affine
    return native


def _resampled(voxels: FloatArray, affine: Matrix, shape: tuple[int, int, int], wanted: Matrix) -> FloatArray:
    there = np.linalg.inv(affine) @ wanted
    lowest = float(voxels.min())
    return np.asarray(
        affine_transform(voxels, there[:3, :3], there[:3, 3], shape, order=1, cval=lowest), np.float32
    )
