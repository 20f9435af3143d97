"""Volumes on other grids: voxels reordered to RAS and back, and brains resampled without darker borders."""

from __future__ import annotations

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Scalar, Volume, bounding_box

_RAS = np.array([[0, 1], [1, 1], [2, 1]])
FWHM_PER_SIGMA = 2.3548  # 2 sqrt(2 ln 2)
_TRUNCATE = 3.0  # Gaussians end after this many sigmas
_INSIDE = 0.499  # a little below half, so that rounding does not decide voxels that lie half inside


def to_ras(volume: Volume) -> Volume:
    """Return the same voxels in the order closest to RAS, with the affine that keeps them in place."""
    affine = volume.affine @ inv_ornt_aff(io_orientation(volume.affine), volume.shape)
    return Volume(array_to_ras(volume.voxels, volume), affine)


def array_to_ras(array: NDArray[Scalar], like: Volume) -> NDArray[Scalar]:
    """Reorder an array on a volume's grid as `to_ras` reorders the volume."""
    return np.ascontiguousarray(apply_orientation(array, io_orientation(like.affine)))


def array_from_ras(array: NDArray[Scalar], like: Volume) -> NDArray[Scalar]:
    """Undo `array_to_ras`: return an array in RAS order in the volume's own order."""
    back = ornt_transform(_RAS, io_orientation(like.affine))
    return np.ascontiguousarray(apply_orientation(array, back))


def resample_brain(
    volume: Volume, brain_mask: BoolArray, shape: tuple[int, int, int], affine: Matrix
) -> tuple[FloatArray, BoolArray]:
    """Resample the brain of a volume on another grid of the same world.

    Normalized convolution (Knutsson & Westin 1993): of image x and mask m, the result is g(m x) / g(m), so
    voxels outside the brain never leak into its border. g is a Gaussian and linear interpolation; where the
    new voxels are larger, the Gaussian stands for their size: FWHM² = new zoom² - old zoom².

    Parameters
    ----------
    volume, brain_mask
        The volume and its brain, shape (i, j, k).
    shape, affine
        The new grid: voxel counts, and voxel indices to world millimetres.

    Returns
    -------
    Intensities of the new grid, 0 outside the brain, and the brain mask there.
    """
    ratio = np.linalg.norm(affine[:3, :3], axis=0).mean() / np.array(volume.zooms)
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM_PER_SIGMA
    margin = np.ceil(_TRUNCATE * sigma).astype(int) + 1
    # Only the brain's box is processed: it is a quarter of a head scan, and filters cost per voxel.
    box = bounding_box(brain_mask)
    weight = np.pad(brain_mask[box].astype(np.float32), [(m, m) for m in margin])
    values = np.pad(np.where(brain_mask[box], volume.voxels[box], 0), [(m, m) for m in margin])
    to_native = np.linalg.inv(volume.affine) @ affine
    offset = to_native[:3, 3] - [s.start for s in box] + margin

    def sample(array: FloatArray) -> FloatArray:
        smooth = gaussian_filter(array, sigma, mode="constant", truncate=_TRUNCATE)
        return np.asarray(affine_transform(smooth, to_native[:3, :3], offset, shape, order=1), np.float32)

    inside = sample(weight)
    new_mask = inside > _INSIDE
    return np.where(new_mask, sample(values) / np.maximum(inside, _INSIDE), 0).astype(np.float32), new_mask
