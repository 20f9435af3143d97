"""Where the brain is: given, recognised because the scan is already stripped, or found by a network."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from mrharmony.prepare.brain_search import search_brain
from mrharmony.prepare.mask_quality import dice
from mrharmony.volume import BoolArray, Finding, FloatArray, MrharmonyError, Volume

_PLAUSIBLE_ML = (600.0, 2500.0)
# Measured: the foreground of stripped scans of five scanners overlaps the brain that deepbet finds in them
# by a Dice of 0.96 to 0.99, that of heads with an emptied background and a cut neck by 0.68 to 0.78.
_SAME_BRAIN = 0.9
_ONE_PIECE = 0.95
# Resampling a stripped scan blurs its border outwards; in scans as stripped, 0.1 % of the brain is so faint.
_FAINT = 0.05  # share of the foreground's median
_REST_OF_STRIPPING = 6.0  # mm from the brain that deepbet finds: what lies farther is not brain


def locate_brain(volume: Volume, given: BoolArray | None = None) -> tuple[BoolArray, bool]:
    """Locate the brain of a scan.

    Parameters
    ----------
    volume
        T1w scan in RAS voxel order, shape (i, j, k), finite.
    given
        Brain mask of the same shape, if there is one; otherwise the network finds the brain.

    Returns
    -------
    The brain mask, shape (i, j, k), and whether the scan came skull-stripped: whether all that differs from
    its background is that brain. A stripped scan keeps its own border, without the bits of neck and eyes that
    stripping leaves far from the brain.

    Raises
    ------
    MrharmonyError
        Where there is no brain, or the mask is not that of one.
    """
    brain_mask = check_brain_mask(volume, search_brain(volume) if given is None else given)
    foreground = _foreground(volume.voxels)
    stripped = foreground is not None and dice(foreground, brain_mask) > _SAME_BRAIN
    if given is None and foreground is not None and stripped:
        near = distance_transform_edt(~brain_mask, sampling=volume.zooms) < _REST_OF_STRIPPING
        return foreground & near, True
    return brain_mask, stripped


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
    millilitres = mask.sum() * abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    if not _PLAUSIBLE_ML[0] <= millilitres <= _PLAUSIBLE_ML[1]:
        raise MrharmonyError(
            f"the brain mask holds {millilitres:.0f} ml, a brain 600 to 2500 ml: check that the scan is a "
            "T1w image of a whole head with the right voxel sizes, or give a brain mask."
        )
    return mask


def mask_findings(brain_mask: BoolArray) -> tuple[Finding, ...]:
    """Return what deserves a look in a brain mask: a brain that the field of view cuts."""
    faces = [brain_mask.take(side, axis) for axis in range(3) for side in (0, -1)]
    if not any(face.any() for face in faces):
        return ()
    return (
        Finding(
            level="warning",
            code="brain-at-border",
            message="the brain touches the border of the field of view, so part of it may be missing.",
            fix="Look at the brain mask before you measure the whole brain in this scan.",
        ),
    )


def _foreground(voxels: FloatArray) -> BoolArray | None:
    """Return the one piece that stands out from a constant background, or None where there is none."""
    faces = np.concatenate([voxels.take(side, axis).ravel() for axis in range(3) for side in (0, -1)])
    values, counts = np.unique(faces, return_counts=True)
    if counts.max() < 0.5 * faces.size:
        return None
    distance = np.abs(voxels - values[counts.argmax()])
    if not distance.any():
        return None
    pieces, _ = label(distance > _FAINT * np.median(distance[distance > 0]))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if sizes.max() < _ONE_PIECE * sizes.sum():
        return None
    return np.asarray(binary_fill_holes(pieces == sizes.argmax()), dtype=bool)
