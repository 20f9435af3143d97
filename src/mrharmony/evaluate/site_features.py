"""What a scanner leaves in a scan, in numbers that need no learning.

`site_features` of a whole scan: the histogram, and contrast, sharpness and noise by region. `slice_features`
of its coronal slices, for the Fréchet and kernel distances: the responses of a fixed bank of filters.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, minimum_filter

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.space.intensity import intensity_scale
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

QUANTILES = np.linspace(0.02, 0.98, 25)
# Centres of the regions along right, anterior, superior, template mm; each reaches to the next centres.
REGION_CENTRES = (np.linspace(-45, 45, 3), np.linspace(-80, 45, 4), np.linspace(-25, 50, 3))
BORDER_MM = 4.0  # so that the way a brain was cut out does not reveal its site
_BORROWED_MM3 = 2_000.0  # brain of average properties that every region gets, so that none is empty
_LEAST = 1e-4  # canonical units, far below noise: the logarithm of a constant region stays finite
# Sum of squares of (1, -2, 1)⊗(1, -2, 1)⊗(1, -2, 1), and the mean of |x| for a standard normal x.
_LAPLACIAN_GAIN = np.sqrt(6.0**3) * np.sqrt(2 / np.pi)
CORONAL_MM = np.arange(-72.0, 41.0, 8.0)  # 15 slices where every brain is wide
SCALES_MM = (0.0, 2.0, 4.0)  # of the Gaussian before the derivative
_QUANTILES = (0.1, 0.5, 0.9)
_LEAST_RESPONSES = 1e-3  # canonical units, so that logarithms stay finite
_LEAST_MM2 = 400.0  # of brain in a slice


def site_features(brain: CanonicalBrain) -> FloatArray:
    """Return numbers in which scanners differ, for a classifier of the site, shape (241,).

    25 quantiles of the brain's intensities (gain, tone curve), then for each of 3×4×3 overlapping regions of
    template space the mean intensity (receive field, contrast) and the logarithms of the standard deviation
    (contrast), of the mean absolute gradient along right, anterior and superior per mm (sharpness, and its
    direction), and of the noise: σ = √(π/2) · mean |L| / √216, with L the second difference along all three
    axes, the three-dimensional form of Immerkær (1996), "Fast noise variance estimation".

    The grid may be any in template mm; the outer 4 mm of the mask are left out (`interior`).
    """
    inside = interior(brain)
    brain, inside = _boxed(brain, inside)
    voxels = np.where(brain.mask, brain.volume.voxels, 0)
    quantiles = np.quantile(voxels[inside], QUANTILES)
    gradients = [np.abs(np.gradient(voxels, z, axis=axis)) for axis, z in enumerate(brain.volume.zooms)]
    maps = np.stack([inside, voxels, voxels**2, *gradients, _noise(voxels)])
    sums = regional_sums(np.where(inside, maps, 0), brain.volume.affine)
    means, squares, *scales = _shrunk_means(sums, float(np.prod(brain.volume.zooms)))
    spread = np.sqrt(np.maximum(squares - means**2, 0))
    logs = np.log(np.maximum([spread, *scales], _LEAST))
    return np.asarray(np.concatenate([quantiles, means, logs.ravel()]), np.float32)


def interior(brain: CanonicalBrain) -> BoolArray:
    """Return the brain mask without its outer 4 mm; refuses an empty result and non-finite intensities."""
    inside = _eroded(brain.mask.shape, np.packbits(brain.mask).tobytes(), brain.volume.zooms)
    if not inside.any() or not np.isfinite(brain.volume.voxels[brain.mask]).all():
        raise MrharmonyError("A brain is empty or holds intensities that are not finite; prepare it again.")
    return inside


@lru_cache(maxsize=32)
def _eroded(shape: tuple[int, int, int], packed: bytes, zooms: tuple[float, float, float]) -> BoolArray:
    """Return a mask, given as packed bits, without its outer 4 mm; kept, as many scans may share a mask."""
    mask = np.unpackbits(np.frombuffer(packed, np.uint8), count=math.prod(shape)).reshape(shape).astype(bool)
    steps = [max(1, round(BORDER_MM / zoom)) for zoom in zooms]
    inside = np.zeros_like(mask)
    for box in find_objects(mask.astype(np.uint8)):
        inside[box] = minimum_filter(mask[box], [2 * step + 1 for step in steps], mode="constant")
    inside.flags.writeable = False
    return inside


def _boxed(brain: CanonicalBrain, inside: BoolArray) -> tuple[CanonicalBrain, BoolArray]:
    """Return the part of a grid that the brain fills, which is half of it, and of its interior."""
    box = (find_objects(brain.mask.astype(np.uint8)) or [(slice(None),) * 3])[0]
    corner = from_matvec(np.eye(3), [extent.start or 0 for extent in box])
    volume = Volume(brain.volume.voxels[box], brain.volume.affine @ corner)
    return brain._replace(volume=volume, mask=brain.mask[box]), inside[box]


def regional_sums(maps: FloatArray, affine: Matrix) -> NDArray[np.float64]:
    """Return the sums of maps (n, i, j, k) over the 36 overlapping regions, shape (n, 36).

    The weights of the regions add up to 1 in each voxel. The affine leads to template mm, axis-aligned.
    """
    sums = maps
    for axis, centres in enumerate(REGION_CENTRES):
        positions = affine[axis, axis] * np.arange(maps.shape[axis + 1]) + affine[axis, 3]
        weights = np.stack([np.interp(positions, centres, unit) for unit in np.eye(len(centres))])
        sums = np.moveaxis(np.tensordot(weights.astype(np.float32), sums, axes=(1, axis + 1)), 0, axis + 1)
    return sums.reshape(len(maps), -1).astype(np.float64)


def _shrunk_means(sums: NDArray[np.float64], voxel_mm3: float) -> NDArray[np.float64]:
    """Return means by region of the maps after the first, which counts voxels; shape (n - 1, regions)."""
    whole = sums.sum(axis=1, keepdims=True)
    shrunk = sums + whole * (_BORROWED_MM3 / voxel_mm3 / whole[0])
    return np.asarray(shrunk[1:] / shrunk[0])


def _noise(voxels: FloatArray) -> FloatArray:
    """Return |L| scaled so that its mean over noise is the noise's standard deviation."""
    response = voxels
    for axis in range(3):
        response = np.diff(response, n=2, axis=axis)
    return np.asarray(np.abs(np.pad(response, 1)) / np.float32(_LAPLACIAN_GAIN))


def slice_features(brain: CanonicalBrain) -> NDArray[np.float64]:
    """Return the filter responses of a scan's coronal slices, relative to the template's, shape (15, 11).

    Coronal slices from y = -72 to 40 mm, every 8 mm; in each the standard deviation, the 10th, 50th and 90th
    percentile, the mean absolute derivative along right and along superior after Gaussians of σ 0, 2 and 4
    mm, and the noise (Immerkær 1996), each as the natural logarithm of its ratio to that of the ICBM152 T1
    template in the same slice: 0.1 is ten percent, in every number. The outer 4 mm of the mask are left out.
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
            "A brain does not reach from y = -72 to 40 mm in template space; check its alignment and mask."
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
    return np.asarray(np.log(np.maximum(responses, _LEAST_RESPONSES)))
