"""Random scanners: each draw is another plausible T1w protocol, coil, resolution and noise."""

from __future__ import annotations

import numpy as np

from mrharmony.simulate.anatomy import CORTICAL_GM, CSF, WM
from mrharmony.simulate.bias import BiasPattern
from mrharmony.simulate.scanner import Gain, Jitter, Scanner
from mrharmony.simulate.scanning import tissue_signals
from mrharmony.simulate.signal import Mprage, SpoiledGradientEcho

MPRAGE_SHARE = 0.65
# Intensities of a T1w scan relative to WM: a draw outside of this range is no T1w protocol and is rejected.
GREY_RANGE = (0.45, 0.92)
CSF_MARGIN = 0.08


def random_scanner(rng: np.random.Generator) -> Scanner:
    """Draw a scanner that need not exist, for training in every batch and as an unseen scanner.

    The same state of `rng` gives the same scanner. It is named `random-` and eight hexadecimal digits;
    CSF < GM < WM in its images.
    """
    while True:
        field_strength = 3.0 if rng.random() < 0.6 else 1.5
        mprage = rng.random() < MPRAGE_SHARE
        scanner = Scanner(
            name=f"random-{rng.integers(1 << 32):08x}",
            description="A random plausible T1w protocol.",
            field_strength=field_strength,
            sequence=_random_mprage(rng) if mprage else _random_spgr(rng),
            bias=_random_bias(rng),
            blur_fwhm_mm=_random_blur(rng),
            noise=float(np.exp(rng.uniform(*np.log((0.01, 0.08))))),
            gain=Gain(mean=float(np.exp(rng.uniform(*np.log((100, 1e5))))), log_sd=0.15),
            jitter=Jitter(bias=float(rng.uniform(0.01, 0.05)), flip_angle=float(rng.uniform(0.01, 0.06))),
        )
        if _is_t1_weighted(scanner):
            return scanner


def _random_mprage(rng: np.random.Generator) -> Mprage:
    spacing = float(rng.uniform(5.5, 10.0))
    excitations = int(rng.integers(120, 200))
    half = spacing * (excitations // 2)
    inversion_time = float(max(rng.uniform(750, 1200), half + 10))
    shortest = inversion_time + spacing * excitations - half
    return Mprage(
        repetition_time_ms=float(shortest + rng.uniform(20, 1200)),
        inversion_time_ms=inversion_time,
        echo_spacing_ms=spacing,
        excitations=excitations,
        flip_angle_deg=float(rng.uniform(6, 13)),
        echo_time_ms=float(rng.uniform(1.6, 4.8)),
    )


def _random_spgr(rng: np.random.Generator) -> SpoiledGradientEcho:
    repetition_time = float(rng.uniform(8, 35))
    # Between about one and two Ernst angles of WM: below, a scan is weighted by proton density.
    ernst = np.rad2deg(np.arccos(np.exp(-repetition_time / 750)))
    return SpoiledGradientEcho(
        repetition_time_ms=repetition_time,
        echo_time_ms=float(rng.uniform(2, min(10, 0.5 * repetition_time))),
        flip_angle_deg=float(ernst * rng.uniform(1.2, 3.0)),
    )


def _random_bias(rng: np.random.Generator) -> BiasPattern:
    curvature, right, anterior, superior, twist = rng.normal(0, (0.2, 0.08, 0.1, 0.12, 0.06))
    return BiasPattern(curvature=curvature, right=right, anterior=anterior, superior=superior, twist=twist)


def _random_blur(rng: np.random.Generator) -> tuple[float, float, float]:
    common = rng.uniform(0.6, 1.6)
    i, j, k = common * rng.uniform(0.85, 1.15, 3)
    return float(i), float(j), float(k)


def _is_t1_weighted(scanner: Scanner) -> bool:
    signals = tissue_signals(scanner)
    relative = np.abs(signals / signals[WM])
    grey = relative[CORTICAL_GM]
    return bool(
        signals[WM] > 0
        and signals[CORTICAL_GM] > 0
        and GREY_RANGE[0] < grey < GREY_RANGE[1]
        and relative[CSF] < grey - CSF_MARGIN
    )
