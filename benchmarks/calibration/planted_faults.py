"""Faults that a method may commit, planted into sound outputs of virtual heads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from mrharmony.core.volume import FloatArray
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.simulate.anatomy import WM, Anatomy

LEAST_LESIONS_ML = 2.0  # of heads whose lesions are erased


@dataclass(frozen=True)
class SoundOutput:
    """A sound harmonization, and the head that it shows.

    Parameters
    ----------
    head
        On the scan's native grid.
    scan
        Prepared.
    voxels
        The output, canonical units, 0 outside the brain.
    rng
        Source of all that is random.
    """

    head: Anatomy
    scan: PreparedScan
    voxels: FloatArray
    rng: np.random.Generator

    @property
    def inside(self) -> FloatArray:
        """Intensities in the brain, shape (n,)."""
        return self.voxels[self.scan.brain_mask]

    @property
    def white(self) -> float:
        """The intensity of white matter."""
        return float(np.median(self.voxels[self.head.tissues[WM] > 0.95]))

    def along(self, axis: int) -> FloatArray:
        """Return template coordinates along an axis, mm, shape (i, j, k); 0 outside the brain."""
        mask, places = self.scan.brain_mask, np.zeros(self.voxels.shape, np.float32)
        places[mask] = self.scan.positions(mask)[:, axis]
        return places


Fault = Callable[[SoundOutput], FloatArray]


def fill_ventricles(output: SoundOutput, share: float) -> FloatArray:
    """White matter where ventricles are, from one side of the head as far as the share of them."""
    ventricles = ndimage.binary_dilation(output.head.ventricles > 0.3) & output.scan.brain_mask
    right = output.along(0)
    filled = ventricles & (right <= np.quantile(right[ventricles], share))
    return np.where(filled, np.float32(output.white), output.voxels)


def invert(output: SoundOutput) -> FloatArray:
    """Bright where it was dark."""
    top = np.percentile(output.inside, 99)
    return np.asarray(top - np.minimum(output.voxels, top), np.float32)


def blur(output: SoundOutput, width_mm: float) -> FloatArray:
    """Gaussian of so many mm, full width at half maximum."""
    sigmas = [width_mm / 2.355 / zoom for zoom in output.scan.native.zooms]
    weight = ndimage.gaussian_filter(output.scan.brain_mask.astype(np.float32), sigmas)
    return np.asarray(ndimage.gaussian_filter(output.voxels, sigmas) / np.maximum(weight, 1e-3))


def shift(output: SoundOutput, millimetres: float) -> FloatArray:
    """Moved along the first axis."""
    voxels = millimetres / output.scan.native.zooms[0]
    return np.asarray(ndimage.shift(output.voxels, (voxels, 0, 0), order=1, mode="nearest"))


def bias(output: SoundOutput, size: float) -> FloatArray:
    """A smooth factor from front to back, from 1 - size to 1 + size at most."""
    return np.asarray(output.voxels * (1 + size * np.clip(output.along(1) / 80, -1, 1)), np.float32)


def uneven_slices(output: SoundOutput, size: float) -> FloatArray:
    """Every slice a little brighter or darker than its neighbours, as models of single slices leave them."""
    factors = 1 + size * output.rng.standard_normal((1, output.voxels.shape[1], 1))
    return np.asarray(output.voxels * factors, np.float32)


def step(output: SoundOutput, size: float) -> FloatArray:
    """An edge through the brain, brighter beyond, as models of single patches leave them."""
    return np.where(output.along(0) > 15, output.voxels * np.float32(1 + size), output.voxels)


def tone_curve(output: SoundOutput, power: float) -> FloatArray:
    """An extreme tone curve, everywhere alike."""
    return np.asarray(np.maximum(output.voxels, 0) ** power, np.float32)


def saturate(output: SoundOutput) -> FloatArray:
    """The brightest tenth all equal."""
    return np.minimum(output.voxels, np.quantile(output.inside, 0.9))


def few_greys(output: SoundOutput, levels: int) -> FloatArray:
    """Only so many grey values."""
    unit = np.percentile(output.inside, 99) / levels
    return np.asarray(np.round(output.voxels / unit) * unit, np.float32)


def add_noise(output: SoundOutput, size: float) -> FloatArray:
    """White noise."""
    return np.asarray(output.voxels + size * output.rng.standard_normal(output.voxels.shape), np.float32)


def add_lesion(output: SoundOutput, millilitres: float) -> FloatArray:
    """A dark ball in deep white matter."""
    deep = ndimage.distance_transform_edt(output.head.tissues[WM] > 0.8, sampling=output.scan.native.zooms)
    centre = np.unravel_index(int(np.argmax(deep)), deep.shape)
    far = np.ones(deep.shape, bool)
    far[centre] = False
    distance = ndimage.distance_transform_edt(far, sampling=output.scan.native.zooms)
    ball = distance < (3000 * millilitres / (4 * np.pi)) ** (1 / 3)
    return np.where(ball, output.voxels - np.float32(0.3 * output.white), output.voxels)


def erase_lesions(output: SoundOutput) -> FloatArray:
    """White matter where lesions are."""
    lesions = output.head.lesions
    if lesions is None:
        return output.voxels
    return np.where(lesions > 0.1, np.float32(output.white), output.voxels)


FAULTS: dict[str, Fault] = {
    "ventricles filled": partial(fill_ventricles, share=1.0),
    "half of the ventricles filled": partial(fill_ventricles, share=0.5),
    "contrast inverted": invert,
    **{f"blurred by {width} mm": partial(blur, width_mm=width) for width in (3, 6)},
    **{f"shifted by {distance} mm": partial(shift, millimetres=distance) for distance in (1, 2)},
    **{f"bias of {100 * size:g} %": partial(bias, size=size) for size in (0.15, 0.5)},
    **{f"slices uneven by {100 * size:g} %": partial(uneven_slices, size=size) for size in (0.03, 0.1)},
    **{f"an edge of {100 * size:g} %": partial(step, size=size) for size in (0.1, 0.3)},
    "tone curve, power 3": partial(tone_curve, power=3),
    "tone curve, power 1/3": partial(tone_curve, power=1 / 3),
    "bright tenth saturated": saturate,
    "8 grey values": partial(few_greys, levels=8),
    "noise of 0.1": partial(add_noise, size=0.1),
    **{f"lesion of {volume} ml added": partial(add_lesion, millilitres=volume) for volume in (1, 5)},
    "lesions erased": erase_lesions,
}


def possible(name: str, head: Anatomy) -> bool:
    """Return whether a fault can be planted into a head: lesions can be erased where there are some."""
    return name != "lesions erased" or head.lesions_ml >= LEAST_LESIONS_ML
