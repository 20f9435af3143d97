"""NIfTI headers for outputs: the geometry of the input to the bit, and nothing else."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from mrharmony.scans.geometry import Geometry, forms_agree
from mrharmony.volume import Matrix


def blank_header(kind: type[nib.Nifti1Header], shape: tuple[int, int, int]) -> nib.Nifti1Header:
    """Return a little-endian header for unscaled float32 voxels that says nothing of where they lie."""
    header = kind(endianness="<")
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["scl_slope"], header["scl_inter"] = 1, 0
    return header


def with_both_forms(header: nib.Nifti1Header, geometry: Geometry) -> nib.Nifti1Header:
    """Add the form that is missing, or replace the qform that disagrees, where the affine keeps every bit.

    Parameters
    ----------
    header
        Holds the forms of the input.
    geometry
        What the input says of itself.

    Returns
    -------
    nib.Nifti1Header
        With both forms; with the single form of the input where the other cannot express the same
        affine (a qform has no shears, an sform rounds to float32).
    """
    if geometry.affine is None or forms_agree(geometry):
        return header
    complete = header.copy()
    if geometry.sform is None:
        complete.set_sform(geometry.affine, int(header["qform_code"]))
        exact = np.array_equal(complete.get_sform(), header.get_qform())
        return complete if exact else header
    _set_qform(complete, geometry.sform, int(header["sform_code"]))
    shape, zooms = geometry.shape, geometry.zooms
    written = Geometry(shape, zooms, geometry.units, geometry.sform, np.asarray(complete.get_qform()))
    return complete if geometry.qform is not None or forms_agree(written) else header


def _set_qform(header: nib.Nifti1Header, affine: Matrix, code: int) -> None:
    """Set the qform and keep the zooms, which nibabel would compute anew from the affine."""
    zooms = header["pixdim"][1:4].copy()
    header.set_qform(affine, code)
    header["pixdim"][1:4] = zooms
