"""MR signal equations: what a tissue with known proton density, T1 and T2* sends back to a sequence.

Times in ms; proton density relative to water. docs/concepts/simulation.md says what each number rests on.

| tissue      | PD   | T1 1.5 T | T1 3 T | T2* 1.5 T | T2* 3 T | sources            |
|-------------|------|----------|--------|-----------|---------|--------------------|
| CSF         | 1.00 | 4300     | 4300   | 500       | 400     | [O], [R], [A]      |
| cortical GM | 0.84 | 1197     | 1607   | 84        | 66      | [O], [W], [P]      |
| WM          | 0.69 | 646      | 838    | 66        | 53      | [O], [W], [P]      |
| deep GM     | 0.84 | 1097     | 1364   | 57        | 36      | [O], [W], [P]      |
| soft tissue | 0.80 | 1008     | 1412   | 30        | 25      | [S], [B]           |
| fat         | 0.80 | 343      | 382    | 20        | 12      | [D], [B]           |

[O] proton density: Oros-Peusquens et al. 2019, Front Neurol 10:1333 (WM 69.1 %, GM 83.7 % water, CSF the
    reference; deep GM is given the value of GM: an assumption).
[W] T1: Wright et al. 2008, MAGMA 21:121 (MPRAGE row; deep GM = mean of putamen and caudate head: 1084 and
    1109 ms at 1.5 T, 1332 and 1395 ms at 3 T).
[R] T1 of CSF: Rooney et al. 2007, Magn Reson Med 57:308 (CSF does not depend on the field).
[P] T2*: Peters et al. 2007, Magn Reson Imaging 25:748 (deep GM = mean of putamen and caudate head).
[S] T1 of soft tissue around the brain, as of muscle: Stanisz et al. 2005, Magn Reson Med 54:507.
[D] T1 of fat: de Bazelaire et al. 2004, Radiology 230:652 (under the skin).
[B] proton density and T2* around the brain are assumed; nothing is measured there.
[A] T2* of CSF is assumed: long against every echo time used here, so that the value has no weight.

Sequences give the transverse magnetization at the excitation of the centre of k-space, signed, per unit of
equilibrium magnetization, from T1 (ms, any shape) and `flip_scale`: the actual over the nominal flip angle,
which adiabatic inversions do not feel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, PositiveFloat, PositiveInt, model_validator

from mrharmony.core.volume import FloatArray

TISSUES = ("CSF", "cortical GM", "WM", "deep GM")


@dataclass(frozen=True)
class TissueParameters:
    """Proton density (0..1), T1 and T2* (ms) of one tissue at one field strength."""

    proton_density: float
    t1_ms: float
    t2_star_ms: float


TISSUE_PARAMETERS: dict[float, tuple[TissueParameters, ...]] = {
    1.5: (
        TissueParameters(1.00, 4300.0, 500.0),
        TissueParameters(0.84, 1197.0, 84.0),
        TissueParameters(0.69, 646.0, 66.0),
        TissueParameters(0.84, 1097.0, 57.0),
    ),
    3.0: (
        TissueParameters(1.00, 4300.0, 400.0),
        TissueParameters(0.84, 1607.0, 66.0),
        TissueParameters(0.69, 838.0, 53.0),
        TissueParameters(0.84, 1364.0, 36.0),
    ),
}

# Of what lies around the brain: fluid, soft tissue, fat.
AROUND_PARAMETERS: dict[float, tuple[TissueParameters, ...]] = {
    1.5: (
        TISSUE_PARAMETERS[1.5][0],
        TissueParameters(0.80, 1008.0, 30.0),
        TissueParameters(0.80, 343.0, 20.0),
    ),
    3.0: (
        TISSUE_PARAMETERS[3.0][0],
        TissueParameters(0.80, 1412.0, 25.0),
        TissueParameters(0.80, 382.0, 12.0),
    ),
}


def _known_field(tesla: float) -> float:
    if tesla not in TISSUE_PARAMETERS:
        raise ValueError(f"tissue parameters are known at 1.5 and 3 tesla, not at {tesla:g}")
    return tesla


FieldStrength = Annotated[float, AfterValidator(_known_field)]
Times = NDArray[np.floating]


class _Change(NamedTuple):
    """What a part of the cycle does to longitudinal magnetization: M → slope M + constant."""

    slope: Times
    constant: Times

    def __call__(self, magnetization: Times) -> Times:
        return np.asarray(self.slope * magnetization + self.constant)

    def then(self, later: _Change) -> _Change:
        """Return both parts as one."""
        return _Change(later.slope * self.slope, later.slope * self.constant + later.constant)


class Mp2rage(BaseModel, frozen=True, extra="forbid"):
    """An MP2RAGE cycle: inversion, and two trains of small excitations at two inversion times.

    Source: Marques et al. 2010, NeuroImage 49:1271, "the paper" below.

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

    kind: Literal["mp2rage"] = "mp2rage"
    repetition_time_ms: PositiveFloat
    inversion_times_ms: tuple[PositiveFloat, PositiveFloat]
    echo_spacing_ms: PositiveFloat
    excitations: PositiveInt
    flip_angles_deg: tuple[PositiveFloat, PositiveFloat]
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
        """Transverse magnetization at the centre of both trains, shape (2, ...).

        Equations 1 and 2 of the paper and the steady state of its appendix: every part of the cycle is
        affine in the magnetization, so the periodic steady state is solved in closed form.
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
    """Combine two images of an MP2RAGE, real or complex: proton density, T2* and the receive field cancel.

    ``S = Re(conj(I1) I2) / (|I1|² + |I2|²)`` (Marques et al. 2010, equation 3), shifted from -0.5..0.5
    to 0..1; 0.5 where both images are 0.
    """
    product = (np.conj(first) * second).real
    power = np.abs(first) ** 2 + np.abs(second) ** 2
    ratio = product / np.maximum(power, np.finfo(np.float32).tiny)
    return np.asarray(ratio + 0.5, dtype=np.float32)


class SpoiledGradientEcho(BaseModel, frozen=True, extra="forbid"):
    """A three-dimensional spoiled gradient echo (SPGR, FLASH, T1-FFE).

    Parameters
    ----------
    repetition_time_ms, echo_time_ms
        TR and TE.
    flip_angle_deg
        Excitation flip angle, 0..180 degrees.
    """

    kind: Literal["spgr"] = "spgr"
    repetition_time_ms: PositiveFloat
    echo_time_ms: PositiveFloat
    flip_angle_deg: float = Field(gt=0, le=180)

    def magnetization(self, t1_ms: Times, flip_scale: float = 1.0) -> Times:
        """Ernst's steady state: ``sin(a) (1 - E1) / (1 - cos(a) E1)`` with ``E1 = exp(-TR / T1)``.

        Ernst and Anderson 1966; Haase et al. 1986.
        """
        flip = np.deg2rad(self.flip_angle_deg * flip_scale)
        e1 = np.exp(-self.repetition_time_ms / t1_ms)
        return np.asarray(np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1))


class Mprage(BaseModel, frozen=True, extra="forbid"):
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
        """The periodic steady state of inversion, delay, train and recovery.

        During the train the longitudinal magnetization relaxes geometrically with ``E cos(a)`` toward its
        driven equilibrium; every step is affine in the magnetization before the inversion, so the steady
        state is solved in closed form (Deichmann et al. 2000, NeuroImage 12:112).
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


PulseSequence = Annotated[Mprage | SpoiledGradientEcho | Mp2rage, Field(discriminator="kind")]


def tissue_signal(
    sequence: PulseSequence,
    parameters: TissueParameters,
    t1_ms: Times,
    flip_scale: float = 1.0,
    timing_scale: float = 1.0,
) -> Times:
    """Signed signal of one tissue: proton density, longitudinal history, and T2* decay until the echo.

    Parameters
    ----------
    sequence, parameters
        The sequence, and the tissue's proton density and T2*.
    t1_ms
        The tissue's T1 in every voxel (ms), any shape; the signal's, after a first axis of 2 for MP2RAGE.
    flip_scale, timing_scale
        Actual over nominal flip angle, and times (TR, TI, echo spacing), all by the same factor.
    """
    decay = np.exp(-sequence.echo_time_ms / parameters.t2_star_ms)
    # Longer times act like a shorter T1: only their ratio enters the equations.
    magnetization = sequence.magnetization(t1_ms / timing_scale, flip_scale)
    return np.asarray(parameters.proton_density * decay * magnetization)
