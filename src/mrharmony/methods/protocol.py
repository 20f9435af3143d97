"""What every harmonization method takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding
from mrharmony.core.volume import FloatArray, Volume
from mrharmony.evidence.drift import Evidence
from mrharmony.prepare.prepared import PreparedScan


@dataclass(frozen=True)
class HarmonizedVolume:
    """A scan in another domain's look.

    Parameters
    ----------
    volume
        On the scan's native grid; intensities in the target domain's native units.
    scale
        Native intensity of 1 canonical unit in the volume.
    evidence
        Drift figures and verdict.
    provenance
        Method, extent, and what the lock did.
    findings
        What was noticed on the way.
    """

    volume: Volume
    scale: float
    evidence: Evidence
    provenance: dict[str, object]
    findings: tuple[Finding, ...] = ()

    def intensities(self) -> FloatArray:
        """Return the harmonized intensities in canonical units, shape (i, j, k)."""
        return np.asarray(self.volume.voxels / np.float32(self.scale))


class Harmonizer(Protocol):
    """A method that makes a scan look as if the target domain had taken it."""

    @property
    def name(self) -> str:
        """Name of the method as users type it."""

    def harmonize(self, scan: PreparedScan, source: Domain | None, target: Domain) -> HarmonizedVolume:
        """Return the harmonized scan; `source` is None where the scan's domain is unknown."""
