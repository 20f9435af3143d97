"""Looks of a scan as it might as well have been: other noise, tone, bias and side.

The reference network is deterministic. What it says of small changes that a scanner could have made, and of
the mirror image, shows how sure it is (test-time augmentation; Wang et al. 2019, Neurocomputing 338:34).
"""

from __future__ import annotations

import numpy as np

from mrharmony.harmonize.accents import ScanLooks
from mrharmony.harmonize.population import CanonicalBrain
from mrharmony.synthesis import reference_looks, shipped_network
from mrharmony.volume import FloatArray

NOISE = 0.02  # standard deviation, canonical units
TONE = 0.1  # of the logarithm of the tone curve's power
BIAS = 0.05  # of the logarithm of the bias at the borders of the grid, along each axis
_DARKEST = 1e-3  # of the brain, which the network tells from air by not being 0


def perturbed_looks(brain: CanonicalBrain, looks: ScanLooks, seed: int) -> ScanLooks:
    """Return a scan with the reference looks of a perturbed copy of it; copies of odd seeds are mirrored.

    Parameters
    ----------
    brain
        The scan on the network's grid, whose middle is that of the template.
    looks
        Its own looks: positions and intensities stay what they are.
    seed
        Of the perturbation, at least 0.
    """
    mask, voxels = brain.mask, _perturbed(brain, np.random.default_rng([seed, 1]))
    if seed % 2 == 0:
        return looks._replace(references=reference_looks(shipped_network(), voxels, mask))
    mirrored = mask[::-1]
    found = reference_looks(shipped_network(), voxels[::-1], mirrored)
    references = np.zeros((len(found), *mask.shape), np.float32)
    references[:, mirrored] = found
    return looks._replace(references=np.ascontiguousarray(references[:, ::-1][:, mask]))


def _perturbed(brain: CanonicalBrain, rng: np.random.Generator) -> FloatArray:
    mask = brain.mask
    axes = [np.linspace(-1, 1, size) for size in mask.shape]
    places = np.argwhere(mask)
    slopes = BIAS * rng.standard_normal(3)
    bias = sum(slope * axis[places[:, n]] for n, (slope, axis) in enumerate(zip(slopes, axes, strict=True)))
    power = np.exp(TONE * rng.standard_normal())
    inside = np.maximum(brain.volume.voxels[mask], 0) ** power * np.exp(bias)
    inside += NOISE * rng.standard_normal(len(inside))
    voxels = np.zeros(mask.shape, np.float32)
    voxels[mask] = np.maximum(inside, _DARKEST)
    return voxels
