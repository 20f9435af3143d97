"""A scan that was read and may be worked on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

from mrharmony.volume import Finding, Volume


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan as it was read.

    Parameters
    ----------
    path
        The file.
    volume
        Finite intensities on the native grid, and the affine.
    header
        NIfTI header with the geometry of the scan and nothing else: outputs are written with it.
    findings
        What is worth knowing about the scan; no errors among it.
    """

    path: Path
    volume: Volume
    header: nib.Nifti1Header
    findings: tuple[Finding, ...]
