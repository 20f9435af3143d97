"""What every supported format tells about a scan before its voxels are read."""

from __future__ import annotations

from typing import Protocol, Self

import nibabel as nib

from mrharmony.scans.byte_source import ByteSource
from mrharmony.scans.geometry import Geometry
from mrharmony.scans.layout import Layout
from mrharmony.volume import Finding


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
