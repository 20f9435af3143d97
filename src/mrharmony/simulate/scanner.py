"""Scanners: a field strength, a sequence, a receive field, a point spread, noise and gain, from YAML."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from mrharmony.simulate.bias import BiasPattern
from mrharmony.simulate.signal import FieldStrength, Sequence


class Gain(BaseModel):
    """Receiver gain: arbitrary units per unit signal, and its log standard deviation between scans."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: PositiveFloat
    log_sd: NonNegativeFloat = 0.1


class Jitter(BaseModel):
    """What differs from scan to scan on one scanner.

    Parameters
    ----------
    bias
        Standard deviation of the random part of the log receive field within a head.
    flip_angle
        Relative standard deviation of the flip angle (transmit calibration).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: NonNegativeFloat = 0.03
    flip_angle: NonNegativeFloat = 0.03


class Scanner(BaseModel):
    """A scanner with its T1w protocol, as loaded from `simulate/scanners/*.yaml`.

    Parameters
    ----------
    name, description
        Short name (`mprage-3t`) and one line, with the protocol's source.
    field_strength
        1.5 or 3 tesla.
    sequence
        `Mprage` or `SpoiledGradientEcho`.
    bias
        Receive field that all its scans share.
    blur_fwhm_mm
        Gaussian point spread along i, j, k, full width at half maximum, beyond the voxel's own.
    noise
        Standard deviation of the noise in each channel (real, imaginary) at 1 mm³, relative to WM's signal.
    gain, jitter
        Scale of the intensities, and what varies between scans.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")
    description: str
    field_strength: FieldStrength
    sequence: Sequence
    bias: BiasPattern = BiasPattern()
    blur_fwhm_mm: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (0.0, 0.0, 0.0)
    noise: NonNegativeFloat = 0.02
    gain: Gain
    jitter: Jitter = Jitter()

    @property
    def session(self) -> str:
        """BIDS session label: the name without hyphens and dots (`mprage-1.5t` → `mprage15t`)."""
        return self.name.replace("-", "").replace(".", "")


@lru_cache(maxsize=1)
def _shipped_scanners() -> tuple[Scanner, ...]:
    folder = resources.files("mrharmony.simulate") / "scanners"
    texts = [entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    scanners = [Scanner.model_validate(yaml.safe_load(text)) for text in texts]
    return tuple(sorted(scanners, key=lambda scanner: scanner.name))


def load_scanners() -> dict[str, Scanner]:
    """Return the scanners that ship with the package, by name."""
    return {scanner.name: scanner for scanner in _shipped_scanners()}
