"""Scanners: a field strength, a sequence, a receive field, a point spread, noise and gain, from YAML."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Annotated

import yaml
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat

from mrharmony.simulate.bias import BiasPattern
from mrharmony.simulate.motion import Motion
from mrharmony.simulate.signal import FieldStrength, PulseSequence

Millimetres = tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]
Share = Annotated[float, Field(gt=0, le=1)]


def session_label(name: str) -> str:
    """Return the BIDS session label of a scanner: its name without hyphens and dots."""
    return name.replace("-", "").replace(".", "")


class Gain(BaseModel, frozen=True, extra="forbid"):
    """Receiver gain: arbitrary units per unit signal, and its log standard deviation between scans."""

    mean: PositiveFloat
    log_sd: NonNegativeFloat = 0.1

    def restless(self, factor: float) -> Gain:
        """Return the same gain with `factor` times the spread between scans."""
        return Gain(mean=self.mean, log_sd=factor * self.log_sd)


class Jitter(BaseModel, frozen=True, extra="forbid"):
    """What differs from scan to scan on one scanner."""

    bias: NonNegativeFloat = 0.03  # standard deviation of the random part of the log receive field
    flip_angle: NonNegativeFloat = 0.03  # its relative standard deviation (transmit calibration)
    timing: NonNegativeFloat = 0.0  # the same of TR, TI and echo spacing together: edits of the protocol


class Scanner(BaseModel, frozen=True, extra="forbid"):
    """A scanner with its T1w protocol, as loaded from `simulate/scanners/*.yaml`.

    Parameters
    ----------
    name, description
        Short name (`mprage-3t`) and one line, with the protocol's source.
    field_strength
        1.5 or 3 tesla.
    sequence
        `Mprage`, `SpoiledGradientEcho` or `Mp2rage`.
    bias
        Receive field that all its scans share.
    blur_fwhm_mm
        Gaussian point spread along i, j, k, full width at half maximum, beyond the voxel's own.
    slice_profile_mm
        Rectangular profile along i, j, k of slices thicker than the image's voxels; 0 is none.
    matrix_share
        Share of the image's k-space that is acquired along i, j, k; below 1, edges ring.
    noise
        Standard deviation of the noise in each channel (real, imaginary) at 1 mm³, relative to WM's signal
        (of MP2RAGE: in the second image).
    prescan_normalisation
        Share of `bias` that the scanner removes, 0..1; noise grows where the coil sees little.
    motion
        How heads move during its scans; `None` if they lie still.
    gain, jitter
        Scale of the intensities, and what varies between scans.
    """

    name: str = Field(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")
    description: str
    field_strength: FieldStrength
    sequence: PulseSequence
    bias: BiasPattern = BiasPattern()
    blur_fwhm_mm: Millimetres = (0.0, 0.0, 0.0)
    slice_profile_mm: Millimetres = (0.0, 0.0, 0.0)
    matrix_share: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    noise: NonNegativeFloat = 0.02
    prescan_normalisation: float = Field(default=0.0, ge=0, le=1)
    motion: Motion | None = None
    gain: Gain
    jitter: Jitter = Jitter()

    @property
    def session(self) -> str:
        """BIDS session label: the name without hyphens and dots (`mprage-1.5t` → `mprage15t`)."""
        return session_label(self.name)

    def restless(self, factor: float, timing: float) -> Scanner:
        """Return the same scanner with more variation from scan to scan.

        `factor` multiplies the jitter of receive field and flip angle and the spread of the gain; `timing` is
        added to the jitter of the sequence's times.
        """
        jitter = Jitter(
            bias=factor * self.jitter.bias,
            flip_angle=factor * self.jitter.flip_angle,
            timing=factor * self.jitter.timing + timing,
        )
        return self.model_copy(update={"jitter": jitter, "gain": self.gain.restless(factor)})


@lru_cache(maxsize=1)
def _shipped_scanners() -> tuple[Scanner, ...]:
    folder = resources.files("mrharmony.simulate") / "scanners"
    texts = [entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    scanners = [Scanner.model_validate(yaml.safe_load(text)) for text in texts]
    return tuple(sorted(scanners, key=lambda scanner: scanner.name))


def load_scanners() -> dict[str, Scanner]:
    """Return the scanners that ship with the package, by name."""
    return {scanner.name: scanner for scanner in _shipped_scanners()}
