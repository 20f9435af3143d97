"""MR signal equations: what a tissue with known proton density, T1 and T2* sends back to a sequence."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from mrharmony.simulate.mp2rage import Mp2rage, Times
from mrharmony.simulate.tissues import TissueParameters


class SpoiledGradientEcho(BaseModel):
    """A three-dimensional spoiled gradient echo (SPGR, FLASH, T1-FFE).

    Parameters
    ----------
    repetition_time_ms, echo_time_ms
        TR and TE.
    flip_angle_deg
        Excitation flip angle, 0..180 degrees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["spgr"] = "spgr"
    repetition_time_ms: PositiveFloat
    echo_time_ms: PositiveFloat
    flip_angle_deg: float = Field(gt=0, le=180)

    def magnetization(self, t1_ms: Times, flip_scale: float = 1.0) -> Times:
        """Transverse magnetization at the excitation, per unit of equilibrium magnetization.

        Ernst's steady state: ``sin(a) (1 - E1) / (1 - cos(a) E1)`` with ``E1 = exp(-TR / T1)``
        (Ernst and Anderson 1966; Haase et al. 1986).

        Parameters
        ----------
        t1_ms
            Longitudinal relaxation times, any shape.
        flip_scale
            Transmit field: actual over nominal flip angle.
        """
        flip = np.deg2rad(self.flip_angle_deg * flip_scale)
        e1 = np.exp(-self.repetition_time_ms / t1_ms)
        return np.asarray(np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1))


class Mprage(BaseModel):
    """A magnetization-prepared rapid gradient echo: inversion, then a train of small excitations.

    Parameters
    ----------
    repetition_time_ms
        From one inversion to the next.
    inversion_time_ms
        From the inversion to the excitation that fills the centre of k-space, in the middle of the train.
    echo_spacing_ms
        Between two excitations of the train.
    excitations
        Excitations per inversion.
    flip_angle_deg, echo_time_ms
        Excitation flip angle and echo time.
    inversion_efficiency
        Share of the magnetization that the inversion pulse turns over, 0..1 (0.96: Marques et al. 2010).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mprage"] = "mprage"
    repetition_time_ms: PositiveFloat
    inversion_time_ms: PositiveFloat
    echo_spacing_ms: PositiveFloat
    excitations: PositiveInt
    flip_angle_deg: float = Field(gt=0, le=180)
    echo_time_ms: PositiveFloat
    inversion_efficiency: float = Field(default=0.96, gt=0, le=1)

    @model_validator(mode="after")
    def _train_fits(self) -> Mprage:
        if self.delay_before_ms < 0 or self.delay_after_ms < 0:
            raise ValueError(
                f"{self.excitations} excitations {self.echo_spacing_ms:g} ms apart do not fit around the "
                f"inversion time {self.inversion_time_ms:g} ms within {self.repetition_time_ms:g} ms"
            )
        return self

    @property
    def delay_before_ms(self) -> float:
        """From the inversion to the first excitation (TI minus half of the train)."""
        return self.inversion_time_ms - (self.excitations // 2) * self.echo_spacing_ms

    @property
    def delay_after_ms(self) -> float:
        """From the end of the train to the next inversion."""
        return self.repetition_time_ms - self.delay_before_ms - self.excitations * self.echo_spacing_ms

    def magnetization(self, t1_ms: Times, flip_scale: float = 1.0) -> Times:
        """Transverse magnetization at the centre of k-space, signed, per unit of equilibrium magnetization.

        The periodic steady state of inversion, delay, train and recovery (Deichmann et al. 2000,
        NeuroImage 12:112). During the train the longitudinal magnetization relaxes
        geometrically with ``E cos(a)`` toward its driven equilibrium; every step is affine in the
        magnetization before the inversion, so the steady state is solved in closed form.

        Parameters
        ----------
        t1_ms
            Longitudinal relaxation times, any shape.
        flip_scale
            Transmit field: actual over nominal flip angle (the adiabatic inversion does not feel it).
        """
        flip = np.deg2rad(self.flip_angle_deg * flip_scale)
        before = np.exp(-self.delay_before_ms / t1_ms)
        after = np.exp(-self.delay_after_ms / t1_ms)
        e = np.exp(-self.echo_spacing_ms / t1_ms)
        step = e * np.cos(flip)
        driven = (1 - e) / (1 - step)
        train = step**self.excitations
        # M after the cycle = constant + slope * M before the inversion; the steady state repeats itself.
        slope = -self.inversion_efficiency * before * train * after
        constant = 1 - after + after * (driven * (1 - train) + (1 - before) * train)
        steady = constant / (1 - slope)
        first = 1 - before - self.inversion_efficiency * before * steady
        centre = driven + (first - driven) * step ** (self.excitations // 2)
        return np.asarray(np.sin(flip) * centre)


Sequence = Annotated[Mprage | SpoiledGradientEcho | Mp2rage, Field(discriminator="kind")]


def tissue_signal(
    sequence: Sequence,
    parameters: TissueParameters,
    t1_ms: Times,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> Times:
    """Signed signal of one tissue: proton density, longitudinal history, and T2* decay until the echo.

    Parameters
    ----------
    sequence
        What the scanner plays.
    parameters
        The tissue's proton density and T2*.
    t1_ms
        Its T1 in every voxel (ms), any shape.
    flip_scale
        Actual over nominal flip angle.
    timing_scale
        Actual over nominal times of the sequence (TR, TI, echo spacing), all by the same factor.

    Returns
    -------
    Times
        The shape of `t1_ms`; for MP2RAGE its two images, shape (2, ...).
    """
    decay = np.exp(-sequence.echo_time_ms / parameters.t2_star_ms)
    # Longer times are seen as a shorter T1: only their ratio enters the equations.
    magnetization = sequence.magnetization(t1_ms / timing_scale, flip_scale)
    return np.asarray(parameters.proton_density * decay * magnetization)
