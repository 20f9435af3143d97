"""The smooth brightening and darkening that receive coils leave: its grid, and N4's estimate of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.space.resampling import resample_brain

CoarseLogField = Callable[[Volume, BoolArray], FloatArray]
"""From a brain on a grid of 4 mm and its mask to the log field there; only inside the mask it counts."""

_ZOOM = 4.0  # mm; N4 on a native 1 mm grid takes minutes
_SHRINK = 2
_ITERATIONS = [50, 50, 50]
_TOLERANCE = 1e-3  # change of the field from step to step at which a level of N4 ends early; ITK's default
LOG_LIMIT = float(np.log(5.0))  # of a field either way
_TINY = float(np.finfo(np.float32).tiny)


def native_bias_field(volume: Volume, brain_mask: BoolArray, estimate: CoarseLogField) -> FloatArray:
    """Return a multiplicative bias field on a scan's own grid, estimated on one of 4 mm.

    Parameters
    ----------
    volume, brain_mask
        The scan and its brain, shape (i, j, k).
    estimate
        Of the field's logarithm.

    Returns
    -------
    Field of shape (i, j, k) in [0.2, 5]: positive and finite everywhere, smoothly continued outside the
    brain, mean of its logarithm 0 inside the brain. Dividing the scan by it removes the bias.
    """
    shape, affine = _coarse_grid(volume)
    brain, coarse_mask = resample_brain(volume, brain_mask, shape, affine)
    log_field = _continued(estimate(Volume(brain, affine), coarse_mask), coarse_mask)
    log_field = _on_native_grid(log_field, volume)
    log_field -= log_field[brain_mask].mean()
    field: FloatArray = np.exp(np.clip(log_field, -LOG_LIMIT, LOG_LIMIT)).astype(np.float32)
    return field


def n4_bias_field(volume: Volume, brain_mask: BoolArray) -> FloatArray:
    """Estimate the bias field of a brain from its intensities alone, as `native_bias_field` returns it.

    Source: N4, Tustison et al. 2010, IEEE TMI 29(6), on a copy of the brain with voxels of 4 mm.
    """
    return native_bias_field(volume, brain_mask, _n4_log_field)


def _coarse_grid(volume: Volume) -> tuple[tuple[int, int, int], Matrix]:
    """Return shape and affine of a grid along the native axes, its first voxel centre at the native one."""
    zooms = np.array(volume.zooms)
    i, j, k = (int(n) for n in np.ceil((np.array(volume.shape) - 1) * zooms / _ZOOM) + 1)
    return (i, j, k), volume.affine @ np.diag([*(_ZOOM / zooms), 1.0])


def _n4_log_field(brain: Volume, brain_mask: BoolArray) -> FloatArray:
    import ants  # noqa: PLC0415 - takes seconds to import

    # N4 works on logarithms: voxels near or below zero carry no information on a multiplicative field.
    median = float(np.median(brain.voxels[brain_mask]))
    trusted = brain_mask & (brain.voxels > 0.1 * median)
    if median <= 0 or not trusted.any():
        return np.zeros_like(brain.voxels)
    image = ants.from_numpy(
        np.where(trusted, brain.voxels / median, 0).astype(np.float32), spacing=(_ZOOM,) * 3
    )
    field = ants.n4_bias_field_correction(
        image,
        mask=ants.from_numpy(trusted.astype(np.float32), spacing=(_ZOOM,) * 3),
        shrink_factor=_SHRINK,
        convergence={"iters": _ITERATIONS, "tol": _TOLERANCE},
        return_bias_field=True,
    ).numpy()
    return np.asarray(np.log(np.maximum(field, _TINY)))


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
