"""Where the brain is: given, recognised because the scan is already stripped, or found by a network."""

from __future__ import annotations

from functools import cache

import numpy as np
from deepbet import BrainExtraction
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from mrharmony.volume import BoolArray, FloatArray, MrharmonyError, Volume

_PLAUSIBLE_ML = (600.0, 2500.0)
_STRIPPED_ML = (700.0, 2200.0)
_SMALLEST_FIELD_OF_VIEW = 90.0  # mm


def check_brain_mask(volume: Volume, brain_mask: BoolArray) -> BoolArray:
    """Return a brain mask as booleans, or refuse one that cannot be a brain.

    Parameters
    ----------
    volume
        The scan, shape (i, j, k).
    brain_mask
        Voxels of the brain, same shape; anything that is not 0 counts as brain.

    Raises
    ------
    MrharmonyError
        Where the shape differs, or the volume is not that of a brain (600 to 2500 ml).
    """
    if brain_mask.shape != volume.shape:
        raise MrharmonyError(
            f"the brain mask has shape {brain_mask.shape}, the scan {volume.shape}: "
            "give a mask on the scan's own voxel grid."
        )
    mask: BoolArray = np.asarray(brain_mask) != 0
    size = brain_volume(volume, mask)
    if not _PLAUSIBLE_ML[0] <= size <= _PLAUSIBLE_ML[1]:
        raise MrharmonyError(
            f"the brain mask holds {size:.0f} ml, no adult brain does (600 to 2500 ml): check that this is a "
            "T1w scan of a whole head with correct voxel sizes, or give a brain mask."
        )
    return mask


def brain_volume(volume: Volume, brain_mask: BoolArray) -> float:
    """Return the volume of a mask in ml."""
    return float(brain_mask.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000)


def stripped_brain(volume: Volume) -> BoolArray | None:
    """Return the brain of a scan that came already skull-stripped, or None where it has not.

    Stripped means: the border of the field of view is one constant value, and what differs from it is one
    compact piece of a brain's volume that is as bright a centimetre below its surface as in its depth, where
    a head has its dark skull.
    """
    background = _border_value(volume.voxels)
    if background is None:
        return None
    labels, count = label(volume.voxels != background)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    region: BoolArray = binary_fill_holes(labels == sizes.argmax() + 1)
    one_piece = sizes.max() > 0.95 * sizes.sum()
    plausible = _STRIPPED_ML[0] <= brain_volume(volume, region) <= _STRIPPED_ML[1]
    return region if one_piece and plausible and not _has_skull(volume, region) else None


def find_brain(volume: Volume) -> BoolArray:
    """Find the brain in a whole-head scan with deepbet's network (Fisch et al. 2024).

    Parameters
    ----------
    volume
        T1w head in RAS voxel order, shape (i, j, k), finite.

    Raises
    ------
    MrharmonyError
        Where the network finds no brain.
    """
    extent = np.array(volume.shape) * volume.zooms
    if extent.min() < _SMALLEST_FIELD_OF_VIEW:
        raise MrharmonyError(
            f"the field of view is {extent.min():.0f} mm at its narrowest, too small for a brain: "
            "give a scan of the whole head."
        )
    network = _network()
    try:
        mask = network.postprocess(network.run_model(volume.voxels.copy()) > 0.5)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise MrharmonyError(
            "no brain was found: check that this is a T1w scan of a whole head, or give a brain mask."
        ) from error
    return np.asarray(mask, dtype=bool)


@cache
def _network() -> BrainExtraction:
    return BrainExtraction(no_gpu=True)


def _border_value(voxels: FloatArray) -> float | None:
    faces = np.concatenate([voxels.take(side, axis).ravel() for axis in range(3) for side in (0, -1)])
    values, counts = np.unique(faces, return_counts=True)
    return float(values[counts.argmax()]) if counts.max() > 0.9 * faces.size else None


def _has_skull(volume: Volume, region: BoolArray) -> bool:
    depth = distance_transform_edt(np.pad(region, 1), sampling=volume.zooms)[1:-1, 1:-1, 1:-1]
    shallow = np.median(volume.voxels[(depth > 4) & (depth < 10)])
    deep = np.median(volume.voxels[depth > 20])
    return bool(shallow < 0.5 * deep)
