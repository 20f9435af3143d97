"""NIfTI headers for outputs: the geometry of the input to the bit, and nothing else.

The NIfTI-1 and NIfTI-2 header: parsed with nibabel and repaired as nibabel does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from mrharmony.core.findings import ScanFault, error, info, warning
from mrharmony.core.volume import Finding, Matrix
from mrharmony.scans.geometry import Geometry, forms_agree
from mrharmony.scans.layout import Layout
from mrharmony.scans.stream import GZIP_MAGIC, ByteSource


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


_CLASSES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_SINGLE_MAGICS = (b"n+1", b"n+2")
_SPLIT_MAGICS = (b"ni1", b"ni2")
_LINE_ENDS = (b"\r\n\x1a\n", bytes(4))  # the mark of NIfTI-2 that tells of changed line ends; or no mark
_MAX_DIMENSIONS = 7


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI header, as it stands in the file and as nibabel repairs it.

    Parameters
    ----------
    raw
        The header in the file.
    repaired
        The same after nibabel's own checks and repairs: what `nibabel.load` would show.
    repairs
        What nibabel repaired.
    """

    raw: nib.Nifti1Header
    repaired: nib.Nifti1Header
    repairs: tuple[Finding, ...]

    @classmethod
    def parse(cls, source: ByteSource) -> Self:
        """Read the header from the start of the content.

        Raises
        ------
        ScanFault
            It is not the header of a single NIfTI file.
        """
        start = source.read(4)
        sizes = {order: int.from_bytes(start, order) for order in ("little", "big")}
        order = next((order for order, size in sizes.items() if size in _CLASSES), None)
        if order is None:
            raise ScanFault(_wrong_magic(start))
        block = start + source.read(sizes[order] - len(start))
        raw = _CLASSES[sizes[order]](block, endianness=order, check=False)
        magic = raw["magic"].item()
        if magic in _SPLIT_MAGICS:
            raise ScanFault(
                error(
                    "split-image",
                    "This is the header of a pair (.hdr and .img); its voxels are in another file.",
                    "Convert the pair to one .nii.gz, for instance with `mrconvert`.",
                )
            )
        if magic not in _SINGLE_MAGICS:
            raise ScanFault(_wrong_magic(start))
        if "eol_check" in raw.keys() and bytes(raw["eol_check"].astype(np.uint8)) not in _LINE_ENDS:  # noqa: SIM118
            raise ScanFault(
                error(
                    "damaged-in-transfer",
                    "The header's line-end mark is damaged, as by a transfer in text mode or a broken disk.",
                    "Copy the file again from where it is sound, in binary mode.",
                )
            )
        return cls(raw, *_repair(raw))

    def layout(self, capacity: int) -> Layout:
        """Return how the voxels are stored, in a file that holds at most `capacity` bytes of content."""
        rank, *dimensions = map(int, self.raw["dim"])
        code = int(self.raw["datatype"])
        types = nib.nifti1.data_type_codes
        known = code in types.dtype and types.dtype[code].itemsize > 0
        return Layout(
            dimensions=tuple(dimensions[:rank]) if 1 <= rank <= _MAX_DIMENSIONS else (),
            datatype=types.label.get(code, f"code {code}"),
            dtype=types.dtype[code].newbyteorder(self.raw.endianness) if known else None,
            offset=self.raw["vox_offset"].item(),
            min_offset=self.raw.single_vox_offset,
            slope=float(self.raw["scl_slope"]),
            inter=float(self.raw["scl_inter"]),
            capacity=capacity,
            has_footer=False,
        )

    def geometry(self, shape: tuple[int, int, int]) -> Geometry:
        """Return where the voxels lie."""
        i, j, k = map(float, self.raw["pixdim"][1:4])
        return Geometry(shape, (i, j, k), self._units()[0], self._sform(), self._qform())

    def oddities(self) -> tuple[Finding, ...]:
        """Return what nibabel repaired."""
        return self.repairs

    def output_header(self, geometry: Geometry) -> nib.Nifti1Header:
        """Return a header that loads with the same affine and zooms to the bit.

        Fields of the geometry are copied verbatim. A qform that is missing or contradicts the sform is
        made from it. Nothing else is carried over: descriptions and extensions may name the patient.
        """
        header = blank_header(type(self.raw), geometry.shape)
        header["pixdim"][:4] = self.repaired["pixdim"][:4]
        header.set_xyzt_units(*self._units())
        if geometry.sform is not None:
            _copy(self.repaired, header, "sform_code", "srow_x", "srow_y", "srow_z")
        if geometry.qform is not None:
            _copy(self.repaired, header, "qform_code", "quatern_b", "quatern_c", "quatern_d")
            _copy(self.repaired, header, "qoffset_x", "qoffset_y", "qoffset_z")
        return with_both_forms(header, geometry)

    def _units(self) -> tuple[str, str]:
        try:
            space, time = self.raw.get_xyzt_units()
        except KeyError:
            return "unknown", "unknown"
        return space, time

    def _sform(self) -> Matrix | None:
        affine, code = self.repaired.get_sform(coded=True)
        return np.asarray(affine) if code else None

    def _qform(self) -> Matrix | None:
        try:
            affine, code = self.repaired.get_qform(coded=True)
        except (ValueError, HeaderDataError):
            return np.full((4, 4), np.nan)
        return np.asarray(affine) if code else None


def _copy(source: nib.Nifti1Header, target: nib.Nifti1Header, *fields: str) -> None:
    for field in fields:
        target[field] = source[field]


def _wrong_magic(start: bytes) -> Finding:
    if start.startswith(GZIP_MAGIC):
        return error("wrong-magic", "The file was compressed twice.", "Decompress it once with `gunzip`.")
    return error(
        "wrong-magic",
        "The content is not NIfTI, whatever the name says.",
        "Convert the scan to NIfTI, for instance with `dcm2niix` or `mrconvert`.",
    )


class _Recorder(logging.Handler):
    """Keeps log records instead of printing them."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self._records.append(record)


def _repair(raw: nib.Nifti1Header) -> tuple[nib.Nifti1Header, tuple[Finding, ...]]:
    """Let nibabel check and repair a copy; its errors are left to the checks of `layout`."""
    records: list[logging.LogRecord] = []
    logger = logging.Logger(__name__)  # outside the hierarchy: nothing reaches the user's logs,
    logger.manager = logging.Manager(logging.RootLogger(logging.DEBUG))  # nor does `logging.disable` reach it
    logger.addHandler(_Recorder(records))
    repaired = raw.copy()
    repaired.check_fix(logger=logger, error_level=logging.CRITICAL)
    kept = [record for record in records if record.levelno < logging.ERROR]
    return repaired, tuple(_repair_finding(record) for record in kept)


def _repair_finding(record: logging.LogRecord) -> Finding:
    message = f"The header had to be repaired: {record.getMessage()}."
    if record.levelno < logging.WARNING:
        return info("header-repaired", message)
    return warning("header-repaired", message, "Check the scan's position and orientation in a viewer.")
