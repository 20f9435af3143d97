"""Scanning a labelled head at a measured site: levels of structures, loops, noise, k-space, normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mrharmony.core.volume import FloatArray, Volume
from mrharmony.simulate.bias import HEAD_CENTRE_MM
from mrharmony.simulate.foreign.coils import combined, sensitivities
from mrharmony.simulate.foreign.heads import LabelledHead
from mrharmony.simulate.foreign.sites import CoilArray, Site

LEAST_LEVEL = 0.02


def scan_labelled(head: LabelledHead, site: Site, rng: np.random.Generator) -> Volume:
    """Scan a head: every loop sees the levels with its own sensitivity and noise, through the k-space window.

    The root of the sum of squares of the loops follows a noncentral chi distribution. Normalisation divides
    by the site's usual field, and so makes the noise vary in space. Intensities outside the mask are 0.
    """
    shape, affine = head.anatomy.shape, head.anatomy.affine
    coils, variation = site.coils, site.variation
    image = tissue_image(head, site, variation.contrast * rng.standard_normal(len(head.scores)))
    log_gains = variation.loops * rng.standard_normal(coils.elements)
    shift = variation.shift_mm * rng.standard_normal(3)
    gain = site.gain.mean * float(np.exp(site.gain.log_sd * rng.standard_normal()))
    middle = _in_the_middle(coils)
    deviation = site.noise * middle / np.sqrt(np.prod(head.anatomy.zooms))
    loops = np.empty((coils.elements, *shape), dtype=np.complex64)
    for number, seen in enumerate(sensitivities(coils, shape, affine, log_gains, shift)):
        real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
        noise = np.float32(deviation) * (real + np.complex64(1j) * imaginary)
        loops[number] = windowed(seen * image + noise, site.kspace, site.taper)
    usual = combined(sensitivities(coils, shape, affine, np.zeros(coils.elements), np.zeros(3))) / middle
    voxels = combined(loops) / (middle * usual**coils.normalised)
    return Volume(np.where(head.anatomy.brain_mask, gain * voxels, 0), affine)


def tissue_image(head: LabelledHead, site: Site, scan_scores: NDArray[np.floating]) -> FloatArray:
    """Return what a perfect scanner of the site would show, shape (i, j, k), > 0; white matter is about 1.

    `scan_scores` is what the scan adds to the person's score of each structure, shape (structures,).
    """
    level, people, texture = site.brightness()
    levels = level + people * (head.scores + scan_scores.astype(np.float32))
    mean = np.tensordot(levels, head.shares, 1)
    varied = np.tensordot(texture, head.shares, 1) * head.texture
    return np.asarray(np.maximum(mean + varied, LEAST_LEVEL), dtype=np.float32)


def windowed(image: NDArray[Any], kspace: tuple[float, float, float], taper: float) -> NDArray[Any]:
    """Multiply k-space by a window: 1 in the middle, a cosine's fall over `taper`, 0 beyond `kspace`."""
    for axis, share in enumerate(kspace):
        place = np.abs(scipy.fft.fftfreq(image.shape[axis])) / (share / 2)
        fall = np.clip((place - (1 - taper)) / max(taper, 1e-6), 0, 1)
        window = np.where(place > 1, 0, 0.5 + 0.5 * np.cos(np.pi * fall)).astype(np.float32)
        along = window.reshape([-1 if a == axis else 1 for a in range(3)])
        image = scipy.fft.ifft(scipy.fft.fft(image, axis=axis) * along, axis=axis)
    return image


def _in_the_middle(coils: CoilArray) -> float:
    """Return what the loops see together of the middle of the head."""
    affine = np.eye(4)
    affine[:3, 3] = HEAD_CENTRE_MM
    seen = sensitivities(coils, (1, 1, 1), affine, np.zeros(coils.elements), np.zeros(3))
    return float(combined(seen).item())
