"""The search for the brain: a network on the head as it lies, and again on the head set upright."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from mrharmony.prepare.mask_quality import MaskQuality, mask_quality
from mrharmony.prepare.posture import align_to_template
from mrharmony.prepare.upright import mask_from_upright, upright
from mrharmony.volume import BoolArray, Matrix, MrharmonyError, Volume

if TYPE_CHECKING:
    from deepbet import BrainExtraction

_SMALLEST_FIELD_OF_VIEW = 90.0  # mm
# A head turned farther is searched again. Measured on two heads turned by 38° to 45°, six ways each: the
# first mask overlaps that of the head as it lay by a Dice of 0.953 to 0.988, the second by 0.985 to 0.992.
_LYING_STRAIGHT = 25.0  # degrees
_GOOD_BORDER = 0.8
_GOOD_SIMILARITY = 0.94


@dataclass(frozen=True)
class _Try:
    brain_mask: BoolArray
    posture: Matrix
    quality: MaskQuality

    @classmethod
    def of(cls, volume: Volume, brain_mask: BoolArray) -> _Try:
        alignment = align_to_template(volume, brain_mask)
        return cls(brain_mask, alignment.posture, mask_quality(volume, brain_mask, alignment))

    @property
    def plausible(self) -> bool:
        turn = np.degrees(Rotation.from_matrix(self.posture[:3, :3]).magnitude())
        good = self.quality.border_contrast > _GOOD_BORDER and self.quality.similarity > _GOOD_SIMILARITY
        return bool(turn < _LYING_STRAIGHT and good)

    @property
    def score(self) -> float:
        return self.quality.symmetry + self.quality.border_contrast + self.quality.template_dice


def search_brain(volume: Volume) -> BoolArray:
    """Find the brain, from a second posture where the first is far from upright or what it gave implausible.

    Parameters
    ----------
    volume
        T1w head or stripped brain in RAS voxel order, shape (i, j, k), finite.

    Returns
    -------
    Brain mask, shape (i, j, k), not empty.

    Raises
    ------
    MrharmonyError
        Where the field of view is too small for a brain, or the network finds none.
    """
    first = _Try.of(volume, find_brain(volume))
    if first.plausible:
        return first.brain_mask
    copy = upright(volume, first.posture)
    try:
        second_mask = mask_from_upright(find_brain(copy), copy, volume, first.posture)
    except MrharmonyError:
        return first.brain_mask
    if not second_mask.any():
        return first.brain_mask
    return max(first, _Try.of(volume, second_mask), key=lambda found: found.score).brain_mask


def find_brain(volume: Volume) -> BoolArray:
    """Find the brain with deepbet's network (Fisch et al. 2024, Human Brain Mapping 45(10)).

    Parameters
    ----------
    volume
        T1w head or stripped brain in RAS voxel order, shape (i, j, k), finite.

    Raises
    ------
    MrharmonyError
        Where the field of view is too small for a brain, or the network finds none.
    """
    extent = (np.array(volume.shape) * volume.zooms).min()
    if extent < _SMALLEST_FIELD_OF_VIEW:
        raise MrharmonyError(
            f"the field of view is {extent:.0f} mm at its narrowest, too small for a brain: "
            "give a scan of the whole head."
        )
    network = _network()
    try:
        mask = network.postprocess(network.run_model(volume.voxels.copy()) > 0.5)
    except (AssertionError, ValueError) as error:  # deepbet's ways to say that it found nothing
        raise MrharmonyError(
            "no brain was found: check that the scan is a T1w image of a whole head, or give a brain mask."
        ) from error
    return np.asarray(mask, dtype=bool)


@cache
def _network() -> BrainExtraction:
    from deepbet import BrainExtraction  # noqa: PLC0415 - takes seconds to import

    return BrainExtraction(no_gpu=True)
