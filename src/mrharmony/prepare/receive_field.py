"""The receive field of a scan: the smooth factor between the scan and what is known of its tissues.

A scan is what its scanner's contrast makes of the head, times how brightly the coil sees each place. The
looks of the head on reference scanners (`synthesis`) have no receive field, and some mixture of them has
about the scan's contrast. N4 knows no tissues and takes their own shading for a field.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from mrharmony.core.robust import huber_trust
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.prepare.bias_field import LOG_LIMIT, native_bias_field
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import resample_brain

_Array = NDArray[np.float64]

_GRID = Grid.working(2.0)  # the reference network's
PASSES = 2  # the looks of a corrected scan are better ones
_EVERY = 4  # coronal slices: a field of a few waves needs no more
_VOXELS = 2  # every so many of a slice
_STEPS = 5  # of a fit: the field, then the mixture, then the trust in each voxel
_SHORTEST_WAVE = 120.0  # mm
_MARGIN = 1.6  # times the grid's extent: a cosine is flat where its box ends, which a coil's field is not
_SMOOTHNESS = 1e-3  # weight of the mean squared curvature of the log field, squared canonical units


def receive_field(
    volume: Volume, brain_mask: BoolArray, rigid_to_template: Matrix, passes: int = PASSES
) -> FloatArray:
    """Estimate the receive field of a T1w scan.

    Minimises Σ ρ(s(x) - exp(b(x)·c) w·r(x)) over the field's coefficients c and the mixture's weights w,
    where s is the scan, r are the looks, b cosines of at least 120 mm in template space, and ρ is Huber's: a
    lesion that the looks do not show is no field. Twice: the second time with looks of the corrected scan.

    Parameters
    ----------
    volume, brain_mask
        The scan and its brain, shape (i, j, k).
    alignment
        Native world mm to template world mm, shape (4, 4).
    passes
        How often looks are taken; once is enough to align by.

    Returns
    -------
    The field as `native_bias_field` returns it; 1 everywhere where the brain has no signal
    or lies between the slices that are looked at.
    """
    in_template = Volume(volume.voxels, rigid_to_template @ volume.affine)
    brain, mask = resample_brain(in_template, brain_mask, _GRID.shape, _GRID.affine)
    coefficients = _coefficients(brain, mask, passes)

    def log_field(coarse: Volume, _: BoolArray) -> FloatArray:
        places = np.indices(coarse.shape).reshape(3, -1).T
        values = _cosines(apply_affine(rigid_to_template @ coarse.affine, places)) @ coefficients
        return np.asarray(values.reshape(coarse.shape), np.float32)

    return native_bias_field(volume, brain_mask, log_field)


def _coefficients(brain: FloatArray, mask: BoolArray, passes: int) -> _Array:
    """Return the coefficients of the log field of a brain on the network's grid."""
    from mrharmony.networks.reference.contrasts import reference_contrasts  # noqa: PLC0415 - imports torch
    from mrharmony.networks.reference.network import shipped_network  # noqa: PLC0415 - imports torch

    coefficients = np.zeros(len(_waves()))
    some = np.zeros_like(mask)
    some[:, ::_EVERY] = mask[:, ::_EVERY]
    if not some.any() or np.percentile(brain[mask], 90) <= 0:
        return coefficients
    scan = np.maximum(brain[some], 0)[::_VOXELS].astype(np.float64)
    cosines = _cosines(_GRID.positions()[some][::_VOXELS])
    everywhere = _cosines(_GRID.positions()[mask])
    for _ in range(passes):
        corrected = np.zeros_like(brain)
        corrected[mask] = np.maximum(brain[mask], 0) / _gain(everywhere @ coefficients)
        scale = intensity_scale(corrected[mask])
        contrasts = reference_contrasts(shipped_network(), corrected / np.float32(scale), mask, some)
        coefficients = _fitted(scan / scale, contrasts[:, ::_VOXELS].astype(np.float64), cosines)
    return coefficients


def _fitted(scan: _Array, contrasts: _Array, cosines: _Array) -> _Array:
    """Return the log field's coefficients, by Gauss-Newton steps between which the mixture is solved for.

    Parameters
    ----------
    scan
        Canonical intensities, shape (n,).
    contrasts
        Of the same voxels on the reference scanners, shape (references, n).
    cosines
        Shape (n, waves).
    """
    from mrharmony.networks.reference.contrasts import fit_mixture, mixed, mixture_terms  # noqa: PLC0415 - imports torch

    terms = mixture_terms(contrasts)
    stiff = np.diag(_SMOOTHNESS * (np.square(_waves() / (2 * _extent())).sum(axis=1) * 100**2) ** 2)
    coefficients = np.zeros(cosines.shape[1])
    trust = np.full(len(scan), 1 / len(scan))
    for _ in range(_STEPS):
        shaded = terms * _gain(cosines @ coefficients)
        told = mixed(fit_mixture(shaded, scan, trust), shaded)
        slopes = cosines * told[:, None]
        weighted = slopes * trust[:, None]
        missing = weighted.T @ (scan - told) - stiff @ coefficients
        coefficients = coefficients + np.linalg.solve(weighted.T @ slopes + stiff, missing)
        robust = huber_trust(scan - told)
        if robust is None:
            break
        trust = robust / robust.sum()
    return coefficients


def _gain(log_field: _Array) -> _Array:
    """Return a field, mean of its logarithm 0; bounded, for it runs away where scan and looks do not fit."""
    return np.asarray(np.exp(np.clip(log_field - log_field.mean(), -LOG_LIMIT, LOG_LIMIT)))


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.int_]:
    """Return each cosine's half waves along right, anterior, superior, shape (waves, 3); no constant."""
    i, j, k = (int(most) + 1 for most in np.ceil(2 * _extent() / _SHORTEST_WAVE))
    waves = np.indices((i, j, k)).reshape(3, -1).T[1:]
    return np.asarray(waves[np.linalg.norm(waves / (2 * _extent()), axis=1) <= 1 / _SHORTEST_WAVE])


def _cosines(positions: NDArray[np.floating]) -> _Array:
    """Return the cosines at template positions in mm, shape (n, 3); shape (n, waves)."""
    centre = _GRID.affine[:3, 3] + (np.array(_GRID.shape) - 1) / 2 * np.diag(_GRID.affine)[:3]
    share = (positions - centre) / _extent() + 0.5
    axes = [
        np.cos(np.pi * np.outer(share[:, axis], np.arange(_waves()[:, axis].max() + 1))) for axis in range(3)
    ]
    i, j, k = (axes[axis][:, _waves()[:, axis]] for axis in range(3))
    return np.asarray(i * j * k)


def _extent() -> _Array:
    """Return the size of the cosines' box, mm, shape (3,)."""
    extent: _Array = _MARGIN * np.array(_GRID.shape) * np.array(_GRID.zooms, np.float64)
    return extent
