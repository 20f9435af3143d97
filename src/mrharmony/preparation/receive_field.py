"""The receive field of a scan: how brightly the coil sees each place, a smooth factor on the tissues' signal.

A scan is what its scanner's contrast makes of the head, times its receive field. The diffusion network
synthesizes the head on reference scanners without receive field, and some mixture of these contrasts comes
close to the scan's; the smooth factor between mixture and scan is the field. N4, the usual method, knows no
tissues and takes their own shading for a part of the field.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.lock.fit import huber_trust
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import resample_brain

_Array = NDArray[np.float64]

_LOG_LIMIT = float(np.log(5.0))  # bounds the log field either way
_GRID = Grid.working(2.0)  # the diffusion network's
_PASSES = 2  # the second sees the corrected scan, from which contrasts are better
_EVERY = 4  # coronal slices: a field of a few waves needs no more
_VOXELS = 2  # one of so many voxels of these slices
_STEPS = 5  # of a fit: the mixture, then the field, then the weight of each voxel
_SHORTEST_WAVE = 120.0  # mm
_MARGIN = 1.6  # times the grid's extent: a cosine is flat where its box ends, which a coil's field is not
_SMOOTHNESS = 1e-3  # weight of the mean squared curvature of the log field, squared canonical units

_ZOOM = 4.0  # mm; N4 on a native 1 mm grid takes minutes
_SHRINK = 2
_ITERATIONS = [50, 50, 50]
_TOLERANCE = 1e-3  # change of the field from step to step at which a level of N4 ends early; ITK's default
_TINY = float(np.finfo(np.float32).tiny)


def receive_field(
    volume: Volume, brain_mask: BoolArray, rigid_to_template: Matrix, passes: int = _PASSES
) -> FloatArray:
    """Estimate the receive field of a T1w scan.

    Minimises Σ_x ρ(s(x) - exp(b(x)ᵀc) wᵀr(x)) + cᵀSc over the field's coefficients c and the mixture's
    weights w, where s is the scan, r are the synthesized contrasts, b cosines of at least 120 mm in template
    space, S penalises curvature, and ρ is Huber's function: a lesion that the contrasts do not show must not
    become field. This is done twice, the second time with contrasts synthesized from the corrected scan.

    Parameters
    ----------
    volume, brain_mask
        The scan and its brain, shape (i, j, k).
    rigid_to_template
        Native world mm to template world mm, shape (4, 4).
    passes
        How often contrasts are synthesized; once is enough for an alignment.

    Returns
    -------
    Field of shape (i, j, k) in [0.2, 5], smoothly continued outside the brain, mean of its logarithm 0 inside
    the brain. Dividing the scan by it removes the field. It is 1 everywhere if the brain has no signal or
    lies between the slices that are used.
    """
    in_template = Volume(volume.voxels, rigid_to_template @ volume.affine)
    brain, mask = resample_brain(in_template, brain_mask, _GRID.shape, _GRID.affine)
    coefficients = _coefficients(brain, mask, passes)

    def log_field(coarse: Volume, _: BoolArray) -> FloatArray:
        places = np.indices(coarse.shape).reshape(3, -1).T
        values = _cosines(apply_affine(rigid_to_template @ coarse.affine, places)) @ coefficients
        return np.asarray(values.reshape(coarse.shape), np.float32)

    return _native_field(volume, brain_mask, log_field)


def n4_bias_field(volume: Volume, brain_mask: BoolArray) -> FloatArray:
    """Estimate the field of a brain from its intensities alone, returned as `receive_field` returns it.

    Source: N4, Tustison et al. 2010, IEEE TMI 29(6), on a copy of the brain with voxels of 4 mm.
    """
    return _native_field(volume, brain_mask, _n4_log_field)


def _coefficients(brain: FloatArray, mask: BoolArray, passes: int) -> _Array:
    """Return the coefficients c of the log field of a brain on the network's grid."""
    from mrharmony.networks.diffusion.contrasts import reference_contrasts  # noqa: PLC0415 - imports torch
    from mrharmony.networks.diffusion.network import shipped_network  # noqa: PLC0415 - imports torch

    coefficients = np.zeros(len(_waves()))
    some = np.zeros_like(mask)
    some[:, ::_EVERY] = mask[:, ::_EVERY]
    if not some.any() or np.percentile(brain[mask], 90) <= 0:
        return coefficients
    scan = np.maximum(brain[some], 0)[::_VOXELS].astype(np.float64)
    cosines = _cosines(_GRID.positions()[some][::_VOXELS])
    for number in range(passes):
        corrected = np.asarray(np.where(mask, np.maximum(brain, 0), 0), np.float32)
        if number:
            corrected[mask] /= _gain(_cosines(_GRID.positions()[mask]) @ coefficients)
        scale = intensity_scale(corrected[mask])
        contrasts = reference_contrasts(shipped_network(), corrected / np.float32(scale), mask, some)
        coefficients = _fitted(scan / scale, contrasts[:, ::_VOXELS].astype(np.float64), cosines)
    return coefficients


def _fitted(scan: _Array, contrasts: _Array, cosines: _Array) -> _Array:
    """Return the log field's coefficients, by Gauss-Newton steps between which the mixture is solved for.

    The prediction p = exp(Bc) · mixture has the slopes J = diag(p) B in c, so that a step δ solves
    (JᵀWJ + S) δ = JᵀW(s - p) - Sc.

    Parameters
    ----------
    scan
        Canonical intensities s, shape (n,).
    contrasts
        Of the same voxels on the reference scanners, shape (references, n).
    cosines
        B, shape (n, waves).
    """
    from mrharmony.networks.diffusion.contrasts import fit_mixture, mixed, mixture_terms  # noqa: PLC0415 - imports torch

    terms = mixture_terms(contrasts)
    # A cosine of frequency f (per mm) has a curvature proportional to f²; here per 100 mm, squared.
    stiff = np.diag(_SMOOTHNESS * (np.square(_waves() / (2 * _extent())).sum(axis=1) * 100**2) ** 2)
    coefficients = np.zeros(cosines.shape[1])
    trust = np.full(len(scan), 1 / len(scan))
    for _ in range(_STEPS):
        shaded = terms * _gain(cosines @ coefficients)
        predicted = mixed(fit_mixture(shaded, scan, trust), shaded)
        slopes = cosines * predicted[:, None]
        weighted = slopes * trust[:, None]
        missing = weighted.T @ (scan - predicted) - stiff @ coefficients
        coefficients = coefficients + np.linalg.solve(weighted.T @ slopes + stiff, missing)
        robust = huber_trust(scan - predicted)
        if robust is None:
            break
        trust = robust / robust.sum()
    return coefficients


def _gain(log_field: _Array) -> _Array:
    """Return exp of a log field, its mean removed; bounded, as a fit of a scan unlike a brain may diverge."""
    return np.asarray(np.exp(np.clip(log_field - log_field.mean(), -_LOG_LIMIT, _LOG_LIMIT)))


@cache
def _waves() -> NDArray[np.int_]:
    """Return each cosine's half waves n along right, anterior, superior, shape (waves, 3).

    All products of cosines whose frequency |n / 2L| is at most 1 / 120 mm, L the size of the box. The
    constant is left out, because overall brightness belongs to the mixture.
    """
    i, j, k = (int(most) + 1 for most in np.ceil(2 * _extent() / _SHORTEST_WAVE))
    waves = np.indices((i, j, k)).reshape(3, -1).T[1:]
    return np.asarray(waves[np.linalg.norm(waves / (2 * _extent()), axis=1) <= 1 / _SHORTEST_WAVE])


def _cosines(positions: NDArray[np.floating]) -> _Array:
    """Return b(x) at template positions in mm, shape (n, 3); shape (n, waves).

    b_n(x) = Π_axis cos(π n_axis u_axis), where u runs from 0 to 1 through the box along each axis.
    """
    centre = _GRID.affine[:3, 3] + (np.array(_GRID.shape) - 1) / 2 * np.diag(_GRID.affine)[:3]
    share = (positions - centre) / _extent() + 0.5
    axes = [
        np.cos(np.pi * np.outer(np.arange(_waves()[:, axis].max() + 1), share[:, axis])) for axis in range(3)
    ]
    i, j, k = (axes[axis][_waves()[:, axis]] for axis in range(3))
    i *= j
    i *= k
    return np.asarray(i.T)


def _extent() -> _Array:
    """Return the size L of the cosines' box, mm, shape (3,)."""
    extent: _Array = _MARGIN * np.array(_GRID.shape) * np.array(_GRID.zooms, np.float64)
    return extent


def _native_field(
    volume: Volume, brain_mask: BoolArray, estimate: Callable[[Volume, BoolArray], FloatArray]
) -> FloatArray:
    """Return a field on a scan's own grid.

    `estimate` goes from the brain on a grid of 4 mm and its mask to the log field there; only its values
    inside the mask count.
    """
    shape, affine = _coarse_grid(volume)
    brain, coarse_mask = resample_brain(volume, brain_mask, shape, affine)
    log_field = _continued(estimate(Volume(brain, affine), coarse_mask), coarse_mask)
    log_field = _on_native_grid(log_field, volume)
    log_field -= log_field[brain_mask].mean()
    field: FloatArray = np.exp(np.clip(log_field, -_LOG_LIMIT, _LOG_LIMIT)).astype(np.float32)
    return field


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
