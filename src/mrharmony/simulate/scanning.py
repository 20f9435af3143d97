"""Scanning a virtual head: contrast, motion, receive field, point spread, noise, truncated k-space, gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter

from mrharmony.core.volume import FloatArray, Volume
from mrharmony.simulate.anatomy import WM, Anatomy
from mrharmony.simulate.bias import BIAS_TERMS, bias_field
from mrharmony.simulate.motion import HeadMotion, draw_motion, move
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.signal import (
    AROUND_PARAMETERS,
    TISSUE_PARAMETERS,
    Mp2rage,
    PulseSequence,
    TissueParameters,
    tissue_signal,
    uniform_image,
)
from mrharmony.space.resampling import FWHM_PER_SIGMA

# T1 of each tissue shortens by this share from myelination 0 to 1: cortex and WM vary by a few percent
# between regions (Lutti et al. 2014, NeuroImage 93:176).
MYELIN_T1_SHARE = (0.0, 0.10, 0.14, 0.0)

Triple = tuple[float, float, float]


class Acquisition(Protocol):
    """What decides a noise-free contrast: a scanner, or a protocol."""

    @property
    def field_strength(self) -> float:
        """Tesla."""

    @property
    def sequence(self) -> PulseSequence:
        """With its times and angles."""


def tissue_signals(scanner: Acquisition, flip_scale: float = 1.0) -> FloatArray:
    """Signed signals of CSF, cortical GM, WM, deep GM at mean myelination (MP2RAGE: uniform image), (4,)."""
    images = tissue_images(scanner, flip_scale)
    return uniform_image(*images) if isinstance(scanner.sequence, Mp2rage) else images[0]


def tissue_images(scanner: Acquisition, flip_scale: float = 1.0) -> FloatArray:
    """Signed signals of the four tissues in each image that the sequence acquires, shape (n, 4)."""
    return _images(scanner, TISSUE_PARAMETERS[scanner.field_strength], flip_scale)


def _images(
    scanner: Acquisition,
    tissues: Sequence[TissueParameters],
    flip_scale: float,
    timing_scale: float = 1.0,
) -> FloatArray:
    """Signed signals of tissues in each image that the sequence acquires, shape (n, tissues)."""
    signals = [
        np.atleast_1d(tissue_signal(scanner.sequence, p, np.array(p.t1_ms), flip_scale, timing_scale))
        for p in tissues
    ]
    return np.asarray(np.stack(signals, axis=-1), dtype=np.float32)


def acquired_images(
    tissues: FloatArray,
    myelination: FloatArray,
    scanner: Acquisition,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> FloatArray:
    """Signed noise-free images that the sequence acquires, shape (n, ...): two of MP2RAGE, else one.

    Takes the arguments of `contrast`; an image is the sum of the tissues' signed signals.
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
    """Make the stored image, the uniform image of MP2RAGE or else the magnitude, from those acquired."""
    if isinstance(sequence, Mp2rage):
        return uniform_image(images[0], images[1])
    return np.asarray(np.hypot(images[0].real, images[0].imag))


def contrast(
    tissues: FloatArray,
    myelination: FloatArray,
    scanner: Acquisition,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> FloatArray:
    """Noise-free image of a perfect scanner with this sequence, shape (...), ≥ 0.

    It is the magnitude of the sum of the tissues' signed signals (a voxel of CSF and GM with opposite signs
    after the inversion is dark, as in a real MPRAGE), or the uniform image of MP2RAGE.

    Parameters
    ----------
    tissues
        Tissue shares, shape (4, ...): a volume, a slice, or a list of voxels.
    myelination
        Shape (...), 0..1; shortens T1 voxel by voxel.
    scanner, flip_scale, timing_scale
        The scanner or its protocol, and actual over nominal flip angle and times of its sequence.
    """
    images = acquired_images(tissues, myelination, scanner, flip_scale, timing_scale)
    return reconstruct(scanner.sequence, images)


def blur(images: NDArray[Any], fwhm_mm: Triple, zooms: Triple) -> NDArray[Any]:
    """Blur images, shape (n, i, j, k), with a Gaussian point spread of a FWHM along i, j, k."""
    deviations = np.asarray(fwhm_mm) / FWHM_PER_SIGMA / zooms
    return np.asarray(gaussian_filter(images, (0, *deviations), mode="nearest"))


def thick_slices(images: NDArray[Any], profile_mm: Triple, zooms: Triple) -> NDArray[Any]:
    """Average images, shape (n, i, j, k), over the rectangular profile of slices thicker than the voxels.

    Profiles up to the voxel's edge, along i, j, k in mm, change nothing.
    """
    for axis, (profile, zoom) in enumerate(zip(profile_mm, zooms, strict=True), start=1):
        if profile > zoom:
            images = convolve1d(images, box_weights(profile / zoom), axis=axis, mode="nearest")
    return images


def box_weights(width: float) -> NDArray[np.float64]:
    """Overlap of a rectangle, `width` ≥ 1 voxels wide about a voxel's centre, with each voxel; sum 1."""
    reach = int(np.ceil((width - 1) / 2))
    offsets = np.abs(np.arange(-reach, reach + 1))
    return np.asarray(np.clip(width / 2 - offsets + 0.5, 0, 1) / width)


def truncate_kspace(images: NDArray[Any], matrix_share: Triple) -> NDArray[Any]:
    """Leave out the ends of k-space, as a smaller acquisition matrix does: edges ring (Gibbs).

    Of images of shape (n, i, j, k), a share of k-space in (0, 1] is acquired along each spatial axis, and the
    rest is 0; white noise in them loses the same share of its power.
    """
    for axis, share in enumerate(matrix_share, start=1):
        if share < 1:
            kspace = scipy.fft.fft(images, axis=axis)
            outside = np.abs(scipy.fft.fftfreq(images.shape[axis])) > share / 2
            kspace[(slice(None),) * axis + (outside,)] = 0
            images = scipy.fft.ifft(kspace, axis=axis)
    return images


@dataclass(frozen=True)
class ScanDraw:
    """The random part of one scan apart from its noise; a scan can be replayed with it."""

    flip_scale: float  # actual over nominal flip angle
    bias: FloatArray  # coefficients of the log receive field left in the image, shape (20,)
    gain: float  # intensity units per unit signal
    timing_scale: float = 1.0  # actual over nominal times of the sequence
    normalised: FloatArray | None = None  # coefficients that prescan normalisation has removed
    motion: HeadMotion | None = None


def draw_scan(scanner: Scanner, rng: np.random.Generator) -> ScanDraw:
    """Draw what is random in one scan, except its noise."""
    flip_scale = float(np.clip(1 + scanner.jitter.flip_angle * rng.standard_normal(), 0.7, 1.3))
    jitter = scanner.jitter.bias * rng.standard_normal(len(BIAS_TERMS)).astype(np.float32)
    gain = scanner.gain.mean * float(np.exp(scanner.gain.log_sd * rng.standard_normal()))
    # What a scanner lacks draws nothing, so that its other draws stay the same.
    timing_scale = 1.0
    if scanner.jitter.timing:
        timing_scale = float(np.clip(1 + scanner.jitter.timing * rng.standard_normal(), 0.7, 1.3))
    fixed, normalised = scanner.bias.coefficients(), None
    if scanner.prescan_normalisation:
        normalised = np.float32(scanner.prescan_normalisation) * fixed
        fixed = fixed - normalised
    motion = None if scanner.motion is None else draw_motion(scanner.motion, rng)
    return ScanDraw(flip_scale, fixed + jitter, gain, timing_scale, normalised, motion)


def render(anatomy: Anatomy, scanner: Scanner, draw: ScanDraw, rng: np.random.Generator) -> FloatArray:
    """Image an anatomy (a whole head, or a slab of one) with a scan's random part already drawn.

    Contrast → motion → receive field → point spread → noise in every acquired image → truncated k-space →
    magnitude or uniform image → gain → zero outside the brain mask unless the head is whole. WM is about
    `gain * tissue_signals(scanner)[2]`. Noise of the magnitude is Rician. A slab must do without motion and
    truncation of k-space, which depend on the whole head. Returns intensities ≥ 0, shape (i, j, k).
    """
    mask = anatomy.brain_mask if anatomy.around is None else np.ones(anatomy.shape, dtype=bool)
    images = _noise_free(anatomy, scanner, draw)
    deviation = _noise_deviation(anatomy, scanner, draw)
    if min(scanner.matrix_share) < 1:
        noisy = images + deviation * _complex_noise(images.shape, rng)
        acquired = truncate_kspace(noisy, scanner.matrix_share)[:, mask]
    else:
        inside = images[:, mask]
        local = deviation if deviation.ndim == 0 else deviation[mask]
        acquired = inside + local * _complex_noise(inside.shape, rng)
    image = np.zeros(anatomy.shape, dtype=np.float32)
    image[mask] = draw.gain * reconstruct(scanner.sequence, acquired)
    return image


def _noise_free(anatomy: Anatomy, scanner: Scanner, draw: ScanDraw) -> NDArray[Any]:
    """Images as acquired, without noise, shape (n, i, j, k); complex if the head moves."""
    inside = anatomy.tissues.sum(axis=0) > 0
    signal = acquired_images(
        anatomy.tissues[:, inside], anatomy.myelination[inside], scanner, draw.flip_scale, draw.timing_scale
    )
    still = np.zeros((len(signal), *anatomy.shape), dtype=np.float32)
    still[:, inside] = signal
    if anatomy.around is not None:
        around = AROUND_PARAMETERS[scanner.field_strength]
        levels = _images(scanner, around, draw.flip_scale, draw.timing_scale)
        still += np.tensordot(levels, anatomy.around, 1)
    seen = still if draw.motion is None else move(still, anatomy.affine, draw.motion)
    images = blur(
        seen * bias_field(draw.bias, anatomy.shape, anatomy.affine), scanner.blur_fwhm_mm, anatomy.zooms
    )
    return thick_slices(images, scanner.slice_profile_mm, anatomy.zooms)


def _noise_deviation(anatomy: Anatomy, scanner: Scanner, draw: ScanDraw) -> FloatArray:
    """Standard deviation of the noise in each channel: one number, or shape (i, j, k) if normalised."""
    reference = abs(float(tissue_images(scanner)[-1, WM]))
    # Averaging n voxels of 1 mm³ divides the noise by sqrt(n).
    deviation = np.asarray(scanner.noise * reference / np.sqrt(np.prod(anatomy.zooms)), dtype=np.float32)
    if draw.normalised is None:
        return deviation
    return np.asarray(deviation * bias_field(-draw.normalised, anatomy.shape, anatomy.affine))


def _complex_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.complex64]:
    real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32)
    return np.asarray(real + np.complex64(1j) * imaginary)


def scan_head(anatomy: Anatomy, scanner: Scanner, rng: np.random.Generator) -> Volume:
    """Scan a virtual head. Unless the head is whole, intensities outside the brain mask are 0.

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
