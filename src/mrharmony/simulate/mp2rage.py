"""MP2RAGE: two inversion-prepared images of one cycle, and the uniform image that they give together.

Marques et al. 2010, NeuroImage 49:1271.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from mrharmony.volume import FloatArray

Times = NDArray[np.floating]
Degrees = tuple[PositiveFloat, PositiveFloat]


class _Change(NamedTuple):
    """What a part of the cycle does to longitudinal magnetization: M → slope M + constant."""

    slope: Times
    constant: Times

    def __call__(self, magnetization: Times) -> Times:
        return np.asarray(self.slope * magnetization + self.constant)

    def then(self, later: _Change) -> _Change:
        """Return both parts as one."""
        return _Change(later.slope * self.slope, later.slope * self.constant + later.constant)


class Mp2rage(BaseModel):
    """An MP2RAGE cycle: inversion, and two trains of small excitations at two inversion times.

    Parameters
    ----------
    repetition_time_ms
        From one inversion to the next.
    inversion_times_ms
        From the inversion to the middle of the first and of the second train.
    echo_spacing_ms
        Between two excitations of a train.
    excitations
        Excitations of one train.
    flip_angles_deg
        Of the first and of the second train.
    echo_time_ms
        Echo time; it cancels in the uniform image but for the noise.
    inversion_efficiency
        Share of the magnetization that the inversion pulse turns over, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mp2rage"] = "mp2rage"
    repetition_time_ms: PositiveFloat
    inversion_times_ms: tuple[PositiveFloat, PositiveFloat]
    echo_spacing_ms: PositiveFloat
    excitations: PositiveInt
    flip_angles_deg: Degrees
    echo_time_ms: PositiveFloat
    inversion_efficiency: float = Field(default=0.96, gt=0, le=1)

    @model_validator(mode="after")
    def _trains_fit(self) -> Mp2rage:
        if min(self.delays_ms) < 0:
            first, second = self.inversion_times_ms
            raise ValueError(
                f"trains of {self.excitations} excitations {self.echo_spacing_ms:g} ms apart do not fit "
                f"around inversion times of {first:g} and {second:g} ms within {self.repetition_time_ms:g} ms"
            )
        return self

    @property
    def delays_ms(self) -> tuple[float, float, float]:
        """Before the first train, between the trains, after the second: TA, TB, TC of the paper."""
        first, second = self.inversion_times_ms
        early = (self.excitations // 2) * self.echo_spacing_ms
        train = self.excitations * self.echo_spacing_ms
        return first - early, second - first - train, self.repetition_time_ms - second - (train - early)

    def magnetization(self, t1_ms: Times, flip_scale: float = 1.0) -> Times:
        """Transverse magnetization at the centre of both trains, signed, per unit of equilibrium.

        Equations 1 and 2 of the paper and the steady state of its appendix: every part of the cycle is
        affine in the magnetization, so what repeats itself is solved in closed form.

        Parameters
        ----------
        t1_ms
            Longitudinal relaxation times, any shape (...).
        flip_scale
            Transmit field: actual over nominal flip angle (the adiabatic inversion does not feel it).

        Returns
        -------
        Times
            Shape (2, ...).
        """
        t1_ms = np.asarray(t1_ms)
        angles = [np.deg2rad(angle * flip_scale) for angle in self.flip_angles_deg]
        before, between, after = (_relax(delay, t1_ms) for delay in self.delays_ms)
        early, late = self.excitations // 2, self.excitations - self.excitations // 2
        to_first = _Change(np.full_like(t1_ms, -self.inversion_efficiency), np.zeros_like(t1_ms)).then(before)
        to_first = to_first.then(self._train(early, angles[0], t1_ms))
        to_second = self._train(late, angles[0], t1_ms).then(between)
        to_second = to_second.then(self._train(early, angles[1], t1_ms))
        cycle = to_first.then(to_second).then(self._train(late, angles[1], t1_ms)).then(after)
        steady = cycle.constant / (1 - cycle.slope)
        first = to_first(steady)
        return np.stack([np.sin(angles[0]) * first, np.sin(angles[1]) * to_second(first)])

    def _train(self, excitations: int, flip: float, t1_ms: Times) -> _Change:
        e = np.exp(-self.echo_spacing_ms / t1_ms)
        step = e * np.cos(flip)
        share = step**excitations
        return _Change(share, (1 - e) / (1 - step) * (1 - share))


def _relax(time_ms: float, t1_ms: Times) -> _Change:
    share = np.exp(-time_ms / t1_ms)
    return _Change(share, 1 - share)


def uniform_image(first: NDArray[np.generic], second: NDArray[np.generic]) -> FloatArray:
    """Combine the two images of an MP2RAGE: proton density, T2* and the receive field cancel.

    ``S = Re(conj(I1) I2) / (|I1|² + |I2|²)`` (equation 3 of the paper), shifted from -0.5..0.5 to 0..1.

    Parameters
    ----------
    first, second
        Real or complex images at the two inversion times, any one shape.

    Returns
    -------
    FloatArray
        0..1, 0.5 where both images are 0.
    """
    product = (np.conj(first) * second).real
    power = np.abs(first) ** 2 + np.abs(second) ** 2
    ratio = product / np.maximum(power, np.finfo(np.float32).tiny)
    return np.asarray(ratio + 0.5, dtype=np.float32)
