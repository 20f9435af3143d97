"""What a scanner leaves in a scan, in numbers: the histogram, and contrast, sharpness and noise by region."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from nibabel.affines import from_matvec
from numpy.typing import NDArray
from scipy.ndimage import find_objects, minimum_filter

from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import BoolArray, FloatArray, Matrix, MrharmonyError, Volume

QUANTILES = np.linspace(0.02, 0.98, 25)
# Centres of the regions along right, anterior, superior, template mm; each reaches to the next centres.
REGION_CENTRES = (np.linspace(-45, 45, 3), np.linspace(-80, 45, 4), np.linspace(-25, 50, 3))
BORDER_MM = 4.0  # so that the way a brain was cut out does not tell its site
_BORROWED_MM3 = 2_000.0  # brain of average properties that every region gets, so that none is empty
_LEAST = 1e-4  # canonical units, far below noise: the logarithm of a constant region stays finite
# Sum of squares of (1, -2, 1)⊗(1, -2, 1)⊗(1, -2, 1), and the mean of |x| for a standard normal x.
_LAPLACIAN_GAIN = np.sqrt(6.0**3) * np.sqrt(2 / np.pi)


def site_features(brain: CanonicalBrain) -> FloatArray:
    """Return what scanners differ in, for a classifier that looks for the site.

    Parameters
    ----------
    brain
        Canonical units, on any grid in template mm. The outer 4 mm of its mask are left out.

    Returns
    -------
    FloatArray
        Shape (241,): 25 quantiles of the brain's intensities (gain, tone curve), then for each of 3×4×3
        overlapping regions of template space the mean intensity (receive field, contrast) and the logarithms
        of the standard deviation (contrast), of the mean absolute gradient along right, anterior and superior
        per mm (sharpness, and its direction), and of the noise: σ = √(π/2) · mean |L| / √216, with L the
        second difference along all three axes, the three-dimensional form of Immerkær (1996), "Fast noise
        variance estimation".

    Raises
    ------
    MrharmonyError
        If the mask is empty, thinner than 8 mm everywhere, or an intensity in it is not finite.
    """
    inside = interior(brain)
    brain, inside = _boxed(brain, inside)
    voxels = np.where(brain.mask, brain.volume.voxels, 0)
    quantiles = np.quantile(voxels[inside], QUANTILES)
    maps = np.stack([inside, voxels, voxels**2, *_gradients(voxels, brain.volume.zooms), _noise(voxels)])
    sums = regional_sums(np.where(inside, maps, 0), brain.volume.affine)
    means, squares, *scales = _shrunk_means(sums, float(np.prod(brain.volume.zooms)))
    spread = np.sqrt(np.maximum(squares - means**2, 0))
    logs = np.log(np.maximum([spread, *scales], _LEAST))
    return np.asarray(np.concatenate([quantiles, means, logs.ravel()]), np.float32)


def interior(brain: CanonicalBrain) -> BoolArray:
    """Return the brain mask without its outer 4 mm, shape (i, j, k).

    Raises
    ------
    MrharmonyError
        If nothing is left, or an intensity in the mask is not finite.
    """
    inside = _eroded(brain.mask.shape, np.packbits(brain.mask).tobytes(), brain.volume.zooms)
    if not inside.any() or not np.isfinite(brain.volume.voxels[brain.mask]).all():
        raise MrharmonyError(
            "A brain mask is empty or holds intensities that are not finite; prepare it again."
        )
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
    """Return the sums of maps over the overlapping regions, whose weights add up to 1 in each voxel.

    Parameters
    ----------
    maps
        Shape (n, i, j, k).
    affine
        Voxel indices to template mm, axis-aligned.

    Returns
    -------
    Sums, shape (n, 36).
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


def _gradients(voxels: FloatArray, zooms: tuple[float, float, float]) -> list[FloatArray]:
    """Return |∂x| along each axis by central differences, canonical units per mm."""
    return [np.abs(np.gradient(voxels, zoom, axis=axis)) for axis, zoom in enumerate(zooms)]


def _noise(voxels: FloatArray) -> FloatArray:
    """Return |L| scaled so that its mean over noise is the noise's standard deviation."""
    response = voxels
    for axis in range(3):
        response = np.diff(response, n=2, axis=axis)
    return np.asarray(np.abs(np.pad(response, 1)) / np.float32(_LAPLACIAN_GAIN))
