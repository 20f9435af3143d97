"""Scanning a virtual head: contrast, receive field, point spread, gain, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from mrharmony.simulate.anatomy import WM, Anatomy
from mrharmony.simulate.bias import BIAS_TERMS, bias_field
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.signal import TISSUE_PARAMETERS, tissue_signal
from mrharmony.volume import FloatArray, Volume

# T1 of each tissue shortens by this share from myelination 0 to 1: cortex and WM vary by a few percent
# between regions (Lutti et al. 2014, NeuroImage 93:176).
MYELIN_T1_SHARE = (0.0, 0.10, 0.14, 0.0)
FWHM_PER_SD = 2.3548


@dataclass(frozen=True)
class ScanDraw:
    """The random part of one scan, apart from its noise: kept, it can be replayed.

    Parameters
    ----------
    flip_scale
        Actual over nominal flip angle.
    bias
        Coefficients of the log receive field, shape (20,).
    gain
        Intensity units per unit signal.
    """

    flip_scale: float
    bias: FloatArray
    gain: float


def tissue_signals(scanner: Scanner, flip_scale: float = 1.0) -> FloatArray:
    """Signed signals of CSF, cortical GM, WM, deep GM at mean myelination, shape (4,)."""
    parameters = TISSUE_PARAMETERS[scanner.field_strength]
    signals = [tissue_signal(scanner.sequence, p, np.array(p.t1_ms), flip_scale) for p in parameters]
    return np.asarray(signals, dtype=np.float32)


def contrast(
    tissues: FloatArray, myelination: FloatArray, scanner: Scanner, flip_scale: float = 1.0
) -> FloatArray:
    """Noise-free magnitude image of a perfect scanner with this sequence.

    Parameters
    ----------
    tissues
        Tissue shares, shape (4, ...): a volume, a slice, or a list of voxels.
    myelination
        Shape (...), 0..1; shortens T1 voxel by voxel.
    scanner, flip_scale
        The sequence played, and actual over nominal flip angle.

    Returns
    -------
    FloatArray
        Shape (...): magnitude of the sum of the tissues' signed signals (a voxel of CSF and GM with
        opposite signs after the inversion is dark, as in a real MPRAGE).
    """
    signal = np.zeros(myelination.shape, dtype=np.float32)
    for tissue, parameters in enumerate(TISSUE_PARAMETERS[scanner.field_strength]):
        share = np.float32(MYELIN_T1_SHARE[tissue])
        t1_ms = np.float32(parameters.t1_ms) * (1 - share * (myelination - np.float32(0.5)))
        signal += tissues[tissue] * tissue_signal(scanner.sequence, parameters, t1_ms, flip_scale)
    return np.abs(signal)


def draw_scan(scanner: Scanner, rng: np.random.Generator) -> ScanDraw:
    """Draw what is random in one scan, except its noise."""
    flip_scale = float(np.clip(1 + scanner.jitter.flip_angle * rng.standard_normal(), 0.7, 1.3))
    jitter = scanner.jitter.bias * rng.standard_normal(len(BIAS_TERMS)).astype(np.float32)
    gain = scanner.gain.mean * float(np.exp(scanner.gain.log_sd * rng.standard_normal()))
    return ScanDraw(flip_scale, scanner.bias.coefficients() + jitter, gain)


def render(anatomy: Anatomy, scanner: Scanner, draw: ScanDraw, rng: np.random.Generator) -> FloatArray:
    """Image an anatomy (a whole head, or a slab of one) with a scan's random part already drawn.

    Contrast → receive field → point spread → gain → Rician noise → zero outside the brain mask.
    The unit of the result is the gain times the signal; WM is about `gain * tissue_signals(scanner)[2]`.

    Parameters
    ----------
    anatomy
        Tissue shares and their grid, shape (i, j, k).
    scanner, draw
        The scanner, and this scan's flip angle, receive field and gain.
    rng
        Source of the noise.

    Returns
    -------
    FloatArray
        Intensities ≥ 0, shape (i, j, k).
    """
    mask = anatomy.brain_mask
    inside = anatomy.tissues.sum(axis=0) > 0
    signal = np.zeros(anatomy.shape, dtype=np.float32)
    signal[inside] = contrast(
        anatomy.tissues[:, inside], anatomy.myelination[inside], scanner, draw.flip_scale
    )
    signal *= bias_field(draw.bias, anatomy.shape, anatomy.affine)
    sd_voxels = np.asarray(scanner.blur_fwhm_mm) / FWHM_PER_SD / anatomy.zooms
    signal = gaussian_filter(signal, sd_voxels, mode="nearest")[mask]
    # Averaging n voxels of 1 mm³ divides the noise by sqrt(n).
    noise = scanner.noise * abs(float(tissue_signals(scanner)[WM])) / np.sqrt(np.prod(anatomy.zooms))
    channels = np.float32(noise) * rng.standard_normal((2, signal.size), dtype=np.float32)
    image = np.zeros(anatomy.shape, dtype=np.float32)
    image[mask] = draw.gain * np.hypot(signal + channels[0], channels[1])
    return image


def scan_head(anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator) -> Volume:
    """Scan a virtual head. Virtual heads are skull-stripped brains: intensities outside the mask are 0.

    Parameters
    ----------
    anatomy
        The head, on any grid.
    scanner
        One of `load_scanners()`, a `random_scanner`, or your own.
    rng
        Source of the scan-to-scan variation and of the noise.

    Returns
    -------
    Volume
        Intensities in the scanner's units on the anatomy's grid.
    """
    return Volume(render(anatomy, scanner, draw_scan(scanner, rng), rng), anatomy.affine)


def scan_coronal(
    anatomy: Anatomy, scanner: Scanner, indices: Sequence[int], rng: np.random.Generator
) -> FloatArray:
    """Scan single coronal slices of one head in one scan, with the same physics as `scan_head` but faster.

    Parameters
    ----------
    anatomy, scanner, rng
        As in `scan_head`.
    indices
        Slice numbers along j.

    Returns
    -------
    FloatArray
        Intensities, shape (n, i, k).
    """
    draw = draw_scan(scanner, rng)
    margin = int(np.ceil(1.5 * scanner.blur_fwhm_mm[1] / anatomy.zooms[1]))
    return np.stack([_coronal_slice(anatomy, scanner, draw, index, margin, rng) for index in indices])


def _coronal_slice(
    anatomy: Anatomy, scanner: Scanner, draw: ScanDraw, index: int, margin: int, rng: np.random.Generator
) -> FloatArray:
    first = max(index - margin, 0)
    slab = anatomy.crop(slice(None), slice(first, index + margin + 1), slice(None))
    return render(slab, scanner, draw, rng)[:, index - first, :]
