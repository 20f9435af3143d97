"""Where the brain is: given, kept from a scan that is already stripped, or found by a network.

The network knows heads as they usually lie. A head that lies otherwise is set upright by the alignment of the
first brain that was found in it, and searched again.
"""

from __future__ import annotations

import hashlib
import io
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from nibabel.affines import from_matvec
from scipy.ndimage import affine_transform, binary_fill_holes, distance_transform_edt, gaussian_filter, label
from scipy.spatial.transform import Rotation

from mrharmony.core.findings import Finding, MrharmonyError, warning
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume
from mrharmony.preparation.alignment import Alignment, align_to_template
from mrharmony.preparation.quality import MaskQuality, dice, mask_quality, millilitres
from mrharmony.scans.voxels import PLAUSIBLE_ML
from mrharmony.space.resampling import FWHM_PER_SIGMA

if TYPE_CHECKING:
    from deepbet import BrainExtraction

_DEEPBET = "1.0.2"
_DEEPBET_FILES = {  # SHA-256 of its networks
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
}
_BRAIN_ML = f"{PLAUSIBLE_ML[0]:.0f} to {PLAUSIBLE_ML[1]:.0f} ml"  # in sentences
# A head turned farther is searched again. Measured on two heads turned by 38° to 45°, six ways each: the
# first mask overlaps that of the head as it lay by a Dice of 0.953 to 0.988, the second by 0.985 to 0.992.
_LYING_STRAIGHT = 25.0  # degrees
# So is a mask with no more than these; sound brains have a similarity of 0.949 to 0.989 (see `quality`).
_GOOD_BORDER = 0.8  # (chosen by hand)
_GOOD_SIMILARITY = 0.94
# Measured: the foreground of stripped scans of five scanners overlaps the brain that deepbet finds in them
# by a Dice of 0.96 to 0.99, that of heads with an emptied background and a cut neck by 0.68 to 0.78.
_SAME_BRAIN = 0.9
_ONE_PIECE = 0.95  # share of the foreground in its largest piece, if it is a brain (chosen by hand)
# Resampling a stripped scan blurs its border outwards; in scans as stripped, 0.1 % of the brain is so faint.
_FAINT = 0.05  # share of the foreground's median
_REST_OF_STRIPPING = 6.0  # mm from the brain that deepbet finds: what lies farther is not brain
# Template mm of the upright copy: the template's head with room for larger ones, and a little neck.
_LOW, _HIGH = np.array([-110.0, -140.0, -130.0]), np.array([110.0, 110.0, 110.0])
_FINEST, _COARSEST = 1.0, 2.0  # mm


class LocatedBrain(NamedTuple):
    """The brain of a scan."""

    mask: BoolArray  # shape (i, j, k)
    skull_stripped: bool  # whether all that differs from the scan's background is that brain
    alignment: Alignment | None  # of the scan with exactly this mask, where the search has computed it


def locate_brain(volume: Volume, given: BoolArray | None = None, seed: int = 0) -> LocatedBrain:
    """Locate the brain of a scan.

    A stripped scan keeps its own border, without the bits of neck and eyes that stripping leaves far from the
    brain.

    Parameters
    ----------
    volume
        T1w scan in RAS voxel order, shape (i, j, k), finite.
    given
        Brain mask of the same shape, if there is one; otherwise the network finds the brain.
    seed
        Of the alignments.

    Raises
    ------
    MrharmonyError
        Where there is no brain, or the mask is not that of one.
    """
    alignment = None
    searched = given is None
    if given is None:
        found = _search_brain(volume, seed)
        given, alignment = found.mask, found.alignment
    brain_mask = valid_brain_mask(volume, given, found=searched)
    foreground = _foreground(volume.voxels)
    stripped = foreground is not None and dice(foreground, brain_mask) > _SAME_BRAIN
    if alignment and foreground is not None and stripped:
        near = distance_transform_edt(~brain_mask, sampling=volume.zooms) < _REST_OF_STRIPPING
        return LocatedBrain(foreground & near, True, None)
    return LocatedBrain(brain_mask, stripped, alignment)


def valid_brain_mask(volume: Volume, brain_mask: BoolArray, *, found: bool = False) -> BoolArray:
    """Return a brain mask, given or `found`, as booleans; anything that is not 0 counts as brain.

    Raises `MrharmonyError` where its shape is not the scan's, or its volume not a brain's (600 to 2500 ml).
    """
    if brain_mask.shape != volume.shape:
        raise MrharmonyError(
            f"the brain mask has shape {brain_mask.shape}, the scan {volume.shape}: "
            "give a mask on the scan's own voxel grid."
        )
    mask: BoolArray = np.asarray(brain_mask) != 0
    size = millilitres(volume, mask)
    if not PLAUSIBLE_ML[0] <= size <= PLAUSIBLE_ML[1]:
        if found:
            raise MrharmonyError(
                f"the brain mask holds {size:.0f} ml, a brain {_BRAIN_ML}: check that the scan is a "
                "T1w image of a whole head with the right voxel sizes, or give a brain mask."
            )
        raise MrharmonyError(
            f"the brain mask that was given holds {size:.0f} ml, a brain {_BRAIN_ML}: check that it is 1 "
            "in the whole brain and 0 elsewhere, and the voxel sizes of the scan."
        )
    return mask


def mask_findings(brain_mask: BoolArray) -> tuple[Finding, ...]:
    """Return a warning where the field of view cuts the brain."""
    faces = [brain_mask.take(side, axis) for axis in range(3) for side in (0, -1)]
    if not any(face.any() for face in faces):
        return ()
    cut = warning(
        "brain-at-border",
        "the brain touches the border of the field of view, so part of it may be missing.",
        "Look at the brain mask before you measure the whole brain in this scan.",
    )
    return (cut,)


@dataclass(frozen=True)
class _FoundBrain:
    """A mask that the network found, and how good it is."""

    mask: BoolArray
    alignment: Alignment
    quality: MaskQuality

    @classmethod
    def of(cls, volume: Volume, brain_mask: BoolArray, seed: int) -> _FoundBrain:
        alignment = align_to_template(volume, brain_mask, seed)
        return cls(brain_mask, alignment, mask_quality(volume, brain_mask, alignment))

    @property
    def plausible(self) -> bool:
        rotation = Rotation.from_matrix(self.alignment.rigid_to_template[:3, :3])
        good = self.quality.border_contrast > _GOOD_BORDER and self.quality.similarity > _GOOD_SIMILARITY
        return bool(np.degrees(rotation.magnitude()) < _LYING_STRAIGHT and good)

    @property
    def score(self) -> float:
        return self.quality.symmetry + self.quality.border_contrast + self.quality.template_dice


def _search_brain(volume: Volume, seed: int) -> _FoundBrain:
    """Find the brain; search again on an upright copy where the head is turned far or the mask implausible.

    Of two masks the one with the higher score is returned. Raises `MrharmonyError` where the network finds
    none.
    """
    first = _FoundBrain.of(volume, _network_mask(volume), seed)
    if first.plausible:
        return first
    rigid_to_template = first.alignment.rigid_to_template
    level = upright(volume, rigid_to_template)
    try:
        second_mask = mask_from_upright(_network_mask(level), level, volume, rigid_to_template)
    except MrharmonyError:
        return first
    if not second_mask.any():
        return first
    return max(first, _FoundBrain.of(volume, second_mask, seed), key=lambda found: found.score)


def _network_mask(volume: Volume) -> BoolArray:
    """Find the brain with deepbet's network (Fisch et al. 2024, Comput Biol Med 179:108845)."""
    network = copy(_network())  # it remembers where the scan's head lies: other threads have theirs
    try:
        mask = network.postprocess(network.run_model(volume.voxels.copy()) > 0.5)
    except (AssertionError, ValueError) as error:  # how deepbet reports that it found nothing
        raise MrharmonyError(
            "no brain was found: check that the scan is a T1w image of a whole head, or give a brain mask."
        ) from error
    return np.asarray(mask, dtype=bool)


@cache
def _network() -> BrainExtraction:
    from deepbet import BrainExtraction  # noqa: PLC0415 - takes seconds to import
    from deepbet.utils import DATA_PATH  # noqa: PLC0415 - takes seconds to import

    whole, box = (_pinned(Path(DATA_PATH) / "models" / name) for name in _DEEPBET_FILES)
    return BrainExtraction(no_gpu=True, model_path=whole, bbox_model_path=box)


def _pinned(file: Path) -> io.BytesIO:
    """Return the bytes of one of deepbet's files, TorchScript, which is code: only those that we know.

    Raises `MrharmonyError` where it is missing or another one.
    """
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != _DEEPBET_FILES[file.name]:
        raise MrharmonyError(
            f"{file}: is missing or not that of deepbet {_DEEPBET}, and a foreign one could run code. "
            f"Install it again: pip install --force-reinstall --no-deps deepbet=={_DEEPBET}."
        )
    return io.BytesIO(content)


def upright(volume: Volume, rigid_to_template: Matrix) -> Volume:
    """Resample a head to a level grid around the template's place, in template space.

    The voxels are cubes of 1 to 2 mm, like the scan's finest; where the scan ends, the grid is filled with
    its lowest intensity.
    """
    zoom = float(np.clip(min(volume.zooms), _FINEST, _COARSEST))
    i, j, k = (int(n) for n in np.ceil((_HIGH - _LOW) / zoom))
    affine = from_matvec(np.diag([zoom] * 3), _LOW)
    sigma = np.sqrt(np.maximum((zoom / np.array(volume.zooms)) ** 2 - 1, 0)) / FWHM_PER_SIGMA
    smooth = volume.with_voxels(gaussian_filter(volume.voxels, sigma))
    return Volume(_resampled(smooth, (i, j, k), np.linalg.inv(rigid_to_template) @ affine), affine)


def mask_from_upright(
    brain_mask: BoolArray, copy: Volume, volume: Volume, rigid_to_template: Matrix
) -> BoolArray:
    """Return a mask found on `upright(volume, rigid_to_template)` on the scan's own grid, shape (i, j, k)."""
    found = copy.with_voxels(brain_mask)
    return _resampled(found, volume.shape, rigid_to_template @ volume.affine) > 0.5


def _resampled(volume: Volume, shape: tuple[int, int, int], affine: Matrix) -> FloatArray:
    """Return a volume linearly interpolated on another grid of its world; outside, its lowest intensity."""
    there = np.linalg.inv(volume.affine) @ affine
    lowest = float(volume.voxels.min())
    return np.asarray(
        affine_transform(volume.voxels, there[:3, :3], there[:3, 3], shape, order=1, cval=lowest), np.float32
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
