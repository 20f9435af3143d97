"""A scan that was read and may be worked on.

What every supported format tells about a scan before its voxels are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import nibabel as nib

from mrharmony.core.volume import Finding, Volume
from mrharmony.scans.geometry import Geometry
from mrharmony.scans.layout import Layout
from mrharmony.scans.stream import ByteSource


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


class ScanHeader(Protocol):
    """The header of one format, parsed but not yet trusted."""

    @classmethod
    def parse(cls, source: ByteSource) -> Self:
        """Read the header from the start of the content; raise `ScanFault` where it is of another format."""
        ...

    def layout(self, capacity: int) -> Layout:
        """Return how the voxels are stored, in a file that holds at most `capacity` bytes of content."""
        ...

    def geometry(self, shape: tuple[int, int, int]) -> Geometry:
        """Return where the voxels lie."""
        ...

    def oddities(self) -> tuple[Finding, ...]:
        """Return what the format has to say of itself that no check covers."""
        ...

    def output_header(self, geometry: Geometry) -> nib.Nifti1Header:
        """Return a NIfTI header of the same geometry for a float32 output, with nothing else in it."""
        ...
