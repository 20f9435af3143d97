"""The header of FreeSurfer's .mgh and .mgz files, parsed with nibabel and turned into NIfTI for outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import nibabel as nib
import numpy as np
from nibabel.freesurfer import mghformat
from numpy.typing import NDArray

from mrharmony.core.findings import ScanFault, error
from mrharmony.core.volume import Finding, Matrix
from mrharmony.scans.geometry import Geometry
from mrharmony.scans.layout import Layout
from mrharmony.scans.nifti import blank_header, with_both_forms
from mrharmony.scans.stream import ByteSource

_VERSION = 1
_SCANNER = 1


@dataclass(frozen=True)
class MghHeader:
    """An MGH header.

    Parameters
    ----------
    fields
        The fields as they stand in the file.
    affine
        Voxel indices to world millimetres, shape (4, 4); None where the header does not say.
    """

    fields: dict[str, NDArray[Any]]
    affine: Matrix | None

    @classmethod
    def parse(cls, source: ByteSource) -> Self:
        """Read the header from the start of the content; raise `ScanFault` where it is not MGH."""
        block = source.read(mghformat.DATA_OFFSET)
        fields = np.frombuffer(block, mghformat.header_dtype, count=1)[0]
        if fields["version"] != _VERSION:
            raise ScanFault(
                error(
                    "wrong-magic",
                    "The content is not MGH, whatever the name says.",
                    "Convert the scan, for instance with `mri_convert`.",
                )
            )
        known = bool(fields["goodRASFlag"])
        affine = nib.MGHImage.header_class(block, check=False).get_affine().astype(np.float64)
        names = mghformat.header_dtype.names
        return cls({name: np.asarray(fields[name]) for name in names}, affine if known else None)

    def layout(self, capacity: int) -> Layout:
        """Return how the voxels are stored, in a file that holds at most `capacity` bytes of content."""
        code = int(self.fields["type"])
        types = mghformat.data_type_codes
        i, j, k, frames = map(int, self.fields["dims"])
        return Layout(
            dimensions=(i, j, k) if frames == 1 else (i, j, k, frames),
            datatype=types.label.get(code, f"code {code}"),
            dtype=np.dtype(types.numpy_dtype[code]) if code in types.label else None,
            offset=mghformat.DATA_OFFSET,
            min_offset=mghformat.DATA_OFFSET,
            slope=1.0,
            inter=0.0,
            capacity=capacity,
            has_footer=True,
        )

    def geometry(self, shape: tuple[int, int, int]) -> Geometry:
        """Return where the voxels lie."""
        i, j, k = map(float, self.fields["delta"])
        return Geometry(shape, (i, j, k), "mm", self.affine, None)

    def oddities(self) -> tuple[Finding, ...]:
        """Return nothing: all of this header is covered by the checks."""
        return ()

    def output_header(self, geometry: Geometry) -> nib.Nifti1Header:
        """Return a NIfTI-1 header of the same geometry, in scanner coordinates where there are any."""
        header = blank_header(nib.Nifti1Header, geometry.shape)
        header["pixdim"][1:4] = self.fields["delta"]
        header.set_xyzt_units("mm")
        if geometry.affine is not None:
            header.set_sform(geometry.affine, _SCANNER)
        return with_both_forms(header, geometry)
