"""The smooth brightening and darkening that receive coils leave, estimated with N4."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mrharmony.prepare.resample import resample_brain
from mrharmony.volume import BoolArray, FloatArray, Matrix, Volume

_ZOOM = 4.0  # mm; N4 on a native 1 mm grid takes minutes
_SHRINK = 2
_ITERATIONS = [50, 50, 50]
_TOLERANCE = 1e-4  # change of the field at which a level ends early
_LOG_LIMIT = float(np.log(5.0))
_TINY = float(np.finfo(np.float32).tiny)


def estimate_bias_field(
    volume: Volume, brain_mask: BoolArray, *, tolerance: float = _TOLERANCE
) -> FloatArray:
    """Estimate the multiplicative bias field of a brain.

    Parameters
    ----------
    volume, brain_mask
        The scan and its brain, shape (i, j, k).
    tolerance
        Change of the field from one step of N4 to the next at which a level of it ends early.

    Returns
    -------
    Field of shape (i, j, k) in [0.2, 5]: positive and finite everywhere, smoothly continued outside the
    brain, mean of its logarithm 0 inside the brain. Dividing the scan by it removes the bias.

    Source: N4, Tustison et al. 2010, IEEE TMI 29(6), on a copy of the brain with voxels of 4 mm.
    """
    shape, affine = _coarse_grid(volume)
    brain, coarse_mask = resample_brain(volume, brain_mask, shape, affine)
    log_field = _on_native_grid(_coarse_log_field(brain, coarse_mask, tolerance), volume)
    log_field -= log_field[brain_mask].mean()
    field: FloatArray = np.exp(np.clip(log_field, -_LOG_LIMIT, _LOG_LIMIT)).astype(np.float32)
    return field


def _coarse_grid(volume: Volume) -> tuple[tuple[int, int, int], Matrix]:
    """Return shape and affine of a grid along the native axes, its first voxel centre at the native one."""
    zooms = np.array(volume.zooms)
    i, j, k = (int(n) for n in np.ceil((np.array(volume.shape) - 1) * zooms / _ZOOM) + 1)
    return (i, j, k), volume.affine @ np.diag([*(_ZOOM / zooms), 1.0])


def _coarse_log_field(brain: FloatArray, brain_mask: BoolArray, tolerance: float) -> FloatArray:
    import ants  # noqa: PLC0415 - takes seconds to import

    # N4 works on logarithms: voxels near or below zero carry no information on a multiplicative field.
    median = float(np.median(brain[brain_mask]))
    trusted = brain_mask & (brain > 0.1 * median)
    if median <= 0 or not trusted.any():
        return np.zeros_like(brain)
    image = ants.from_numpy(np.where(trusted, brain / median, 0).astype(np.float32), spacing=(_ZOOM,) * 3)
    field = ants.n4_bias_field_correction(
        image,
        mask=ants.from_numpy(trusted.astype(np.float32), spacing=(_ZOOM,) * 3),
        shrink_factor=_SHRINK,
        convergence={"iters": _ITERATIONS, "tol": tolerance},
        return_bias_field=True,
    ).numpy()
    return _continued(np.log(np.maximum(field, _TINY)), brain_mask)


def _continued(log_field: FloatArray, brain_mask: BoolArray) -> FloatArray:
    """Continue a field outside the brain by its nearest value inside, smoothed."""
    nearest = distance_transform_edt(~brain_mask, return_distances=False, return_indices=True)
    filled = log_field[tuple(nearest)]
    smooth = gaussian_filter(filled, 10.0 / _ZOOM, mode="nearest")
    return np.where(brain_mask, filled, smooth).astype(np.float32)


def _on_native_grid(log_field: FloatArray, volume: Volume) -> FloatArray:
    """Evaluate a coarse field at the native voxel centres: one cubic spline along each axis."""
    for axis, (size, zoom) in enumerate(zip(volume.shape, volume.zooms, strict=True)):
        coarse = np.arange(log_field.shape[axis])
        spline = make_interp_spline(coarse, np.eye(len(coarse)), k=min(3, len(coarse) - 1))
        weights = spline(np.arange(size) * zoom / _ZOOM).astype(np.float32)
        log_field = np.moveaxis(np.tensordot(weights, log_field, axes=(1, axis)), 0, axis)
    return log_field
