"""What brain tissues are to a scanner: proton density, T1 and T2* at 1.5 and 3 tesla.

Times in ms; proton density relative to water. What each number rests on is told in docs/simulation.md.

| tissue      | PD   | T1 1.5 T | T1 3 T | T2* 1.5 T | T2* 3 T | sources            |
|-------------|------|----------|--------|-----------|---------|--------------------|
| CSF         | 1.00 | 4300     | 4300   | 500       | 400     | [O], [R], [A]      |
| cortical GM | 0.84 | 1197     | 1607   | 84        | 66      | [O], [W], [P]      |
| WM          | 0.69 | 646      | 838    | 66        | 53      | [O], [W], [P]      |
| deep GM     | 0.84 | 1097     | 1364   | 57        | 36      | [O], [W], [P]      |

[O] proton density: Oros-Peusquens et al. 2019, Front Neurol 10:1333 (WM 69.1 %, GM 83.7 % water, CSF the
    reference; deep GM is given the value of GM: an assumption).
[W] T1: Wright et al. 2008, MAGMA 21:121 (MPRAGE row; deep GM = mean of putamen and caudate head: 1084 and
    1109 ms at 1.5 T, 1332 and 1395 ms at 3 T).
[R] T1 of CSF: Rooney et al. 2007, Magn Reson Med 57:308 (CSF does not depend on the field).
[P] T2*: Peters et al. 2007, Magn Reson Imaging 25:748 (deep GM = mean of putamen and caudate head).
[A] T2* of CSF is assumed: long against every echo time used here, so that the value has no weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

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


def _known_field(tesla: float) -> float:
    if tesla not in TISSUE_PARAMETERS:
        raise ValueError(f"tissue parameters are known at 1.5 and 3 tesla, not at {tesla:g}")
    return tesla


FieldStrength = Annotated[float, AfterValidator(_known_field)]
