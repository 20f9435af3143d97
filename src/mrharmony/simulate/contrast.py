"""Contrast: the noise-free images that a sequence gives of tissues, voxel by voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.volume import FloatArray
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.signal import TISSUE_PARAMETERS, Mp2rage, PulseSequence, tissue_signal, uniform_image

# T1 of each tissue shortens by this share from myelination 0 to 1: cortex and WM vary by a few percent
# between regions (Lutti et al. 2014, NeuroImage 93:176).
MYELIN_T1_SHARE = (0.0, 0.10, 0.14, 0.0)


def tissue_signals(scanner: Scanner, flip_scale: float = 1.0) -> FloatArray:
    """Signed signals of CSF, cortical GM, WM, deep GM at mean myelination, shape (4,).

    Those of an MP2RAGE scanner are their values in the uniform image, 0..1.
    """
    images = tissue_images(scanner, flip_scale)
    return uniform_image(*images) if isinstance(scanner.sequence, Mp2rage) else images[0]


def tissue_images(scanner: Scanner, flip_scale: float = 1.0) -> FloatArray:
    """Signed signals of the four tissues in each image that the sequence acquires, shape (n, 4)."""
    signals = [
        np.atleast_1d(tissue_signal(scanner.sequence, p, np.array(p.t1_ms), flip_scale))
        for p in TISSUE_PARAMETERS[scanner.field_strength]
    ]
    return np.asarray(np.stack(signals, axis=-1), dtype=np.float32)


def acquired_images(
    tissues: FloatArray,
    myelination: FloatArray,
    scanner: Scanner,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> FloatArray:
    """Signed noise-free images that the sequence acquires: two of MP2RAGE, else one.

    Parameters
    ----------
    tissues, myelination, scanner, flip_scale, timing_scale
        As in `contrast`.

    Returns
    -------
    FloatArray
        Shape (n, ...): the sum of the tissues' signed signals.
    """
    count = 2 if isinstance(scanner.sequence, Mp2rage) else 1
    signal = np.zeros((count, *myelination.shape), dtype=np.float32)
    for tissue, parameters in enumerate(TISSUE_PARAMETERS[scanner.field_strength]):
        share = np.float32(MYELIN_T1_SHARE[tissue])
        t1_ms = np.float32(parameters.t1_ms) * (1 - share * (myelination - np.float32(0.5)))
        signal += tissues[tissue] * tissue_signal(
            scanner.sequence, parameters, t1_ms, flip_scale, timing_scale
        )
    return signal


def reconstruct(sequence: PulseSequence, images: NDArray[np.generic]) -> FloatArray:
    """Make the image that is stored of those acquired: the uniform image of MP2RAGE, else the magnitude.

    Parameters
    ----------
    sequence
        What acquired them.
    images
        Real or complex, shape (n, ...).
    """
    if isinstance(sequence, Mp2rage):
        return uniform_image(images[0], images[1])
    return np.asarray(np.hypot(images[0].real, images[0].imag))


def contrast(
    tissues: FloatArray,
    myelination: FloatArray,
    scanner: Scanner,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> FloatArray:
    """Noise-free image of a perfect scanner with this sequence.

    Parameters
    ----------
    tissues
        Tissue shares, shape (4, ...): a volume, a slice, or a list of voxels.
    myelination
        Shape (...), 0..1; shortens T1 voxel by voxel.
    scanner, flip_scale, timing_scale
        The sequence played, and actual over nominal flip angle and times.

    Returns
    -------
    FloatArray
        Shape (...), ≥ 0: magnitude of the sum of the tissues' signed signals (a voxel of CSF and GM with
        opposite signs after the inversion is dark, as in a real MPRAGE), or the uniform image of MP2RAGE.
    """
    images = acquired_images(tissues, myelination, scanner, flip_scale, timing_scale)
    return reconstruct(scanner.sequence, images)
