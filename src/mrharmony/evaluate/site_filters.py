"""Slices as short vectors, for the Fréchet and kernel distances: a fixed bank of filters, nothing learned."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrharmony.evaluate.site_features import interior
from mrharmony.harmonize import CanonicalBrain
from mrharmony.prepare import template, template_brain_mask
from mrharmony.prepare.intensity import intensity_scale
from mrharmony.prepare.resample import resample_brain
from mrharmony.volume import BoolArray, FloatArray, Matrix, MrharmonyError, Volume

CORONAL_MM = np.arange(-72.0, 41.0, 8.0)  # 15 slices where every brain is wide
SCALES_MM = (0.0, 2.0, 4.0)  # of the Gaussian before the derivative
_QUANTILES = (0.1, 0.5, 0.9)
_LEAST = 1e-3  # canonical units, so that logarithms stay finite
_LEAST_MM2 = 400.0  # of brain in a slice


def slice_features(brain: CanonicalBrain) -> NDArray[np.float64]:
    """Return the filter responses of a scan's coronal slices, relative to the template's.

    Parameters
    ----------
    brain
        Canonical units, on an axis-aligned grid in template mm. The outer 4 mm of its mask are left out.

    Returns
    -------
    Shape (15, 11): coronal slices from y = -72 to 40 mm, every 8 mm; in each the standard deviation, the
    10th, 50th and 90th percentile, the mean absolute derivative along right and along superior after
    Gaussians of σ 0, 2 and 4 mm, and the noise (Immerkær 1996), each as the natural logarithm of its ratio
    to that of the ICBM152 T1 template in the same slice: 0.1 is ten percent, in every number.

    Raises
    ------
    MrharmonyError
        If a slice holds hardly any brain, or an intensity is not finite.
    """
    inside = interior(brain)
    volume = brain.volume.with_voxels(np.where(brain.mask, brain.volume.voxels, 0))
    reference = _template_responses(volume.shape, tuple(volume.affine.ravel()))
    return np.asarray(_responses(volume, inside) - reference)


@lru_cache(maxsize=2)
def _template_responses(shape: tuple[int, int, int], affine: tuple[float, ...]) -> NDArray[np.float64]:
    onto: Matrix = np.reshape(affine, (4, 4))
    voxels, mask = resample_brain(template(), template_brain_mask(), shape, onto)
    volume = Volume(voxels / np.float32(intensity_scale(voxels[mask])), onto)
    return _responses(volume, interior(CanonicalBrain(volume, mask, 1.0)))


def _responses(volume: Volume, inside: BoolArray) -> NDArray[np.float64]:
    """Return the logarithms of the filter responses, shape (15, 11)."""
    indices = np.round((CORONAL_MM - volume.affine[1, 3]) / volume.zooms[1]).astype(int)
    least = _LEAST_MM2 / volume.zooms[0] / volume.zooms[2]
    inner = (indices >= 0) & (indices < volume.shape[1])
    if not inner.all() or (inside[:, indices].sum(axis=(0, 2)) < least).any():
        raise MrharmonyError(
            "A brain does not reach from y = -72 to 40 mm in template space; check its posture and its mask."
        )
    zooms = (volume.zooms[0], volume.zooms[2])
    return np.array([_slice_response(volume.voxels[:, y], inside[:, y], zooms) for y in indices])


def _slice_response(image: FloatArray, inside: BoolArray, zooms: tuple[float, float]) -> NDArray[np.float64]:
    values = image[inside]
    laplacian = np.pad(np.diff(np.diff(image, 2, axis=0), 2, axis=1), 1)
    responses = [values.std(), *np.quantile(values, _QUANTILES)]
    for scale in SCALES_MM:
        smooth = gaussian_filter(image, np.divide(scale, zooms))
        responses += [np.abs(np.gradient(smooth, z, axis=a))[inside].mean() for a, z in enumerate(zooms)]
    responses.append(np.abs(laplacian)[inside].mean() * np.sqrt(np.pi / 2) / 6)
    return np.asarray(np.log(np.maximum(responses, _LEAST)))
