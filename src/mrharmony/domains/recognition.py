"""Which known domain a scan looks like, and when it looks like none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding
from mrharmony.domains.contrast import ContrastModel, ScanContrasts

# Canonical units; from benchmarks.calibration.source_recognition.
ALIKE = 0.027  # the look of a domain that is nearer serves as that of an unknown source
STRANGE = 0.06  # scans of known scanners are nearer to their own look, NSK and LA too


class Recognition(NamedTuple):
    """The domain whose look of a scan's head is nearest to the scan.

    Parameters
    ----------
    name
        Of the domain.
    distance
        Root mean square of scan minus look, canonical units.
    """

    name: str
    distance: float

    @property
    def is_alike(self) -> bool:
        """Whether the domain can stand for the scan's own."""
        return self.distance < ALIKE


def recognise(contrast_models: Mapping[str, ContrastModel], scan: ScanContrasts) -> Recognition:
    """Return the domain that a scan looks most like."""
    distances = {name: contrast_model.distance(scan) for name, contrast_model in contrast_models.items()}
    name = min(distances, key=lambda known: distances[known])
    return Recognition(name, distances[name])


def source_findings(source: Domain | None, distance: float) -> tuple[Finding, ...]:
    """Return a warning where a scan is strange to its source, or to all domains if the source is unknown.

    Parameters
    ----------
    source
        The domain that the scan was told to come from, if it is known.
    distance
        To the look in the source, else in the nearest domain, canonical units.
    """
    if distance <= STRANGE:
        return ()
    if source is None:
        message = f"The scan looks like no known scanner: {distance:.3f} from the nearest"
        fix = "Look at the result; `mrharmony adapt` teaches the scanner from a scan or two."
    else:
        message = f"The scan does not look like {source.name}: {distance:.3f} from its look"
        fix = "Check --from, or leave it out."
    limit = f"where scans of known scanners stay below {STRANGE:g} of their own"
    return (Finding("warning", "strange-source", f"{message}, {limit}.", fix),)
