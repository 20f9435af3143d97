"""Which known domain a scan resembles, and when it resembles none.

The distance to a domain is the root mean square of scan minus its head's contrast there, so it does not
depend on who was scanned. In its own domain only noise and shading remain; in others tissue contrast too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding
from mrharmony.domains.contrast import ContrastModel, ScanContrasts

# Canonical units; from benchmarks.calibration.source_recognition.
ALIKE = 0.027  # a nearer domain stands in for an unknown source
STRANGE = 0.06  # scans of known scanners are nearer to their own domain, NSK and LA too


class Recognition(NamedTuple):
    """The domain whose contrast of a scan's head is nearest to the scan; distance in canonical units."""

    name: str
    distance: float

    @property
    def is_alike(self) -> bool:
        """Whether the domain can stand for the scan's own."""
        return self.distance < ALIKE


def recognise(contrast_models: Mapping[str, ContrastModel], scan: ScanContrasts) -> Recognition:
    """Return the domain that a scan resembles most."""
    found = (Recognition(name, model.distance(scan)) for name, model in contrast_models.items())
    return min(found, key=lambda known: known.distance)


def source_findings(source: Domain | None, distance: float) -> tuple[Finding, ...]:
    """Return a warning if a scan is far from its source, or from all domains if the source is None.

    `distance` is that to the source, else to the nearest domain, canonical units.
    """
    if distance <= STRANGE:
        return ()
    if source is None:
        message = f"The scan looks like no known scanner: {distance:.3f} from the nearest"
        fix = "Look at the result; `mrharmony adapt` teaches the model this scanner from a scan or two."
    else:
        message = f"The scan does not look like {source.name}: {distance:.3f} from its contrast"
        fix = "Check the source, or leave it out."
    limit = f"where scans of known scanners stay below {STRANGE:g} of their own"
    return (Finding("warning", "strange-source", f"{message}, {limit}.", fix),)
